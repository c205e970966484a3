"""Instruction data: what is asked, what is refused and why, and that the bytes are always the same."""

import io
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError
from training_data import make_shards

from infra.cluster import Cluster, InlineCluster
from infra.storage import Store
from stages import conversations
from stages.batches import ShardedSamples
from stages.conversations import Parameters
from stages.manifest import Ledger, Manifest, ManifestError, digest_of
from stages.prompts import DESCRIBE
from stages.ref import Ref
from stages.sources.captions import LANGUAGES, caption
from stages.sources.questions import LOOKUP, ask, questions
from stages.sources.scenes import FIRST_OF_CONVERSATIONS, UNSEEN_PAIRS, Scene, Split, sample_scene
from stages.tars import read_tar, tar_bytes
from stages.workspace import Output, Workspace


def run(store: Store, tmp_path: Path, cluster: Cluster | None = None, version: str = "t", **given: Any) -> Manifest:
    parameters = Parameters.model_validate(given)
    output = Output(store, Ref(name="conversations", version=version), "conversations", parameters.model_dump())
    inputs = given.get("captions") and {"shards/caption_quality": shards_of(store)}
    here = Workspace(store=store, cluster=cluster or InlineCluster(), scratch=tmp_path, inputs=inputs or {})
    return conversations.run(parameters, output, here)


def shards_of(store: Store) -> Manifest:
    return make_shards(store, "shards/caption_quality", samples=12, rows_per_shard=8)


def samples_of(store: Store, manifest: Manifest, tmp_path: Path) -> ShardedSamples:
    return ShardedSamples(store, manifest, tmp_path / manifest.ref.version)


def asked_for(asked: str, answer: str, scene: Scene, language: str) -> str:
    """Return the kind of a question that names an object; it must be answered as the scene has it."""
    drawn = (ask(scene, language, kind, random.Random(n)) for n in range(400) for kind in ("exists", LOOKUP))
    found = next(each for each in drawn if each.question == asked)
    assert found.answer == answer
    return found.kind


def test_scenes_are_described_and_asked_about_in_three_languages(store: Store, tmp_path: Path) -> None:
    made = run(store, tmp_path, scenes=60, rows_per_shard=25)
    assert [part.key for part in made.parts] == ["scenes-000000", "scenes-000001", "scenes-000002"]
    assert made.ledger == Ledger(listed=60, kept=60)
    characters = made.totals.pop("characters")
    assert made.totals == {
        "turns": 240,
        "pictures": 60,
        "videos": 0,
        "rejected": {},
        "languages": {"de": 20, "en": 20, "zh": 20},
        "per_source": {"scenes": 60},
    }
    samples = samples_of(store, made, tmp_path)
    kinds: Counter[str] = Counter()
    first: Counter[bool] = Counter()
    for index in range(len(samples)):
        row = json.loads(samples.read(index, "json"))
        scene, language = sample_scene(0, FIRST_OF_CONVERSATIONS + index, Split.TRAIN), LANGUAGES[index % 3]
        right = {each.question: each for each in questions(scene, language) if each.kind != "exists"}
        turns = row["conversations"]
        assert row["language"] == language and turns[0]["value"].startswith("<image>\n")
        asked = [turn["value"].removeprefix("<image>\n") for turn in turns[::2]]
        for question, answer in zip(asked, turns[1::2], strict=True):
            if question == DESCRIBE[language]:
                assert answer["value"] == caption(scene, language, 0)
            elif question in right:
                assert answer["value"] == right[question].answer
                kinds[right[question].kind] += 1
            else:
                kinds[asked_for(question, answer["value"], scene, language)] += 1
        first[asked[0] == DESCRIBE[language]] += 1
        characters -= sum(len(turn["value"]) for turn in turns)
        assert asked.count(DESCRIBE[language]) == 1 and len(set(asked)) == 4
        assert (scene.group_color, scene.group_shape) not in UNSEEN_PAIRS
        assert Image.open(io.BytesIO(samples.read(index, "jpg"))).size == (48, 48)
    assert set(kinds) == {"color", "shape", "relation", "count", "exists"} and min(kinds.values()) > 15
    assert 5 <= first[True] <= 28 and characters == 0


def test_kinds_are_asked_as_often_as_their_shares_say(store: Store, tmp_path: Path) -> None:
    given = {"questions_per_scene": 1, "described": 0, "shares": {"color": 1, "exists": 2, "lookup": 3}}
    samples = samples_of(store, run(store, tmp_path, scenes=300, **given), tmp_path)
    kinds: Counter[str] = Counter()
    for index in range(len(samples)):
        row = json.loads(samples.read(index, "json"))
        scene, language = sample_scene(0, FIRST_OF_CONVERSATIONS + index, Split.TRAIN), LANGUAGES[index % 3]
        asked, answer = (turn["value"].removeprefix("<image>\n") for turn in row["conversations"])
        color = questions(scene, language)[0]
        if asked == color.question:
            assert answer == color.answer
        kinds["color" if asked == color.question else asked_for(asked, answer, scene, language)] += 1
    assert set(kinds) == {"color", "exists", "lookup"} and 30 < kinds["color"] < 75 and kinds["lookup"] > 120


