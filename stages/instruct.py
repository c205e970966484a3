"""Teach the vision encoder and the language model to talk about pictures: the paper's third stage.

The encoder of the contrastive stage and the language model are joined by a small connector and
trained on conversations with the next-token loss on answers (arXiv:2312.14238, section 3.4). All
parts learn by default, as in the released models since 1.2; the paper itself kept the encoder frozen.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer
from torch import Tensor, nn

from models.chat import InternVLChat
from models.config import ChatConfig, TextConfig, VisionConfig
from models.intern_vit import InternVisionModel
from models.renaming import below, fill
from stages.batches import open_samples
from stages.chat_data import Conversations
from stages.chat_template import CHAT_TOKENS, IGNORE, IMG_CONTEXT, SPECIAL_TOKENS, template_named
from stages.checkpoints import fetch
from stages.instruct_data import InstructBatches
from stages.manifest import Manifest, ManifestError
from stages.train_loop import train
from stages.training.order import Weight
from stages.training.schedule import Schedule
from stages.training.task import Finished, Task, parameter_groups
from stages.weight_files import open_weights
from stages.workspace import Output, Workspace

VERSION = 1
ROLES = ("system", "user", "assistant")


class Parameters(BaseModel):
    """What is joined, what learns, and the schedule; the defaults are those of the tiny recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train_vision: bool = True
    train_connector: bool = True
    train_language: bool = True
    vision_learning_rate_scale: float = Field(default=1.0, gt=0, description="Of the encoder, times the peak.")
    drop_path_rate: float = Field(default=0.0, ge=0, lt=1, description="Of the encoder while it learns.")
    image_size: int | None = Field(
        default=None,
        ge=1,
        description="Side of a tile; positions are interpolated. The contrastive stage's when left out.",
    )
    downsample_ratio: float = Field(default=0.5, gt=0, le=1)
    ps_version: Literal["v1", "v2"] = "v2"
    select_layer: int = Field(default=-1, description="Hidden state of the encoder that is shown.")
    max_dynamic_patch: int = Field(default=1, ge=1, description="Most tiles per picture.")
    use_thumbnail: bool = True
    template: str = Field(default="Hermes-2", description="Hermes-2, internlm2-chat, internvl2_5, ...")
    system_message: str = Field(default="", description="Opens conversations that bring none of their own.")
    context_length: int = Field(default=512, ge=16, description="Most tokens; the right end is cut off.")
    held_out: int = Field(default=256, ge=1, description="Last samples of each artifact, never trained on.")
    mixture: tuple[Weight, ...] = Field(
        default=(), description="How much comes from which artifact below conversations/; all once when left out."
    )
    schedule: Schedule = Schedule(
        global_batch_size=64, steps=400, learning_rate=2e-3, warmup_steps=30, weight_decay=0.05
    )


def grow_tokenizer(tokenizer: Tokenizer, template: str) -> None:
    """Add what conversations need and the tokenizer does not know: turn marks, and the nine of every chat model.

    A tokenizer trained on captions would spell the role names letter by letter; as in any real
    one they become one token each.
    """
    if "<|im_end|>" in template_named(template).end:
        tokenizer.add_special_tokens([token for token in CHAT_TOKENS if tokenizer.token_to_id(token) is None])
    tokenizer.add_special_tokens([token for token in SPECIAL_TOKENS if tokenizer.token_to_id(token) is None])
    tokenizer.add_tokens([name for name in ROLES if len(tokenizer.encode(name, add_special_tokens=False).ids) > 1])


def grow_embeddings(weights: dict[str, Tensor], vocab_size: int) -> dict[str, Tensor]:
    """Return a language model's weights for a larger vocabulary; those given stay as they are.

    New output rows are the mean of the old ones, so that no new token begins as a likely answer;
    new input rows are drawn as at the start of training.
    """
    grown = dict(weights)
    given = weights["model.embed_tokens.weight"]
    added = vocab_size - given.shape[0]
    if added > 0:
        drawn = torch.normal(0.0, 0.02, (added, given.shape[1]))
        grown["model.embed_tokens.weight"] = torch.cat([given, drawn])
        head = weights["lm_head.weight"]
        grown["lm_head.weight"] = torch.cat([head, head.mean(dim=0, keepdim=True).expand(added, -1)])
    return grown


