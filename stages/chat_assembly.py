"""Join an encoder and a language model into a chat model that is ready to learn, or go on from an earlier one.

What a language model gets for it (new tokens, their rows, their order) is that of the official fine-tuning code.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from models.chat import InternVLChat
from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.intern_vit import InternVisionModel
from models.renaming import State, below, fill
from stages.adapters import fetch_chat
from stages.chat_template import IMG_CONTEXT, SPECIAL_TOKENS, marks_of, template_named
from stages.checkpoints import fetch
from stages.instruct_parameters import Parameters
from stages.manifest import ManifestError
from stages.weight_files import open_weights
from stages.workspace import Workspace

ROLES = ("system", "user", "assistant")
EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"
_CONNECTOR = ("mlp1.", "mlp2.", "mm_projector.", "query_tokens", "qllama.")
_QUERIES = ("query_tokens", "qllama.")


@dataclass(frozen=True)
class Parts:
    """What a chat model is made of, its weights left where they are."""

    vision: VisionConfig
    seen: State
    """Of the encoder."""
    text: TextConfig
    spoken: State
    """Of the language model."""
    tokenizer: Tokenizer
    own_tokenizer: bool
    """Whether it was trained here, on few words."""
    towers: InternVLConfig | None
    connector: State
    """What is there of the connector already: all, the queries and what they look with, or nothing."""


def grow_tokenizer(tokenizer: Tokenizer, template: str, own: bool = True) -> None:
    """Add what conversations need and the tokenizer does not know: turn marks, and the nine of every chat model.

    A tokenizer trained here on captions (`own`) would spell the role names letter by letter; there they become one
    token each, too.
    """
    for tokens in (marks_of(template_named(template)), SPECIAL_TOKENS):
        tokenizer.add_special_tokens([token for token in tokens if tokenizer.token_to_id(token) is None])
    if own:
        spelt = [name for name in ROLES if len(tokenizer.encode(name, add_special_tokens=False).ids) > 1]
        tokenizer.add_tokens(spelt)


def vocabulary(tokenizer: Tokenizer) -> int:
    """Return how many rows embeddings need: one more than the highest token."""
    return 1 + max(tokenizer.get_vocab().values())


def fit_embeddings(weights: Mapping[str, Tensor], known: int, vocab_size: int) -> dict[str, Tensor]:
    """Return a language model's weights for a larger vocabulary; those given stay as they are.

    As in the official code the tables have just as many rows as there are tokens: rows beyond, with which some
    published tables are filled up, go. New output rows are the mean of the known ones, so that no new token begins
    as a likely answer; new input rows are drawn as at the start of training, or those that filled up the table.

    Args:
        weights: Under LLaMA's names.
        known: How many tokens there were before.
        vocab_size: How many there are now.
    """
    fitted = dict(weights)
    if vocab_size == known and weights[EMBEDDINGS].shape[0] == vocab_size:
        return fitted
    given, head = weights[EMBEDDINGS], weights[HEAD]
    lacking = max(0, vocab_size - given.shape[0])
    drawn = torch.normal(0.0, 0.02, (lacking, given.shape[1])).to(given.dtype)
    fitted[EMBEDDINGS] = torch.cat([given[:vocab_size], drawn])
    mean = head[:known].float().mean(dim=0, keepdim=True).to(head.dtype)
    fitted[HEAD] = torch.cat([head[:known], mean.expand(vocab_size - known, -1)])
    return fitted


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


def check_context(parameters: Parameters, text: TextConfig) -> None:
    """Refuse conversations of more tokens than the language model has places for.

    Raises:
        ManifestError: There are more.
    """
    if parameters.context_length > text.max_position_embeddings:
        raise ManifestError(
            f"instruct.context_length is {parameters.context_length} and the language model reads "
            f"max_position_embeddings {text.max_position_embeddings} tokens; lower the first, or choose a language "
            "model that reads more"
        )


def _json(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "config.json").read_text())
    return found


def _joined(parameters: Parameters, here: Workspace) -> Parts:
    """Return the encoder of one checkpoint and the language model of another."""
    language = here.input("checkpoints/language")
    spoken = fetch(here.store, language, here.scratch / "language")
    seen = fetch_chat(here.store, here.input(parameters.encoder), here.scratch / "encoder")
    told, weights = _json(seen), open_weights(seen)
    towers: InternVLConfig | None = None
    queries: State = {}
    if parameters.connector == "two_mlp":
        if "query_tokens" not in weights:
            raise ManifestError(
                f"connector two_mlp shows the queries of QLLaMA and {parameters.encoder} has none; set "
                "instruct.encoder to checkpoints/generative"
            )
        towers = InternVLConfig.model_validate(told)
        queries = {name: weights[name] for name in weights if name.startswith(_QUERIES)}
    return Parts(
        vision=VisionConfig.model_validate(told["vision"]),
        # What is distilled is an encoder alone.
        seen=below(weights, "vision_model.") or weights,
        text=TextConfig.model_validate(_json(spoken)["text"]),
        spoken=open_weights(spoken),
        tokenizer=Tokenizer.from_file(str(spoken / "tokenizer.json")),
        own_tokenizer="pretrained" not in language.parts[0].facts,
        towers=towers,
        connector=queries,
    )


def _continued(start: str, parameters: Parameters, here: Workspace) -> Parts:
    """Return the parts of an earlier chat model.

    Raises:
        ManifestError: It is none, or shows pictures in another way.
    """
    folder = fetch_chat(here.store, here.input(start), here.scratch / "start")
    told = _json(folder)
    if "image_context_token_id" not in told:
        raise ManifestError(f"instruct.start {start} is no chat model; leave it out, or name what instruct made")
    config, weights = ChatConfig.model_validate(told), open_weights(folder)
    for name in ("connector", "downsample_ratio", "ps_version"):
        if getattr(config, name) != getattr(parameters, name):
            raise ManifestError(
                f"instruct.{name} is {getattr(parameters, name)} and {start} was trained with "
                f"{getattr(config, name)}; take its value"
            )
    return Parts(
        vision=config.vision,
        seen=below(weights, "vision_model."),
        text=config.text,
        spoken=below(weights, "language_model."),
        tokenizer=Tokenizer.from_file(str(folder / "tokenizer.json")),
        own_tokenizer=False,
        towers=config.towers,
        connector={name: weights[name] for name in weights if name.startswith(_CONNECTOR)},
    )


def _encoder(parameters: Parameters, parts: Parts) -> InternVisionModel:
    """Return the encoder with as many blocks and of the picture size that are wanted."""
    layers = min(parameters.most_layers or parts.vision.num_hidden_layers, parts.vision.num_hidden_layers)
    config = parts.vision.model_copy(update={"num_hidden_layers": layers})
    check_view(parameters, config)
    encoder = InternVisionModel(config)
    dropped = tuple(f"encoder.layers.{number}." for number in range(layers, parts.vision.num_hidden_layers))
    if not parameters.untrained_vision:
        fill(encoder, {name: parts.seen[name] for name in parts.seen if not name.startswith(dropped)}, "the encoder")
    if parameters.image_size is not None and parameters.image_size != config.image_size:
        encoder.resize_position_embedding(parameters.image_size)
    return encoder


def assemble(parameters: Parameters, here: Workspace) -> tuple[InternVLChat, Tokenizer]:
    """Return the chat model as it is before it learns, its encoder and language model loaded, and its tokenizer.

    Raises:
        ManifestError: Parts do not fit, the encoder cannot show what is asked for, or the language model cannot read
            as long a conversation.
    """
    start = parameters.start
    parts = _joined(parameters, here) if start is None else _continued(start, parameters, here)
    check_context(parameters, parts.text)
    tokenizer = parts.tokenizer
    known = vocabulary(tokenizer)
    grow_tokenizer(tokenizer, parameters.template, parts.own_tokenizer)
    encoder = _encoder(parameters, parts)
    rate = parameters.drop_path_rate if parameters.train_vision else 0.0
    config = ChatConfig(
        vision=encoder.config.model_copy(update={"drop_path_rate": rate}),
        text=parts.text.model_copy(update={"vocab_size": vocabulary(tokenizer)}),
        connector=parameters.connector,
        towers=parts.towers,
        downsample_ratio=parameters.downsample_ratio,
        ps_version=parameters.ps_version,
        select_layer=parameters.select_layer,
        image_context_token_id=tokenizer.token_to_id(IMG_CONTEXT),
        eos_token_id=parts.text.eos_token_id,
        template=parameters.template,
        system_message=parameters.system_message,
        context_length=parameters.context_length,
        max_dynamic_patch=parameters.max_dynamic_patch,
        use_thumbnail=parameters.use_thumbnail,
    )
    chat = InternVLChat(config)
    fill(chat.vision_model, encoder.state_dict(), "the encoder")
    spoken = fit_embeddings({name: parts.spoken[name] for name in parts.spoken}, known, config.text.vocab_size)
    fill(chat.language_model, spoken, "the language model")
    others = {name: value for name, value in chat.state_dict().items() if name.startswith(_CONNECTOR)}
    for name, value in parts.connector.items():
        others[name].copy_(value)
    return chat, tokenizer