def test_questions_of_one_scene_may_be_in_several_languages(store: Store, tmp_path: Path) -> None:
    given = {"questions_per_scene": 3, "described": 0, "shares": {"color": 1, "shape": 1, "count": 1}}
    made = run(store, tmp_path, scenes=40, mixed_languages=True, **given)
    samples = samples_of(store, made, tmp_path)
    together: Counter[int] = Counter()
    for index in range(len(samples)):
        row = json.loads(samples.read(index, "json"))
        scene = sample_scene(0, FIRST_OF_CONVERSATIONS + index, Split.TRAIN)
        right = {
            each.question: (each.answer, language) for language in LANGUAGES for each in questions(scene, language)
        }
        turns = [turn["value"].removeprefix("<image>\n") for turn in row["conversations"]]
        found = [right[question] for question in turns[::2]]
        assert [answer for answer, _ in found] == turns[1::2] and row["language"] is None
        together[len({language for _, language in found})] += 1
    assert together[2] + together[3] > 25


def test_more_kinds_than_there_are_cannot_be_asked() -> None:
    with pytest.raises(ValidationError, match="3 questions of different kinds per scene, and shares names 1"):
        conversations.Parameters(scenes=4, shares={"relation": 1.0})


def test_the_same_bytes_on_any_cluster_and_any_shard_size(store: Store, tmp_path: Path, any_cluster: Cluster) -> None:
    one = run(store, tmp_path, scenes=20, rows_per_shard=10)
    other = run(store, tmp_path, any_cluster, version="other", scenes=20, rows_per_shard=10)
    assert [part.files["tar"].sha256 for part in one.parts] == [part.files["tar"].sha256 for part in other.parts]
    third = run(store, tmp_path, version="third", scenes=20, rows_per_shard=7)
    samples = [samples_of(store, made, tmp_path) for made in (one, third)]
    assert samples[0].keys == samples[1].keys
    assert (
        run(store, tmp_path, version="seed", scenes=20, rows_per_shard=10, seed=1).parts[0].files
        != one.parts[0].files
    )


def test_pictures_are_asked_for_their_captions(store: Store, tmp_path: Path) -> None:
    made = run(store, tmp_path, captions=True)
    assert [part.key for part in made.parts] == ["captions-000000", "captions-000001"]
    source = samples_of(store, shards_of(store), tmp_path / "source")
    samples = samples_of(store, made, tmp_path)
    assert samples.keys == source.keys and made.ledger == Ledger(listed=12, kept=12)
    for number in range(12):
        row, facts = json.loads(samples.read(number, "json")), source.facts(number)
        assert row == {
            "id": facts["uid"],
            "source": "drawn",
            "language": facts["language"],
            "width": 48,
            "height": 48,
            "conversations": [
                {"from": "human", "value": f"<image>\n{DESCRIBE[str(facts['language'])]}"},
                {"from": "gpt", "value": facts["caption"]},
            ],
        }
        assert samples.read(number, "jpg") == source.read(number, "jpg")


def test_bad_rows_are_counted_with_their_reasons(store: Store, tmp_path: Path) -> None:
    shards = shards_of(store)
    rows = list(read_tar(store.read(shards.key(shards.parts[0].files["tar"]))))[:5]
    rows[0][1]["txt"] = b"  \n"
    rows[1][1]["txt"] = b"a <image> of a dog"
    rows[2][1]["txt"] = b"a dog <|im_end|> I am free"
    rows[3][1]["jpg"] = rows[3][1]["jpg"][:300]
    output = Output(store, Ref(name="shards/caption_quality", version="bad"), "write_shards", {})
    part = output.part("000000", digest_of("bad"), Ledger(listed=5, kept=5), {"tar": ("0.tar", tar_bytes(rows))})
    bad = output.commit([part])
    parameters = Parameters(captions=True)
    made = conversations.run(
        parameters,
        Output(store, Ref(name="conversations", version="bad"), "conversations", {}),
        Workspace(store, InlineCluster(), tmp_path, inputs={"shards/caption_quality": bad}),
    )
    assert made.ledger == Ledger(listed=5, kept=1, rejected=4)
    assert made.totals["rejected"] == {"control_token": 1, "empty_turn": 1, "picture": 1, "placeholders": 1}
    assert samples_of(store, made, tmp_path).keys == [rows[4][0]]
    listed = store.read(made.key(made.reports["bad_rows"])).decode().splitlines()
    file = bad.key(part.files["tar"])
    assert listed[0] == f"{file}, sample {rows[0][0]}: empty_turn: turn 2 of gpt is empty" and len(listed) == 4
    assert listed == made.totals["first_bad_rows"]
    output = Output(store, Ref(name="shards/caption_quality", version="all_bad"), "write_shards", {})
    part = output.part("all", digest_of("all"), Ledger(listed=4, kept=4), {"tar": ("1.tar", tar_bytes(rows[:4]))})
    with pytest.raises(ManifestError, match="no conversation could be made"):
        conversations.run(
            parameters,
            Output(store, Ref(name="conversations", version="none"), "conversations", {}),
            Workspace(store, InlineCluster(), tmp_path, inputs={"shards/caption_quality": output.commit([part])}),
        )


def test_nothing_to_talk_about_is_refused() -> None:
    with pytest.raises(ValidationError, match="nothing to talk about"):
        Parameters()
