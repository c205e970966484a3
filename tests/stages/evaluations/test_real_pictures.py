"""All protocols of the towers on real pictures, captions, judgements and videos, with a model that knows nothing."""

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from worlds import FakeSubject, ListedExamples, tiny_judge

from stages.evaluations import retrieval, video_classification, video_retrieval, zero_shot_classification
from stages.evaluations.prompt_sets import published_names
from stages.videos import sample_frames

DATA = Path(__file__).resolve().parents[4] / "shared/data"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")


@dataclass
class Clips(ListedExamples):
    """Videos, decoded when they are looked at."""

    videos: Sequence[bytes] = ()

    def pictures(self, number: int, frames: int = 1) -> list[Image.Image]:
        return sample_frames(self.videos[number], frames)


def rows(name: str, count: int) -> ListedExamples:
    table = pq.read_table(DATA / name).slice(0, count).to_pylist()
    names = sorted({(row["label"], row["class_name"]) for row in pq.read_table(DATA / name).to_pylist()})
    return ListedExamples(
        [[Image.open(io.BytesIO(row["image"]))] for row in table],
        classes=[each for _, each in names],
        labels=[row["label"] for row in table],
        names=[row["filename"] for row in table],
    )


def members(name: str) -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(DATA / name) as tar:
        for member in tar:
            key, _, ending = member.name.rpartition(".")
            file = tar.extractfile(member)
            found.setdefault(key, {})[ending] = file.read() if file else b""
    return found


def test_cifar_10_with_its_own_prompts() -> None:
    settings = zero_shot_classification.Settings()
    found = zero_shot_classification.run(
        FakeSubject(tiny_judge()), rows("cifar10-subset.parquet", 100), settings, "cifar_10"
    )
    assert len(found.facts["templates"]) == 18 and found.classes[0] == "airplane" and len(found.classes) == 10
    top1 = found.measures[0]
    assert top1.n == 100 and top1.chance == pytest.approx(0.1) and top1.low <= 0.3
    assert len(found.examples) == settings.shown and not found.notes[1:]


def test_a_thousand_classes_in_italian() -> None:
    settings = zero_shot_classification.Settings(language="it", templates=("una foto di {c}",))
    examples = rows("imagenet-1k-one-per-class.parquet", 10)
    found = zero_shot_classification.run(FakeSubject(tiny_judge(batch_size=64)), examples, settings, "imagenet_1k")
    assert found.classes == published_names("imagenet1k", "it")
    assert found.notes == ["990 of 1000 classes have no example; they can still be answered."]


@pytest.mark.parametrize("queries", [False, True])
def test_flickr_8k_with_what_people_think(queries: bool) -> None:
    photos = dict(sorted(members("flickr8k-photos.tar").items())[:60])
    examples = ListedExamples(
        [[Image.open(io.BytesIO(photo["jpg"]))] for photo in photos.values()],
        said=[json.loads(photo["json"])["captions"] for photo in photos.values()],
        names=list(photos),
    )
    settings = retrieval.Settings(
        queries=queries,
        judgements=DATA / "flickr8k-human-judgments.parquet",
        judged_captions=DATA / "captions-text.parquet",
    )
    found = retrieval.run(FakeSubject(tiny_judge(generative=True, batch_size=64)), examples, settings, "flickr8k")
    assert found.facts["captions"] == 300 and len(found.keys) == 60
    assert found.facts["judgements"]["judged"] == {"flickr8k-cf": 139, "flickr8k-expert": 21}
    for measure in found.measures:
        assert measure.chance is not None and measure.low <= measure.chance + 0.1 and abs(measure.value) < 0.6


def test_videos_by_their_frames() -> None:
    clips = sorted(members("videos.tar").items())
    labels = [clip["txt"].decode() for _, clip in clips]
    classes = sorted(set(labels))
    examples = Clips(
        [[] for _ in clips],
        classes=classes,
        labels=[classes.index(label) for label in labels],
        said=[[label] for label in labels],
        names=[key for key, _ in clips],
        videos=[clip.get("mp4") or clip["mkv"] for _, clip in clips],
    )
    subject = FakeSubject(tiny_judge())
    named = video_classification.run(subject, examples, video_classification.Settings(frames=2), "videos")
    assert named.measures[0].n == 9 and named.measures[2].name == "top1_top5_mean"
    ranked = video_retrieval.run(subject, examples, video_retrieval.Settings(frames=1, ks=(1, 5)), "videos")
    assert ranked.facts["dual_softmax"] and len(ranked.keys) == 9 and len(ranked.measures) == 5
