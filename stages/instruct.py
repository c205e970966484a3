"""Teach the vision encoder and the language model to talk about pictures: the paper's third stage.

The encoder of the contrastive stage and the language model are joined by a small connector and
trained on conversations with the next-token loss on answers (arXiv:2312.14238, section 3.4). All
parts learn by default, as in the released models since 1.2; the paper itself kept the encoder frozen.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer
from torch import nn

from models.chat import InternVLChat
from models.config import ChatConfig
from models.cost import ConversationCost
from models.lora import adapters, merged
from models.renaming import State
from stages.adapters import DESCRIBED, Adapted, adapt
from stages.chat_assembly import assemble
from stages.chat_data import open_conversations
from stages.chat_measuring import readings
from stages.held_out import check_road, strangers
from stages.instruct_data import InstructBatches
from stages.instruct_parameters import Parameters
from stages.manifest import Manifest, ManifestError
from stages.materialize import difference
from stages.train_loop import train
from stages.training.balancing import ENDLESS, Room
from stages.training.task import Finished, Task, parameter_groups
from stages.workspace import Output, Workspace, read_file

__all__ = ["VERSION", "InstructTask", "Parameters", "freeze", "run"]

VERSION = 4


def freeze(chat: InternVLChat, parameters: Parameters) -> None:
    """Let only the chosen parts learn; encoder layers above the shown one have nothing to learn from.

    Of a tower with adapters only these learn. QLLaMA never does (arXiv:2312.14238, section 3.4).

    Raises:
        ManifestError: Nothing is left to learn.
    """
    chat.requires_grad_(False)
    ranks = {"vision": parameters.rank("vision"), "language": parameters.rank("language")}
    adapt(chat, **ranks, dropout=parameters.lora.dropout)
    if parameters.train_vision and not ranks["vision"]:
        chat.vision_model.requires_grad_()
    if parameters.train_language and not ranks["language"]:
        chat.language_model.requires_grad_()
    for part in chat.connector_parts().values():
        part.requires_grad_(parameters.train_connector)
    if chat.config.connector != "two_mlp":  # whose queries look at the last one
        layers = chat.vision_model.encoder.layers
        for layer in layers[range(len(layers) + 1)[parameters.select_layer] :]:
            layer.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in chat.parameters()):
        raise ManifestError("instruct trains nothing: set train_connector, train_language or train_vision to true")


class InstructTask:
    """Next-token prediction on the answers of conversations."""

    def __init__(
        self,
        parameters: Parameters,
        chat: InternVLChat,
        tokenizer: Tokenizer,
        data: InstructBatches,
        base: Manifest | None = None,
        room: Room = ENDLESS,
    ) -> None:
        """Split what is there into samples to train on and samples to measure on.

        Args:
            parameters: The stage's.
            chat: What learns.
            tokenizer: Its tokenizer.
            data: Conversations.
            base: Chat checkpoint that adapters are published without; where all weights are, none.
            room: What may be computed at once when it is measured.

        Raises:
            ManifestError: Too few conversations, or a mixture of others than there are.
        """
        self.parameters, self.chat, self.tokenizer, self.batches = parameters, chat, tokenizer, data
        self.base, self.room = base, room
        self.module: nn.Module = chat
        self.samples = data.divide(parameters.held_out_share, parameters.held_out, parameters.mixture)

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return what learns; the encoder may have a rate of its own."""
        scale = self.parameters.vision_learning_rate_scale
        return parameter_groups(
            self.chat.named_parameters(),
            weight_decay,
            lambda name: scale if name.startswith("vision_model.") else 1.0,
        )

    def finish(self) -> Finished:
        """Measure on the samples kept aside and return weights, shape and tokenizer; of adapters, the base's name."""
        weights, files = self._published()
        files |= {
            "config.json": self.chat.config.model_dump_json(indent=2).encode(),
            "tokenizer.json": self.tokenizer.to_str(pretty=True).encode(),
        }
        numbers = self.batches.aside
        metrics: dict[str, Any] = {"held_out": len(numbers), "left_out": self.batches.left_out}
        metrics |= self._measure(numbers, numbers)
        if shown := strangers(numbers, self.batches.told_by):
            # What is right with somebody else's picture was not seen, but guessed.
            blind = self._measure(list(shown), list(shown.values()))
            metrics |= {f"blind_{name}": value for name, value in blind.items()}
        return Finished(weights, files, metrics)

    def _published(self) -> tuple[State, dict[str, bytes]]:
        """Return all weights, adapters merged; or what the base lacks, and the file that names the base."""
        if self.base is None:
            return merged(self.chat), {}
        ranks = {"vision": self.parameters.rank("vision"), "language": self.parameters.rank("language")}
        adapted = Adapted(base=self.base.ref, digest=self.base.digest, **ranks)
        return adapters(self.chat), {DESCRIBED: adapted.described()}

    def _measure(self, numbers: Sequence[int], pictures: Sequence[int]) -> dict[str, float]:
        """Return loss, share of tokens right and share of answers wholly right, given the right text so far."""
        pairs = zip(numbers, pictures, strict=True)
        examples = (self.batches.example(number, picture) for number, picture in pairs)
        bf16 = self.parameters.schedule.precision == "bf16"
        loss = 0.0
        counts: Counter[str] = Counter()
        for reading in readings(self.chat, examples, self.room, bf16=bf16):
            loss += float(reading.losses.sum())
            answers = reading.answers_right
            counts["tokens"] += len(reading.right)
            counts["tokens_right"] += int(reading.right.sum())
            counts["answers"] += len(answers)
            counts["answers_right"] += sum(answers)
        found = {
            "held_out_loss": loss / counts["tokens"],
            "token_accuracy": counts["tokens_right"] / counts["tokens"],
            "answers_right": counts["answers_right"] / counts["answers"],
        }
        return {name: round(value, 4) for name, value in found.items()}