def check_view(parameters: Parameters, vision: VisionConfig) -> None:
    """Refuse what an encoder cannot show.

    Raises:
        ManifestError: Pictures do not divide into its patches, or it has no such hidden state.
    """
    size = parameters.image_size or vision.image_size
    if size % vision.patch_size:
        raise ManifestError(
            f"instruct.image_size {size} does not divide into the encoder's patches of {vision.patch_size}; "
            "choose a multiple"
        )
    states = vision.num_hidden_layers + 1
    if parameters.select_layer not in range(-states, states):
        raise ManifestError(
            f"instruct.select_layer is {parameters.select_layer} and the encoder has {states} hidden states; choose "
            f"one from {-states} to {states - 1}, -1 being the last"
        )


def assemble(parameters: Parameters, here: Workspace) -> tuple[InternVLChat, Tokenizer]:
    """Return the untrained chat model, its encoder and language model loaded, and its tokenizer.

    Raises:
        ManifestError: The encoder cannot show what is asked for.
    """
    language = fetch(here.store, here.input("checkpoints/language"), here.scratch / "language")
    contrastive = fetch(here.store, here.input("checkpoints/contrastive"), here.scratch / "contrastive")
    tokenizer = Tokenizer.from_file(str(language / "tokenizer.json"))
    grow_tokenizer(tokenizer, parameters.template)
    vocab_size = tokenizer.get_vocab_size()
    text = TextConfig.model_validate(json.loads((language / "config.json").read_text())["text"])
    vision = VisionConfig.model_validate(json.loads((contrastive / "config.json").read_text())["vision"])
    check_view(parameters, vision)
    encoder = InternVisionModel(vision)
    fill(encoder, below(open_weights(contrastive), "vision_model."), "the encoder")
    if parameters.image_size is not None:
        encoder.resize_position_embedding(parameters.image_size)
    rate = parameters.drop_path_rate if parameters.train_vision else 0.0
    config = ChatConfig(
        vision=encoder.config.model_copy(update={"drop_path_rate": rate}),
        text=text.model_copy(update={"vocab_size": max(vocab_size, text.vocab_size)}),
        downsample_ratio=parameters.downsample_ratio,
        ps_version=parameters.ps_version,
        select_layer=parameters.select_layer,
        image_context_token_id=tokenizer.token_to_id(IMG_CONTEXT),
        eos_token_id=text.eos_token_id,
        template=parameters.template,
        system_message=parameters.system_message,
        context_length=parameters.context_length,
        max_dynamic_patch=parameters.max_dynamic_patch,
        use_thumbnail=parameters.use_thumbnail,
    )
    chat = InternVLChat(config)
    chat.vision_model.load_state_dict(encoder.state_dict())
    spoken = dict(open_weights(language))
    chat.language_model.load_state_dict(grow_embeddings(spoken, config.text.vocab_size))
    return chat, tokenizer


def freeze(chat: InternVLChat, parameters: Parameters) -> None:
    """Let only the chosen parts learn; encoder layers above the shown one have nothing to learn from.

    Raises:
        ManifestError: Nothing is left to learn.
    """
    chat.vision_model.requires_grad_(parameters.train_vision)
    chat.mlp1.requires_grad_(parameters.train_connector)
    chat.language_model.requires_grad_(parameters.train_language)
    layers = chat.vision_model.encoder.layers
    shown = range(len(layers) + 1)[parameters.select_layer]
    for layer in layers[shown:]:
        layer.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in chat.parameters()):
        raise ManifestError("instruct trains nothing: set train_connector, train_language or train_vision to true")


