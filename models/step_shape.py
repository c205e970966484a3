"""What one process computes at once in a training, and of which model: by it memory is traced and steps are tried."""

from dataclasses import dataclass, replace
from typing import Any

from models.config import ChatConfig, InternVLConfig, TextConfig
from models.memory_blocks import FLOAT, How, contrastive_blocks
from models.memory_stages import Conversations, chat_blocks, generative_blocks, language_blocks
from models.memory_walk import Section


@dataclass(frozen=True)
class Shape:
    """What one process computes at once, and of which model; hashable, so that equal ones are traced once."""

    stage: str
    towers: InternVLConfig | None = None
    text: TextConfig | None = None
    chat: ChatConfig | None = None
    tokens: int = 0
    """Of a row; of packs, as many as one may hold."""
    kept: int | None = None
    """Patches that are seen of a picture where others are masked."""
    tiles: int = 0
    """Of a row."""
    length: int = 0
    """Most tokens of one conversation in a pack."""
    text_learns: bool = True
    vision_learns: bool = True
    paired: bool = True
    """Each picture is judged with its own caption besides another one."""
    image_negatives: bool = False
    packed: bool = False
    """Rows are packs, each as full as the placement allows; a process computes them one after the other."""
    stays: int = 0
    """Bytes that stay from step to step."""

    @property
    def verdicts(self) -> int:
        """Return how many pairs are judged of each row."""
        return 1 + self.paired + self.image_negatives

    def sections(self, rows: int, how: How, everyone: int) -> list[Section]:
        """Return the blocks of a step that computes so many rows at once."""
        if self.stage == "language":
            assert self.text is not None
            return language_blocks(self.text, rows, self.tokens, how)
        if self.chat is not None:
            tiles = max(1, rows * self.tiles)
            learned = max(rows, rows * self.tokens - tiles * self.chat.num_image_token)
            talk = Conversations(rows, self.tokens, tiles, learned, self.vision_learns, self.text_learns)
            return chat_blocks(self.chat, talk, how)
        assert self.towers is not None
        if self.stage == "generative":
            verdicts = self.verdicts
            return generative_blocks(self.towers, rows, self.tokens, how, verdicts=verdicts, everyone=everyone)
        return contrastive_blocks(
            self.towers, rows, self.tokens, how, kept=self.kept, text_learns=self.text_learns, everyone=everyone
        )

    def picture_bytes(self) -> int:
        """Return the bytes of one row's pictures on the device, in float32."""
        vision = self.chat.vision if self.chat else self.towers.vision if self.towers else None
        if vision is None:
            return 0
        patch = vision.num_channels * vision.patch_size**2 * 4
        return patch * (self.kept or vision.grid**2) * max(1, self.tiles)

    def seen_bytes(self) -> int:
        """Return the bytes that a row keeps through a step while others are computed: what frozen towers saw."""
        if self.stage != "generative" or self.towers is None:
            return 0
        return (self.towers.vision.grid**2 + 1) * self.towers.vision.hidden_size * FLOAT

    def sizes(self) -> dict[str, Any]:
        """Return it as plain values."""
        configs = ("towers", "text", "chat")
        told = {name: getattr(self, name) for name in configs}
        plain = {name: value for name, value in vars(self).items() if name not in configs}
        return {**plain, **{name: each and each.model_dump(mode="json") for name, each in told.items()}}

    def cut(self, layers: int) -> "Shape":
        """Return the same with at most so many layers in each tower: every product keeps its size."""

        def text(config: TextConfig) -> TextConfig:
            return config.model_copy(update={"num_hidden_layers": min(layers, config.num_hidden_layers)})

        def towers(config: InternVLConfig) -> InternVLConfig:
            few = min(layers, config.vision.num_hidden_layers)
            vision = config.vision.model_copy(update={"num_hidden_layers": few})
            return config.model_copy(update={"vision": vision, "text": text(config.text)})

        chat = self.chat
        if chat is not None:
            few = min(layers, chat.vision.num_hidden_layers)
            changed = {
                "vision": chat.vision.model_copy(update={"num_hidden_layers": few}),
                "text": text(chat.text),
                "towers": None if chat.towers is None else towers(chat.towers),
                "select_layer": -1,
            }
            chat = chat.model_copy(update=changed)
        return replace(
            self,
            towers=None if self.towers is None else towers(self.towers),
            text=None if self.text is None else text(self.text),
            chat=chat,
        )
