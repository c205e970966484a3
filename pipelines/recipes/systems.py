"""The published chat systems as parameters of the instruct stage: what learns in which of two steps, and how fast.

What a model is made of and how it shows pictures is `models.sizes`; here stand freezing, batches, rates, decay, drop
path, context and lengths, from arXiv:2312.14238 (section 3.4), arXiv:2404.16821, arXiv:2410.16261, the model cards of
the organisation OpenGVLab and the scripts that came with them. What none of them gives is ours, and `ours` says so.
"""

from dataclasses import dataclass, replace
from typing import Literal

from models.composition import ChatPart, Size
from models.config import VisionConfig
from models.sizes import SIZES, find_size
from stages import export
from stages.chat_template import SYSTEM_MESSAGES
from stages.instruct_parameters import Parameters
from stages.training.schedule import Schedule

ALIGNED = "checkpoints/align"
PACKED_TOKENS, PACKED_TILES = 4_096, 8
"""Ours: what is computed at once at least, so that short conversations keep a GPU busy."""
Learns = Literal["connector", "vision, connector", "connector, language", "all"]


@dataclass(frozen=True)
class Lesson:
    """One training of a chat system."""

    learns: Learns
    samples: int
    batch: int
    rate: float
    decay: float
    drop_path: float
    context: int
    warmup_steps: int | None = None
    """3 % of all when left out."""
    ours: str = ""
    """What of it was not published."""

    def parameters(self, part: ChatPart, vision: VisionConfig) -> Parameters:
        """Return the stage's parameters for a system that shows its pictures in this way."""
        steps = max(2, self.samples // self.batch)
        return Parameters(
            encoder="checkpoints/generative" if part.connector == "two_mlp" else "checkpoints/contrastive",
            connector=part.connector,
            train_vision=self.learns in ("vision, connector", "all"),
            train_language=self.learns in ("connector, language", "all"),
            drop_path_rate=self.drop_path,
            most_layers=vision.num_hidden_layers,
            image_size=vision.image_size,
            downsample_ratio=part.downsample_ratio,
            ps_version=part.ps_version,
            select_layer=part.select_layer,
            max_dynamic_patch=part.max_dynamic_patch,
            template=part.template,
            system_message=SYSTEM_MESSAGES.get(part.template, ""),
            context_length=self.context,
            schedule=Schedule(
                global_batch_size=self.batch,
                steps=steps,
                learning_rate=self.rate,
                warmup_steps=round(0.03 * steps) if self.warmup_steps is None else min(self.warmup_steps, steps - 1),
                final_ratio=0.0,
                beta2=0.999,
                weight_decay=self.decay,
                precision="bf16",
            ),
        )


_MIXED = 4800 * 2048
"""Ours: samples of an alignment whose length was not published, in as many steps as 1.2's had."""
_LENGTH, _RATES = "length", "batch, rate, decay and length"
_V1_0 = (
    Lesson("connector", 558_000, 256, 1e-3, 0.0, 0.0, 2048),
    Lesson("connector, language", 665_000, 128, 2e-5, 0.0, 0.0, 2048),
)
_QLLAMA = (
    Lesson("connector", 4_000_000, 512, 1e-3, 0.0, 0.0, 2048, ours="rates and context: 1.0's"),
    Lesson("connector, language", 4_000_000, 512, 2e-5, 0.0, 0.0, 2048, ours="rates and context: 1.0's"),
)
_V1_1 = (
    Lesson("vision, connector", 72_000_000, 8192, 1e-5, 0.05, 0.2, 2048, 100, ours="rate, decay, drop path"),
    Lesson("connector, language", 6_000_000, 512, 1e-5, 0.05, 0.0, 2048, ours="batch, rate and decay: 1.2's"),
)
_V1_2_ALIGNED = Lesson("vision, connector", 4800 * 8192, 8192, 1e-5, 0.05, 0.2, 2048, 100, "rate, decay, drop path")
_V1_2 = (_V1_2_ALIGNED, Lesson("all", 1_267_819, 512, 1e-5, 0.05, 0.4, 2048))
_V1_2_PLUS = (_V1_2_ALIGNED, Lesson("all", 12_000_000, 512, 1e-5, 0.05, 0.4, 2048, ours="all but the length: 1.2's"))
_V1_5 = (
    Lesson("vision, connector", _MIXED, 2048, 1e-5, 0.05, 0.2, 4096, 100, _LENGTH),
    Lesson("all", 5_000_000, 1024, 2e-5, 0.05, 0.4, 4096),
)
_V1_5_PLUS = (Lesson("connector", _MIXED, 2048, 1e-4, 0.05, 0.0, 4096, 100, _LENGTH), _V1_5[1])
_MINI_2B = (
    Lesson("vision, connector", _MIXED, 2048, 2e-5, 0.01, 0.1, 4096, 100, _LENGTH),
    Lesson("all", 5_000_000, 1024, 4e-5, 0.01, 0.1, 8192),
)
_MINI_4B = (
    Lesson("connector", _MIXED, 2048, 2e-4, 0.05, 0.0, 4096, 100, _LENGTH),
    Lesson("all", 5_000_000, 1024, 4e-5, 0.05, 0.1, 8192),
)


def _second(aligned: Lesson, tuned: Lesson, learns: Learns) -> tuple[Lesson, Lesson]:
    """Return the lessons of an InternVL2: its freezing and context, and numbers of the 1.5 of its kind."""
    return (
        Lesson(
            learns, aligned.samples, aligned.batch, aligned.rate, aligned.decay, aligned.drop_path, 8192,
            aligned.warmup_steps, _RATES,
        ),
        Lesson("all", tuned.samples, tuned.batch, tuned.rate, tuned.decay, tuned.drop_path, 8192, ours=_RATES),
    )  # fmt: skip


_SMALLEST = _second(*_MINI_2B, "vision, connector")
_SMALL, _LARGE = _second(*_MINI_4B, "connector"), _second(*_V1_5_PLUS, "connector")
LESSONS: dict[str, tuple[Lesson, Lesson]] = {
    **dict.fromkeys(("InternVL-Chat-QLLaMA-7B", "InternVL-Chat-QLLaMA-13B"), _QLLAMA),
    **dict.fromkeys(
        ("InternVL-Chat-V1-0-7B", "InternVL-Chat-V1-0-13B", "InternVL-Chat-V1-0-13B-448px"), _V1_0
    ),
    "InternVL-Chat-V1-1": _V1_1,
    "InternVL-Chat-V1-2": _V1_2,
    "InternVL-Chat-V1-2-Plus": _V1_2_PLUS,
    "InternVL-Chat-V1-5": _V1_5,
    "InternVL-Chat-V1-5-Plus": _V1_5_PLUS,
    "Mini-InternVL-Chat-2B-V1-5": _MINI_2B,
    "Mini-InternVL-Chat-4B-V1-5": _MINI_4B,
    **dict.fromkeys(("InternVL2-1B", "InternVL2-2B"), _SMALLEST),
    **dict.fromkeys(("InternVL2-4B", "InternVL2-8B"), _SMALL),
    **dict.fromkeys(("InternVL2-26B", "InternVL2-40B", "InternVL2-Llama3-76B"), _LARGE),
}  # fmt: skip
"""Of every chat system: alignment, and then instruction tuning."""


def lessons_of(name: str) -> tuple[Parameters, Parameters]:
    """Return a system's two trainings, by its name; the second goes on from `checkpoints/align`.

    Ours: no context is longer than the language model has positions. InternVL2-40B alone differs, whose Yi-34B reads
    4,096 tokens of the 8,192.

    Raises:
        ValueError: No system of this name was published.
    """
    size = _size(name)
    assert size.chat is not None and size.vision is not None and size.language is not None
    positions = size.language.shape.max_position_embeddings
    lessons = (replace(each, context=min(each.context, positions)) for each in LESSONS[size.name])
    first, second = (lesson.parameters(size.chat, size.vision) for lesson in lessons)
    return first, second.model_copy(update={"start": ALIGNED})


def _size(name: str) -> Size:
    size = find_size(name)
    if size is None or size.name not in LESSONS:
        raise ValueError(f"no chat system is called {name!r}; known are {', '.join(LESSONS)}")
    return SIZES[size.name]


def room_of(name: str) -> dict[str, int]:
    """Return packs that hold every conversation of a system's two trainings.

    A conversation is cut at the context, and one whose pictures do not fit into it is left out: so many tiles there
    can be and no more, whatever limit of its own a source has.

    Raises:
        ValueError: No system of this name was published.
    """
    context = max(each.context_length for each in lessons_of(name))
    return {
        "max_packed_tokens": max(PACKED_TOKENS, context),
        "max_packed_tiles": max(PACKED_TILES, context // _size(name).image_tokens),
    }


def exports_of(chat: Parameters) -> tuple[export.Parameters, ...]:
    """Return what is exported: a chat model too, unless its connector is one of 2023, which no other code has."""
    kinds: tuple[Literal["contrastive", "instruct"], ...] = ("contrastive", "instruct")
    return tuple(export.Parameters(kind=kind) for kind in kinds[: 1 + (chat.connector == "unshuffle_mlp")])
