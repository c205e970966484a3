"""Every benchmark by name: where its data comes from, how it is measured, what the paper reports.

One YAML file per dataset lies in `benchmarks/`; this module gives them types and refuses what is wrong in them.
"""

from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.manifest import ManifestError

ProtocolName = Literal[
    "zero_shot_classification",
    "linear_probe",
    "segmentation",
    "retrieval",
    "video_classification",
    "video_retrieval",
    "captioning",
    "dialogue",
]
Format = Literal["folder", "webdataset", "karpathy", "vqa_json", "parquet", "segmentation_folders", "videos"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Reported(_Frozen):
    """One published number."""

    model: str = Field(description="InternVL-C, InternVL-G, InternViT-6B, or a chat system's published name.")
    metric: str = Field(description="Name of the measure, as our protocol calls it.")
    value: float = Field(description="In the unit of our measure: shares of 1, not percent.")
    source: str = Field(description="Where it is published: arXiv id and table, or the model card.")


class Row(_Frozen):
    """One way in which a dataset is measured."""

    protocol: ProtocolName
    settings: dict[str, Any] = Field(default_factory=dict, description="Of the protocol, as the paper used it.")
    language: str = "en"
    section: str = Field(default="", description="Where the paper describes it.")
    paper: tuple[Reported, ...] = ()


class NotMeasured(_Frozen):
    """A published number that none of our protocols gives, and why: it is listed, never imitated."""

    what: str = Field(description="The measurement, as it is published.")
    why: str
    paper: tuple[Reported, ...] = ()


class Reading(_Frozen):
    """What our readers have to be told about a dataset, where its layout leaves it open."""

    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Of a table: our word (image, label, class_name, caption, question, answer, options, category, "
        "mask, video, key, split) to the dataset's.",
    )
    where: dict[str, str] = Field(default_factory=dict, description="Of a table: only rows with these values.")
    text: Literal["captions", "class"] = Field(
        default="captions", description="Of an archive: what a .txt beside a picture or video says."
    )
    ignore: tuple[int, ...] = Field(default=(255,), description="Values of a mask that count nowhere.")
    first_class: int = Field(default=0, ge=0, description="Value of a mask that means class 0 (ADE20K: 1).")


class Benchmark(_Frozen):
    """One dataset and everything it is good for."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    title: str
    homepage: str = Field(description="Where people get it; nothing is fetched from there by us.")
    licence: str
    get: str = Field(description="What to fetch and how to lay it out, in one or two sentences.")
    formats: tuple[Format, ...] = Field(min_length=1, description="Layouts in which our readers know it.")
    examples: int | None = Field(default=None, gt=0, description="How many the published split has.")
    classes: int | None = Field(default=None, gt=1)
    sha256: str | None = Field(default=None, description="Digest of the whole split as our readers see it.")
    place: str = Field(default="", description="Where it lies below the data folder; its name when left out.")
    trained_on: str = Field(
        default="", description="Benchmark whose training split probes learn from, where this has none of its own."
    )
    class_names: tuple[str, ...] = Field(
        default=(), description="In the order of their labels, where data lack them."
    )
    reading: Reading = Reading()
    rows: tuple[Row, ...] = ()
    not_measured: tuple[NotMeasured, ...] = ()
    real_data: str = Field(default="", description="Of an own dataset: which real data its protocols were run on.")

    @model_validator(mode="after")
    def _says_something(self) -> "Benchmark":
        if not self.rows and not self.not_measured:
            raise ValueError("give rows (how it is measured) or not_measured (why it is not)")
        return self


def load_own(path: Path) -> Benchmark:
    """Return a dataset that a user describes in a YAML file of the same form as the benchmarks' files.

    Raises:
        ManifestError: There is no such file, or a field of it is wrong.
    """
    try:
        return Benchmark.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"the dataset's description {path} cannot be read ({error}); name a YAML file") from None
    except yaml.YAMLError as error:
        raise ManifestError(f"{path} is no YAML: {error}; see docs/reference/benchmarks.md for its form") from None
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'file'}: {each['msg']}" for each in error.errors())
        raise ManifestError(f"{path} describes no dataset: {wrong}; see docs/reference/benchmarks.md") from None


@cache
def benchmarks() -> dict[str, Benchmark]:
    """Return all benchmarks by name, in the order of their files' names.

    Raises:
        ValueError: A file is no valid benchmark, or is not named like it.
    """
    found: dict[str, Benchmark] = {}
    folder = files("stages.evaluations") / "benchmarks"
    for file in sorted(folder.iterdir(), key=lambda each: each.name):
        if not file.name.endswith(".yaml"):
            continue
        benchmark = Benchmark.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
        if file.name != f"{benchmark.name}.yaml":
            raise ValueError(f"{file.name} describes {benchmark.name!r}; name the file like the benchmark")
        found[benchmark.name] = benchmark
    return found


def benchmark(name: str) -> Benchmark:
    """Return one benchmark.

    Raises:
        ManifestError: None has this name; the message lists those that are near.
    """
    known = benchmarks()
    if name not in known:
        near = get_close_matches(name.lower(), known, 5, 0.5)
        meant = f"; did you mean {' or '.join(near)}?" if near else "."
        raise ManifestError(f"no benchmark is named {name!r}{meant} `internvl benchmarks` lists all")
    return known[name]
