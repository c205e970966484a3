"""Zero-shot video classification: the class whose prompts lie nearest to the mean of a video's frames.

The paper (arXiv:2312.14238, section 4.3) shows one frame from the centre or eight at equal distances, takes the mean
of their vectors, and reports top-1 and the mean of top-1 and top-5 on Kinetics. It does not say which prompts it
used; ours are three plain sentences, two of them about people, for most of Kinetics is what people do.
"""

from pydantic import BaseModel, Field

from stages.evaluations.base import Examples, Outcome, Subject
from stages.evaluations.embedding import picture_vectors
from stages.evaluations.prompt_sets import USUAL, resolve
from stages.evaluations.zero_shot_classification import ClassSettings, classify

PROMPTS = ("a video of {c}.", "a video of a person {c}.", "a photo of a person {c}.")


class Settings(ClassSettings):
    """The paper's, where nothing else is given."""

    frames: int = Field(default=8, ge=1, description="Frames of each video, one from the middle of each equal part.")
    unit_frames: bool = Field(
        default=False,
        description="Give all frames the same length before their mean is taken; the released code does not.",
    )


def run(subject: Subject, examples: Examples, settings: BaseModel, benchmark: str) -> Outcome:
    """Classify videos of which the classes are known.

    Raises:
        ManifestError: The model is no InternVL-C or -G, or classes lack names, prompts or labels.
    """
    chosen = Settings.model_validate(settings)
    vectors = picture_vectors(
        subject,
        examples,
        crop=True,
        queries=chosen.queries,
        frames=chosen.frames,
        unit_frames=chosen.unit_frames,
    )
    prompts = resolve(chosen, examples, benchmark, PROMPTS)
    found = classify(subject, examples, vectors, chosen, prompts, benchmark, with_mean=True)
    if prompts.templates_from == USUAL:
        found.notes.append("The paper does not say which prompts it used for videos; these are ours.")
    return found
