"""BLEU, CIDEr, ROUGE-L and METEOR of written captions, as COCO's evaluation has them (arXiv:1504.00325).

The scorers are pycocoevalcap's. Three of them are Python; METEOR is a Java program and is left out where there is no
Java. SPICE is not measured: besides Java it needs models that pycocoevalcap fetches from the web at first use, and
the paper does not report it.
"""

import shutil
from collections.abc import Sequence

import numpy as np
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge

from stages.evaluation_metrics import Floats
from stages.evaluations.caption_tokens import words
from stages.evaluations.composed import Number, mean_number

ORDERS = 4
CIDER_MOST = 10.0
"""CIDEr-D is ten times a mean cosine."""
_SMALL, _TINY = 1e-9, 1e-15
"""What BLEU's reference adds below and above, so that nothing is divided by 0."""
Captions = Sequence[str]


class Scored:
    """Captions beside those that people wrote of the same pictures, as tokens."""

    def __init__(self, written: Captions, right: Sequence[Captions], language: str) -> None:
        """Split all texts into tokens.

        Args:
            written: One caption per picture.
            right: Those of people, one or more per picture.
            language: Of all of them; see `words`.
        """
        self._written = {number: [" ".join(words(each, language))] for number, each in enumerate(written)}
        self._right = {
            number: [" ".join(words(caption, language)) for caption in each] for number, each in enumerate(right)
        }

    def numbers(self, program: Meteor | None) -> list[Number]:
        """Return all numbers, CIDEr first, and METEOR's only where there is its program (`meteor_program`)."""
        found = [self.cider(), *self.bleu(), self.rouge()]
        return found if program is None else [*found, self.meteor(program)]

    def cider(self) -> Number:
        """Return CIDEr-D (arXiv:1411.5726), the mean of one value per picture.

        How rare words are is counted once, over the people's captions of all these pictures: a resample of pictures
        weighs their values and counts nothing anew.
        """
        _, scores = Cider().compute_score(self._right, self._written)
        return mean_number("cider", np.asarray(scores, dtype=np.float64))._replace(most=CIDER_MOST)

    def rouge(self) -> Number:
        """Return ROUGE-L, the mean of one value per picture."""
        _, scores = Rouge().compute_score(self._right, self._written)
        return mean_number("rouge_l", np.asarray(scores, dtype=np.float64))

    def bleu(self) -> list[Number]:
        """Return BLEU of 4-grams first, then of shorter ones: of counts over all pictures, no mean over them."""
        scorer = BleuScorer(n=ORDERS)
        for number, (text,) in self._written.items():
            scorer += (text, self._right[number])
        rows = []
        for counts in scorer.ctest:
            length = counts["testlen"]
            # Of the people's captions the one whose length is nearest says how long a caption should be.
            wanted = min((abs(each - length), each) for each in counts["reflen"])[1]
            rows.append([*counts["correct"], *counts["guess"], length, wanted])
        parts = np.array(rows, dtype=np.float64)

        def of(order: int, means: Floats) -> Floats:
            # The reference's small numbers are for sums, not for means.
            sums = means * len(parts)
            precisions = (sums[..., :order] + _TINY) / (sums[..., ORDERS : ORDERS + order] + _SMALL)
            ratio = (sums[..., -2] + _TINY) / (sums[..., -1] + _SMALL)
            brevity = np.exp(np.minimum(0.0, 1 - 1 / ratio))
            return np.asarray(precisions.prod(axis=-1) ** (1 / order) * brevity)

        return [
            Number(f"bleu_{order}", parts, lambda means, order=order: of(order, means))  # type: ignore[misc]
            for order in range(ORDERS, 0, -1)
        ]

    def meteor(self, program: Meteor) -> Number:
        """Return METEOR 1.5.

        The number is of counts over all pictures; its interval is that of the mean over pictures, moved to it.
        """
        whole, scores = program.compute_score(self._right, self._written)
        values = np.asarray(scores, dtype=np.float64)
        moved = float(whole) - values.mean()
        return Number("meteor", values[:, None], lambda means: means[..., 0] + moved)


def meteor_program(language: str) -> Meteor | None:
    """Start METEOR, whose paraphrases take some seconds and 2 GB; None without Java, and for all but English."""
    return Meteor() if language == "en" and shutil.which("java") else None
