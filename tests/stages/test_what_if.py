"""What-if is what a rerun at those thresholds counts, whether the cube or the signals answer."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from judged_store import judge, judged_store, policy_of, store_signals

from filters.cube import Cube, cube_of
from filters.funnel import Funnel
from filters.policies import Policy, caption_quality
from infra.cluster import InlineCluster
from infra.storage import Store
from stages import workspace
from stages.judged_counts import counts_of
from stages.manifest import Manifest, ManifestError, load
from stages.ref import Ref
from stages.what_if import Answer, answer, changes_of, judged_of, paper_share


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return judged_store(Store(str(tmp_path_factory.mktemp("store"))), "laion_en")


def asked(store: Store, policy: str, wanted: dict[str, Any]) -> Answer:
    found = judged_of(load(store, Ref(name=f"verdicts/{policy}/laion_en", version="tiny")))
    return answer(store, found, changes_of(found, wanted))


def again(store: Store, policy: str, wanted: dict[str, Any], version: str) -> Manifest:
    plain = policy_of(policy, "laion_en").model_dump(mode="json")
    for path, value in wanted.items():
        rule, _, field = path.removeprefix("policy.").partition(".")
        next(each for each in plain["filters"] if each["kind"] == rule)[field] = value
    return judge(store, Policy.model_validate(plain), "laion_en", version, made_from="tiny")


def kept_uids(store: Store, manifest: Manifest) -> set[bytes]:
    found = set()
    for part in manifest.parts:
        table = workspace.read_table(store, manifest, part, "verdicts").to_pydict()
        found |= {uid for uid, mask in zip(table["uid"], table["reasons"], strict=True) if not mask}
    return found


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("caption_quality", {"length_units.min_units": 8}, "cube"),
    ("caption_quality", {"policy.length_units.min_units": 3, "completeness.min_function_words": 1}, "cube"),
    ("caption_quality", {"length_units.min_units": 3, "completeness.min_function_words": 4}, "cube"),
    ("caption_quality", {"keyword_stuffing.min_separators": 3, "caption_frequency.max_rows": 40}, "cube"),
    ("clean", {"clip_similarity.min_similarity": 0.5, "min_side.min_pixels": 1, "aspect.max_ratio": 10}, "cube"),
    ("caption_quality", {"length_units.min_units": 6.37}, "scan"),
    ("caption_quality", {"length_units.min_units": 8, "length_units.max_units": 12}, "scan"),
    ("caption_quality", {"length_units.min_units": 3, "letter_share.min_share": 0.62}, "scan"),
    ("clean", {"aspect.max_ratio": 7.25, "clip_similarity.min_similarity": 0.1}, "scan"),
]


@pytest.mark.parametrize(("policy", "wanted", "counted"), CASES)
def test_the_answer_is_what_a_rerun_finds(
    judged: Store, policy: str, wanted: dict[str, Any], counted: str, request: pytest.FixtureRequest
) -> None:
    found = asked(judged, policy, wanted)
    assert found.counted == counted and bool(found.read) == (counted == "scan") == bool(found.why)
    before = load(judged, Ref(name=f"verdicts/{policy}/laion_en", version="tiny"))
    after = again(judged, policy, wanted, request.node.callspec.id)
    old, new = kept_uids(judged, before), kept_uids(judged, after)
    assert (found.before, found.after) == (len(old), len(new)) == (before.totals["kept"], after.totals["kept"])
    assert (found.gained, found.lost) == (len(new - old), len(old - new))
    assert found.gained + found.lost > 0
    languages = Funnel.model_validate(after.totals["funnel"]).languages
    assert {name: (each.rows, each.after) for name, each in found.languages.items()} == languages
    assert sum(each.before for each in found.languages.values()) == found.before
    for path in wanted if len(wanted) == len(found.alone) else ():
        rule = path.removeprefix("policy.").partition(".")[0]
        alone = asked(judged, policy, {path: wanted[path]})
        assert found.alone[rule] == alone.after - alone.before
    assert found.after == found.before + sum(found.alone.values()) + found.together


def test_only_the_signals_in_question_are_read(judged: Store) -> None:
    found = asked(judged, "clean", {"aspect.max_ratio": 7.25})
    assert found.read == {"aspect": 360, "language": 360} and "7.25" in found.why
    assert set(asked(judged, "caption_quality", {"length_units.min_units": 6.1}).read) == {"caption", "language"}


def test_the_paper_stands_beside(judged: Store) -> None:
    assert asked(judged, "caption_quality", {"length_units.min_units": 8}).paper == pytest.approx(91 / 1940)
    assert paper_share("laion_en", "clean") == (1940 / 2320, "fetched, at least")
    assert paper_share("my_own", "clean")[0] is None


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"sparkle.min": 1}, "has no rule 'sparkle'; its rules are length_units"),
        ({"policy.length_units": 1}, "rule length_units has no ''; it has min_units, max_units"),
        ({"length_units.kind": "x"}, "rule length_units has no 'kind'"),
        ({"filename.x": 1}, "rule filename has no 'x'; it has none"),
        ({"length_units.min_units": -1}, "greater than or equal to 0"),
        ({"completeness.min_function_words": 2.5}, "valid integer"),
    ],
)
def test_what_is_not_there_is_named(judged: Store, wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        asked(judged, "caption_quality", wanted)


def test_other_artifacts_and_old_verdicts_are_refused(judged: Store) -> None:
    with pytest.raises(ManifestError, match="made by stage score; what-if asks verdicts"):
        judged_of(load(judged, Ref(name="signals/laion_en", version="tiny")))
    manifest = load(judged, Ref(name="verdicts/clean/laion_en", version="tiny"))
    with pytest.raises(ManifestError, match="no cube; run stage filter again: internvl rerun filter"):
        judged_of(manifest.model_copy(update={"totals": {}}))


def test_signals_that_were_made_anew_are_not_taken_for_the_old_ones(store: Store) -> None:
    judged_store(store, "coyo")
    found = judged_of(load(store, Ref(name="verdicts/clean/coyo", version="tiny")))
    for kind in ("signals", "pool"):
        store.remove(f"{kind}/coyo/tiny/manifest.json")
    store_signals(store, "coyo", parts=2)
    stop, other = ({"aspect.max_ratio": value} for value in (8, 7.25))
    assert answer(store, found, changes_of(found, stop)).counted == "cube"
    with pytest.raises(ManifestError, match=r"signals/coyo with digest .* no longer stands; only stops can be asked"):
        answer(store, found, changes_of(found, other))


class Workers(InlineCluster):
    """Makes parts in threads, begun in some other order, and gives them back as they end."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def map(self, work: Callable[[Any], Any], items: Iterable[Any], **_: Any) -> Iterator[Any]:
        ordered = sorted(
            items, key=lambda item: (hashlib.sha256(f"{item[0]} {self.workers}".encode()).digest(), item[0])
        )
        with ThreadPoolExecutor(self.workers) as pool:
            yield from pool.map(work, ordered)


