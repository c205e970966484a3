"""Zero-shot retrieval of texts by videos and of videos by texts, as the paper does it on MSR-VTT.

After the released script (arXiv:2312.14238, section 4.3): one or eight frames from the middles of equal parts,
squashed; the mean of their vectors as long as the model made them; scores weighed by dual softmax, which looks at all
queries at once and so is a switch.
"""

from pydantic import BaseModel, Field

from stages.evaluations.base import Examples, Outcome, Subject
from stages.evaluations.embedding import picture_vectors
from stages.evaluations.retrieval import RetrievalSettings, rank


class Settings(RetrievalSettings):
    """The paper's, where nothing else is given."""

    frames: int = Field(default=8, ge=1, description="Frames of each video, one from the middle of each equal part.")
    unit_frames: bool = Field(
        default=False,
        description="Give all frames the same length before their mean is taken; the released code does not.",
    )
    crop: bool = Field(
        default=False,
        description="Resize the short side of frames and cut out the middle; else squash them, as pictures are.",
    )
    dual_softmax: bool = Field(
        default=True, description="Weigh scores by each candidate's softmax over all queries, in both directions."
    )


def run(subject: Subject, examples: Examples, settings: BaseModel, benchmark: str) -> Outcome:
    """Rank texts for videos and videos for texts.

    Raises:
        ManifestError: The model is no InternVL-C or -G, or videos have no captions.
    """
    chosen = Settings.model_validate(settings)
    vectors = picture_vectors(
        subject,
        examples,
        crop=chosen.crop,
        queries=chosen.queries,
        frames=chosen.frames,
        unit_frames=chosen.unit_frames,
    )
    found = rank(subject, examples, vectors, chosen, benchmark, dual_softmax=chosen.dual_softmax, shown="video")
    shown = "cut to their middle" if chosen.crop else "squashed to a square"
    found.notes.append(
        f"Frames are {shown}: that is assumed, for the paper does not say it and the released script leaves it to a "
        "file beside the weights. Setting `crop` says which."
    )
    if chosen.dual_softmax:
        found.notes.append("Dual softmax looks at all queries at once: a rank here needs the whole benchmark.")
    return found