class InstructTask:
    """Next-token prediction on the answers of conversations."""

    def __init__(
        self, parameters: Parameters, chat: InternVLChat, tokenizer: Tokenizer, data: InstructBatches
    ) -> None:
        """Split what is there into samples to train on and samples to measure on.

        Raises:
            ManifestError: Too few conversations, or a mixture of others than there are.
        """
        self.parameters, self.chat, self.tokenizer, self.batches = parameters, chat, tokenizer, data
        self.module: nn.Module = chat
        self.samples = data.sources(parameters.held_out, parameters.mixture)

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return what learns; the encoder may have a rate of its own."""
        scale = self.parameters.vision_learning_rate_scale
        return parameter_groups(
            self.chat.named_parameters(),
            weight_decay,
            lambda name: scale if name.startswith("vision_model.") else 1.0,
        )

    def finish(self) -> Finished:
        """Measure on the samples kept aside and return weights, shape and tokenizer."""
        files = {
            "config.json": self.chat.config.model_dump_json(indent=2).encode(),
            "tokenizer.json": self.tokenizer.to_str(pretty=True).encode(),
        }
        numbers = self.batches.held_out(self.parameters.held_out)
        metrics: dict[str, Any] = {"held_out": len(numbers), "left_out": self.batches.left_out}
        metrics |= self._measure(numbers, numbers)
        if len(numbers) > 1:
            # What is right with somebody else's picture was not seen, but guessed.
            metrics |= {f"blind_{k}": v for k, v in self._measure(numbers, numbers[1:] + numbers[:1]).items()}
        return Finished(self.chat.state_dict(), files, metrics)

    def _measure(self, numbers: Sequence[int], pictures: Sequence[int]) -> dict[str, float]:
        """Return loss, share of tokens right and share of answers wholly right, given the right text so far."""
        device = next(self.chat.parameters()).device
        loss = 0.0
        counts: Counter[str] = Counter()
        for start in range(0, len(numbers), 64):
            batch = self.batches.padded(numbers[start : start + 64], pictures[start : start + 64])
            batch = {name: value.to(device) for name, value in batch.items()}
            logits = self.chat.logits(batch["input_ids"], batch["attention_mask"], batch.get("pixel_values"))[:, :-1]
            wanted = batch["labels"][:, 1:]
            learned = wanted != IGNORE
            loss += float(nn.functional.cross_entropy(logits[learned].float(), wanted[learned], reduction="sum"))
            right = logits.argmax(dim=-1) == wanted
            counts["tokens"] += int(learned.sum())
            counts["tokens_right"] += int((right & learned).sum())
            # An answer is a run of learned tokens; its number in the row is how many runs began before.
            begins = learned & ~nn.functional.pad(learned[:, :-1], (1, 0))
            run = begins.cumsum(dim=1)
            for number in range(1, int(run.max()) + 1):
                place = learned & (run == number)
                asked = place.any(dim=1)
                counts["answers"] += int(asked.sum())
                counts["answers_right"] += int((asked & (right | ~place).all(dim=1)).sum())
        found = {
            "held_out_loss": loss / counts["tokens"],
            "token_accuracy": counts["tokens_right"] / counts["tokens"],
            "answers_right": counts["answers_right"] / counts["answers"],
        }
        return {name: round(value, 4) for name, value in found.items()}


def _build(parameters: Parameters, here: Workspace) -> Task:
    chat, tokenizer = assemble(parameters, here)
    freeze(chat, parameters)
    if not (artifacts := here.all("conversations")):
        raise ManifestError("instruct needs conversations and was given none; run stage conversations first")
    data = [Conversations(open_samples(here, each), tokenizer, chat.config) for each in artifacts]
    batches = InstructBatches(data, chat.config.eos_token_id, parameters.context_length, parameters.schedule.seed)
    return InstructTask(parameters, chat, tokenizer, batches)


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Train the chat model."""
    return train(_build, parameters, output, here)
