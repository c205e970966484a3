"""Which pairs of picture and caption the generative stage has to judge: right ones, and wrong ones that look right.

Each picture is judged with one caption: its own, any other, or one that the frozen towers find likely. With
`paired` it is judged with its own besides, and with `pictures` each caption is judged once more, with a wrong picture
that looks right. All of it is decided by numbers that come with the rows, so neither processes nor micro
batches change who is judged with whom.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from models.losses import gather
from models.mining import NONE, draw, fetch_rows, rank, send_rows

OWN, OTHER, MINED = 0, 1, 2
"""What `judged` in a batch says of a row's caption: its own, the other one that came along, a mined one."""
GIVEN = ("itm_input_ids", "itm_attention_mask", "itm_labels")


@dataclass(frozen=True)
class Pairs:
    """Pictures and captions to be judged; the first are the rows themselves."""

    pictures: Int[Tensor, " pairs"]
    """Which row's picture."""
    input_ids: Int[Tensor, "pairs tokens"]
    attention_mask: Int[Tensor, "pairs tokens"]
    labels: Int[Tensor, " pairs"]
    """1 where both belong together."""

    @classmethod
    def of(cls, context: Mapping[str, Tensor]) -> "Pairs":
        """Read the pairs of some rows off what `Negatives.choose` or a batch says about them."""
        ids, mask, labels = (context[name] for name in GIVEN)
        pictures = torch.arange(len(ids), device=ids.device)
        if "sent_input_ids" not in context:
            return cls(pictures, ids, mask, labels)
        row, place = context["sent_attention_mask"].any(dim=2).nonzero(as_tuple=True)
        sent = (context[f"sent_{name}"][row, place] for name in ("input_ids", "attention_mask", "labels"))
        both = (torch.cat(each) for each in zip((ids, mask, labels), sent, strict=True))
        return cls(torch.cat([pictures, row]), *both)


class Negatives:
    """Chooses the pairs of a step."""

    def __init__(self, scale: float, *, pictures: bool = False, paired: bool = False) -> None:
        """Sharpen similarities by `scale`; see above for `pictures` and `paired`."""
        self.scale, self.pictures, self.paired = scale, pictures, paired

    @property
    def verdicts(self) -> int:
        """How many pairs are judged for each row."""
        return 1 + self.pictures + self.paired

    def features(self, batch: Mapping[str, Tensor], tokens: int) -> dict[str, Tensor]:
        """Return what choosing reads of a batch, by row and of a fixed width.

        Args:
            batch: `judged`, one of OWN, OTHER, MINED by row; `uniform`, numbers in [0, 1), shape (rows, 2);
                `image_id`; and `caption_*`, `other_*`: texts as ids, mask and `id`, the same for equal captions.
                Or the pairs themselves, under the names of GIVEN.
            tokens: Width to which captions are padded.
        """
        ids = {name: batch[name] for name in ("image_id", "caption_id") if name in batch}
        if GIVEN[0] in batch:
            texts = {name: _widened(batch[name], tokens) for name in GIVEN[:2]}
            return ids | texts | {GIVEN[2]: batch[GIVEN[2]]}
        own, other = (_letter(batch, name, tokens) for name in ("caption", "other"))
        return ids | {"caption": own, "other": other, "judged": batch["judged"], "uniform": batch["uniform"]}

    @torch.no_grad()
    def choose(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the pairs by row, as `Pairs.of` reads them; all processes call it together.

        Args:
            features: What `features` returned, and `image`, `text`: vectors of the frozen towers.
        """
        if GIVEN[0] in features:
            return {name: features[name] for name in GIVEN}
        own, judged = features["caption"], features["judged"]
        text, image = gather(features["text"].detach()), gather(features["image"].detach())
        captions, pictures = gather(features["caption_id"]), gather(features["image_id"])
        # Neither an equal caption nor another caption of the same picture is wrong.
        allowed = (features["caption_id"][:, None] != captions) & (features["image_id"][:, None] != pictures)

        likely = draw(self._scores(features["image"], text), allowed, features["uniform"][:, 0])
        mined = fetch_rows(own, likely.clamp(min=0))
        chosen = torch.where((judged == OWN)[:, None], own, features["other"])
        chosen = torch.where(((judged == MINED) & (likely != NONE))[:, None], mined, chosen)
        found = dict(zip(GIVEN, (*_read(chosen), (chosen[:, 0] == own[:, 0]).long()), strict=True))
        sent = []
        if self.paired:
            sent.append(own[:, None])
        if self.pictures:
            looks_right = draw(self._scores(features["text"], image), allowed, features["uniform"][:, 1])
            sent.append(_send(own, looks_right))
        return found | (_laid(own, torch.cat(sent, dim=1)) if sent else {})

    def _scores(
        self, rows: Float[Tensor, "rows embed_dim"], everyone: Float[Tensor, "all_rows embed_dim"]
    ) -> Float[Tensor, "rows all_rows"]:
        """Return scaled similarities in double precision: the same draws however rows lie in products."""
        return self.scale * rows.double() @ everyone.double().T


def _send(own: Int[Tensor, "rows letter"], to: Int[Tensor, " rows"]) -> Int[Tensor, "rows arrived letter"]:
    """Send captions to the pictures they are to be judged with, and lay them out by picture; empty where fewer came.

    A caption for which there is no wrong picture is judged with its own.
    """
    rows = len(own)
    itself = torch.arange(rows, device=own.device) + rows * rank()
    letters, at = send_rows(own, torch.where(to == NONE, itself, to), rows)
    order, arrived = at.argsort(stable=True), torch.bincount(at, minlength=rows)
    first = arrived.cumsum(dim=0) - arrived
    at, letters = at[order], letters[order]
    place = torch.arange(len(at), device=at.device) - first[at]
    laid = own.new_zeros(rows, max(1, int(arrived.max())), own.shape[1])
    laid[at, place] = letters
    return laid


def _laid(own: Int[Tensor, "rows letter"], sent: Int[Tensor, "rows some letter"]) -> dict[str, Tensor]:
    """Return further captions by picture, as `Pairs.of` reads them."""
    ids, mask = _read(sent)
    labels = (sent[..., 0] == own[:, :1]).long()
    return {"sent_input_ids": ids, "sent_attention_mask": mask, "sent_labels": labels}


def _letter(batch: Mapping[str, Tensor], name: str, tokens: int) -> Int[Tensor, "rows 2+{tokens}"]:
    """Return captions as they travel: what names them, their length, their tokens."""
    mask = batch[f"{name}_attention_mask"]
    ids = _widened(batch[f"{name}_input_ids"] * mask, tokens)
    return torch.cat([batch[f"{name}_id"][:, None], mask.sum(dim=1, keepdim=True), ids], dim=1)


def _read(letters: Int[Tensor, "*rows letter"]) -> tuple[Int[Tensor, "*rows tokens"], Int[Tensor, "*rows tokens"]]:
    """Return ids and mask of captions."""
    ids = letters[..., 2:]
    return ids, (torch.arange(ids.shape[-1], device=ids.device) < letters[..., 1:2]).long()


def _widened(ids: Int[Tensor, "rows _"], tokens: int) -> Int[Tensor, "rows {tokens}"]:
    return F.pad(ids, (0, tokens - ids.shape[1]))
