"""Every benchmark by name: where its data comes from, how it is measured, what the paper reports.

One YAML file per dataset lies in `benchmarks/`; this module gives them types and refuses what is wrong in them.
"""

from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

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
    rows: tuple[Row, ...] = Field(min_length=1)


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
        near = [each for each in known if name.lower()[:4] in each] or list(known)
        raise ManifestError(
            f"no benchmark is named {name!r}; did you mean {', '.join(near[:8])}? `internvl benchmarks` lists all"
        )
    return known[name]
