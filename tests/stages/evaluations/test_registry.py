"""The registry of benchmarks: every file valid, numbers in their units, wrong descriptions refused."""

import importlib
from pathlib import Path

import pytest

from stages.evaluations import registry
from stages.evaluations.dialogue_kinds import KINDS
from stages.evaluations.registry import Benchmark, benchmark, benchmarks, load_own
from stages.manifest import ManifestError

OWN = sorted((Path(__file__).parent / "own").glob("*.yaml"))
TWENTY = [
    "cifar10",
    "cifar100",
    "mnist",
    "caltech101",
    "sun397",
    "fgvc_aircraft",
    "country211",
    "cars",
    "birdsnap",
    "dtd",
    "eurosat",
    "fer2013",
    "flowers",
    "food101",
    "gtsrb",
    "pets",
    "renderedsst2",
    "resisc45",
    "stl10",
    "voc2007",
]


def published(name: str, metric: str, model: str, **settings: object) -> float:
    rows = [row for row in benchmark(name).rows if settings.items() <= row.settings.items()]
    return next(each.value for row in rows for each in row.paper if (each.metric, each.model) == (metric, model))


def test_all_benchmarks_of_the_paper_are_there() -> None:
    known = benchmarks()
    assert {*TWENTY, "imagenet_1k", "objectnet", "xtd", "msrvtt", "nocaps", "ade20k", "vizwiz", "tiny_lvlm"} <= set(
        known
    )
    assert [row.language for row in known["imagenet_1k"].rows] == ["en", "zh", "ja", "ar", "it", "en"]
    mean = sum(published(name, "top1", "InternVL-C") for name in TWENTY) / 20
    # The paper's own mean over the twenty sets.
    assert mean == pytest.approx(0.781, abs=0.0006)


def test_numbers_agree_with_the_means_that_are_published_beside_them() -> None:
    six = [f"recall_at_{k}_{way}" for k in (1, 5, 10) for way in ("image_to_text", "text_to_image")]
    for names, model, mean in [
        (("coco", "flickr30k"), "InternVL-C", 0.866),
        (("coco", "flickr30k"), "InternVL-G", 0.888),
        (("coco_cn", "flickr30k_cn"), "InternVL-C", 0.890),
        (("coco_cn", "flickr30k_cn"), "InternVL-G", 0.909),
        (("flickr30k",), "InternVL-C, fine-tuned", 0.972),
        (("flickr30k",), "InternVL-G, fine-tuned", 0.976),
        (("flickr30k_cn",), "InternVL-C, fine-tuned", 0.962),
        (("flickr30k_cn",), "InternVL-G, fine-tuned", 0.964),
    ]:
        both = [published(name, metric, model) for name in names for metric in six]
        assert sum(both) / len(both) == pytest.approx(mean, abs=0.0006), (names, model)
    for row in benchmark("msrvtt").rows:
        given = {paper.metric: paper.value for paper in row.paper}
        shown = [metric.replace("image", "video") for metric in six]
        assert sum(given[metric] for metric in shown) / 6 == pytest.approx(given["mean_recall"], abs=0.0006)
    for queries, mean in ((False, 0.951), (True, 0.966)):
        languages = [
            row.paper[0].value for row in benchmark("xtd").rows if row.settings.get("queries", False) == queries
        ]
        assert len(languages) == 8 and sum(languages) / 8 == pytest.approx(mean, abs=0.0006)
    probes = [
        published(name, "top1", "InternViT-6B")
        for name in ("imagenet_1k", "imagenet_real", "imagenet_v2", "imagenet_a", "imagenet_r", "imagenet_sketch")
    ]
    assert sum(probes) / 6 == pytest.approx(0.825, abs=0.0006)


@pytest.mark.parametrize("name", list(benchmarks()))
def test_shares_are_shares_and_sources_are_told(name: str) -> None:
    for row in benchmark(name).rows:
        assert row.section and row.paper
        for each in row.paper:
            assert each.source and (
                each.metric.startswith("mme") or 0 < each.value <= (2 if each.metric == "cider" else 1)
            )
    for never in benchmark(name).not_measured:
        assert never.why and never.paper


@pytest.mark.parametrize("each", [*benchmarks().values(), *map(load_own, OWN)], ids=lambda each: each.name)
def test_settings_are_those_of_the_protocols(each: Benchmark) -> None:
    for row in each.rows:
        protocol = importlib.import_module(f"stages.evaluations.{row.protocol}")
        settings = protocol.Settings.model_validate(row.settings)
        # A row in another language says so to its protocol too, which has words of its own for each.
        assert getattr(settings, "language", row.language) == row.language
        if row.protocol == "dialogue" and row.paper:
            assert {paper.metric for paper in row.paper} == {KINDS[settings.kind].metric}
    if each.trained_on:
        assert benchmark(each.trained_on).classes


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(ManifestError, match="no benchmark is named 'imagenet1k'; did you mean imagenet_1k"):
        benchmark("imagenet1k")
    with pytest.raises(ManifestError, match=r"no benchmark is named 'zzz'. `internvl benchmarks` lists all"):
        benchmark("zzz")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: [", "is no YAML"),
        ("name: Upper\ntitle: x", "name: String should match pattern"),
        ("- 1", "describes no dataset"),
        ("name: a\ntitle: a\nhomepage: a\nlicence: a\nget: a\nformats: [folder]", "give rows"),
        ("name: a\ntitle: a\nhomepage: a\nlicence: a\nget: a\nformats: [zip]\nrows: []", "formats.0"),
        ("!!python/object/apply:os.system ['true']", "is no YAML"),
    ],
)
def test_a_wrong_description_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ManifestError, match=says):
        load_own(tmp_path / "own.yaml")


def test_a_description_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        load_own(tmp_path / "none.yaml")


def test_a_file_is_named_like_its_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "benchmarks").mkdir()
    text = OWN[0].read_text()
    (tmp_path / "benchmarks/other.yaml").write_text(text)
    monkeypatch.setattr(registry, "files", lambda _: tmp_path)
    with pytest.raises(ValueError, match="name the file like the benchmark"):
        benchmarks.__wrapped__()
