"""Measure a trained model on pictures that its stage was not trained on.

Scenes of the drawn world come in two splits: `iid` are new drawings of what training showed,
`unseen` show colour-shape pairs that were never drawn. A user's own pictures are measured on those
that no stage of the model was trained on (`stages.held_out`). Beside every number stand what guessing
gives, what the model says about another picture, and the 95 % interval over samples.
"""

import json
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.config import InternVLConfig
from models.internvl import InternVL
from stages.adapters import fetch_chat
from stages.chat import ChatSession
from stages.evaluation_drawn import contrastive, generative, instruct
from stages.evaluation_held_out import dialogue_held_out, towers_held_out
from stages.evaluation_report import Findings, markdown, render, totals
from stages.evaluation_retrieval import Judge
from stages.evaluation_world import worlds
from stages.held_out import FIELD
from stages.manifest import Ledger, Manifest, ManifestError, digest_of
from stages.pairs import Texts
from stages.sources.captions import LANGUAGES
from stages.weight_files import open_weights
from stages.workspace import Output, Workspace

VERSION = 5
DATA = {"contrastive": "shards/clean", "generative": "shards/caption_quality", "instruct": "conversations"}

NOTES = {
    "always": "Chance is guessing without learning: a random order or value, and for questions and captions always "
    "the commonest answer of these very samples. Blind is the model itself, looking at the picture of another "
    "sample. 'Above both' says whether the whole interval is. The interval is over samples of one trained model; "
    "another seed of training can differ by more.",
    "drawn": "iid: new drawings of contents that training showed, most of whose captions occur in training too. "
    "unseen: every scene has a colour-shape pair that was never drawn in training; only this split tests "
    "composition.",
    "aside": "Held out: no stage that trained this model was shown these pictures, nor any caption of them: what is "
    "kept aside is decided by a hash of the picture, the same in every stage. A copy that differs in one byte is "
    "another picture and may have been shown, and so may pictures to models that were trained elsewhere and taken "
    "over.",
}