@pytest.mark.parametrize("policy", [policy_of("clean", "laion_en"), caption_quality("laion_en")])
def test_any_number_of_workers_gives_the_same_bytes(
    tmp_path: Path, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "LIGHT_SECONDS", 0)
    digests, files = set(), set()
    for workers in (1, 2, 4):
        store = Store(str(tmp_path / str(workers)))
        store_signals(store, "laion_en", parts=5, size=40)
        manifest = judge(store, policy_of("clean", "laion_en"), "laion_en", cluster=Workers(workers))
        if policy.name != "clean":
            manifest = judge(store, policy, "laion_en", cluster=Workers(workers))
        digests.add(manifest.digest)
        names = [manifest.key(file) for file in manifest.files()]
        files.add(tuple((name, store.read(name)) for name in sorted([*names, manifest.ref.key("manifest.json")])))
    assert len(digests) == len(files) == 1


def test_one_part_or_many_give_the_same_counts(store: Store) -> None:
    judged_store(store, "laion_en")
    manifest = load(store, Ref(name="verdicts/caption_quality/laion_en", version="tiny"))
    parts = [counts_of(store.read(manifest.key(part.files["counts"]))) for part in manifest.parts]
    assert sum((cube_of(counted) for _, counted in parts), Cube()) == Cube.model_validate(manifest.totals["cube"])
    funnel = sum((some for some, _ in parts), Funnel())
    assert funnel == Funnel.model_validate(manifest.totals["funnel"])
    assert not any(part.facts for part in manifest.parts)