def base_of(parameters: Parameters, chat: InternVLChat, here: Workspace) -> Manifest | None:
    """Return the chat checkpoint without which adapters are nothing; None where a whole model is published.

    Raises:
        ManifestError: There is no base to name, or what learns is not just the base.
    """
    lora = parameters.lora
    if lora.merge or not (parameters.rank("vision") or parameters.rank("language")):
        return None
    if parameters.start is None:
        raise ManifestError(
            "lora.merge false publishes adapters alone, and what they belong to is joined here anew; set "
            "instruct.start to a chat checkpoint, or lora.merge to true"
        )
    base = here.input(parameters.start)
    then = ChatConfig.model_validate_json(read_file(here.store, base, base.parts[0].files["config"]))
    lines = difference(_shape(then), _shape(chat.config))
    if lines:
        raise ManifestError(
            f"adapters alone fit {base.ref} as it is, and instruct changes {'; '.join(lines)}; set lora.merge to true"
        )
    return base


def _shape(config: ChatConfig) -> dict[str, Any]:
    free = {"drop_path_rate"}
    return {"vision": config.vision.model_dump(exclude=free), "text": config.text.model_dump()}


def build(parameters: Parameters, here: Workspace) -> Task:
    """Return what is trained, and on what."""
    check_road(parameters.held_out_share, here.inputs.values())
    chat, tokenizer = assemble(parameters, here)
    base = base_of(parameters, chat, here)
    freeze(chat, parameters)
    if not (artifacts := here.all("conversations")):
        raise ManifestError("instruct needs conversations and was given none; run stage conversations first")
    data = [open_conversations(here, each, tokenizer, chat.config) for each in artifacts]
    adapted = parameters.rank("vision") or parameters.rank("language")
    batches = InstructBatches(
        data,
        chat.config.eos_token_id,
        cost=ConversationCost.of(
            chat.config, vision_learns=parameters.train_vision, language_learns=parameters.train_language
        ),
        reduction=parameters.loss_reduction,
        seed=parameters.schedule.seed,
        sample_noise=bool(adapted and parameters.lora.dropout),
        blind=parameters.blind,
    )
    room = Room.of(here.placement)
    batches.check_room(room)
    return InstructTask(parameters, chat, tokenizer, batches, base, room)


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Train the chat model."""
    return train(build, parameters, output, here)