class Parameters(BaseModel):
    """What is measured, and on how much."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["contrastive", "generative", "instruct"] = Field(
        description="Whose checkpoint is measured: `checkpoints/<kind>`, the stage's input."
    )
    scenes: int = Field(
        default=0, ge=0, description="Drawn scenes of each evaluation split, iid and unseen; 0 draws none."
    )
    held_out: int = Field(
        default=0,
        ge=0,
        description="Most samples that are measured on of those that no stage was trained on; the shards or "
        "conversations that the checkpoint was trained from are then an input too.",
    )
    languages: tuple[str, ...] = Field(default=LANGUAGES, min_length=1, description="Languages of drawn scenes.")
    image_size: int = Field(default=48, ge=16, description="Side of a drawn picture in pixels.")
    seed: int = Field(default=0, description="Seed of the drawn world.")
    batch_size: int = Field(default=192, ge=1)

    @model_validator(mode="after")
    def _something_to_measure(self) -> "Parameters":
        if 1 in (self.scenes, self.held_out) or not self.scenes + self.held_out:
            raise ValueError("give scenes >= 2 (drawn world) or held_out >= 2 (own pictures), or both")
        if unknown := [each for each in self.languages if each not in LANGUAGES]:
            raise ValueError(f"the drawn world is not described in {unknown[0]!r}; known are {', '.join(LANGUAGES)}")
        return self


def load_judge(folder: Path, batch_size: int, checkpoint: Manifest) -> Judge:
    """Return the InternVL-C or -G of a fetched checkpoint.

    Raises:
        ManifestError: It holds something else.
    """
    try:
        config = InternVLConfig.model_validate_json((folder / "config.json").read_bytes())
        model = InternVL.from_state(config, open_weights(folder))
    except ValueError as error:
        raise ManifestError(
            f"{checkpoint.ref} holds no InternVL-C or -G of this version ({str(error).splitlines()[0]}); "
            "train it again, or evaluate it with the version that trained it"
        ) from error
    return Judge(model, Texts.of(folder, config.context_length), batch_size)


def kept_aside(parameters: Parameters, checkpoint: Manifest, here: Workspace) -> tuple[Manifest, float]:
    """Return the data that is measured on, and the share of its pictures that was never trained on.

    Raises:
        ManifestError: The checkpoint was trained on other data, or keeps nothing aside by the rule of all stages.
    """
    trained = checkpoint.identity.get("parameters", {})
    data = here.input(trained.get("shards", DATA[parameters.kind]))
    if checkpoint.identity.get("inputs", {}).get(data.ref.name) != data.digest:
        raise ManifestError(
            f"{checkpoint.ref} was not trained on {data.ref}, so nothing of it was kept aside; "
            "evaluate with the version that it was trained on"
        )
    if not (share := trained.get(FIELD, 0.0)):
        raise ManifestError(
            f"{checkpoint.ref} tells of no {FIELD}: all pictures of {data.ref} were trained on, or it was trained by "
            f"an earlier version, which kept others aside; train it again with {FIELD} above 0"
        )
    return data, share


def _measure(parameters: Parameters, checkpoint: Manifest, here: Workspace) -> Findings:
    found = Findings()
    folder = fetch_chat(here.store, checkpoint, here.scratch / "checkpoint")
    drawn = worlds(parameters.scenes, parameters.seed, parameters.image_size) if parameters.scenes else []
    data = kept_aside(parameters, checkpoint, here) if parameters.held_out else None
    steps = len(drawn) + (data is not None)
    if parameters.kind == "instruct":
        session = ChatSession.from_folder(folder)
        for number, world in enumerate(drawn):
            here.progress(number, steps, "splits", world.split)
            instruct(session, world, parameters.languages, parameters.batch_size, found)
        if data is not None:
            here.progress(len(drawn), steps, "splits", "held out")
            dialogue_held_out(session, here, *data, parameters.held_out, found)
    else:
        judge = load_judge(folder, parameters.batch_size, checkpoint)
        work = contrastive if parameters.kind == "contrastive" else generative
        for number, world in enumerate(drawn):
            here.progress(number, steps, "splits", world.split)
            work(judge, world, parameters.languages, found)
        if data is not None:
            here.progress(len(drawn), steps, "splits", "held out")
            towers_held_out(judge, here, *data, parameters.held_out, found)
    here.progress(steps, steps, "splits")
    return found


def notes_for(parameters: Parameters) -> list[str]:
    """Return what a reader has to know before trusting the numbers."""
    found = [NOTES["always"]]
    if parameters.scenes:
        found.append(NOTES["drawn"])
    if parameters.held_out:
        found.append(NOTES["aside"])
    return found


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Measure a checkpoint; the same checkpoint gives the same numbers and the same page.

    Raises:
        ManifestError: The checkpoint cannot be read, or samples asked for were trained on.
    """
    if not torch.cuda.is_available():
        # Sums over one thread come in one order; on shared cores two threads are slower besides.
        torch.set_num_threads(1)
    checkpoint = here.input(f"checkpoints/{parameters.kind}")
    found = _measure(parameters, checkpoint, here)
    notes = notes_for(parameters)
    table = {"measures": [measure.row() for measure in found.measures], "notes": notes}
    part = output.part(
        "measures",
        digest_of({name: manifest.digest for name, manifest in here.inputs.items()}),
        Ledger(listed=found.judged, kept=found.judged),
        {"measures": ("measures.json", json.dumps(table, indent=1, sort_keys=True).encode())},
    )
    unit = "answers" if parameters.kind == "instruct" else "pictures"
    page = render(
        title=f"Evaluation of {checkpoint.ref}",
        judged=f"{found.judged:,} {unit} judged.",
        measures=found.measures,
        examples=found.examples,
        notes=notes,
        provenance={
            "evaluation": str(output.ref),
            "checkpoint": f"{checkpoint.ref} {checkpoint.digest}",
            **{f"trained from {name}": digest for name, digest in checkpoint.identity.get("inputs", {}).items()},
            "parameters": parameters.model_dump_json(),
        },
    )
    text = "\n\n".join([markdown(found.measures), *notes])
    numbers = {**totals(found.measures), "judged": found.judged, "markdown": text}
    return output.commit([part], totals=numbers, reports={"page": ("evaluation.html", page.encode())})
