"""Metrics at their edges, and whole evaluations of checkpoints that know nothing or everything."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from training_data import make_language, make_shards, tiny_tokenizer
from weight_shards import in_shards

from infra.cluster import InlineCluster
from infra.storage import Store
from models.chat import InternVLChat
from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.internvl import InternVL
from stages import conversations, evaluate
from stages.chat_assembly import grow_tokenizer
from stages.chat_template import IMG_CONTEXT
from stages.checkpoints import publish
from stages.evaluation_captions import score_slots
from stages.evaluation_dialogue import same
from stages.evaluation_metrics import (
    auc_measure,
    interval,
    majority,
    measure,
    recall,
    recall_chance,
    retrieval_measures,
    winners,
)
from stages.evaluation_report import Example, above_guessing, markdown, render
from stages.evaluation_retrieval import RERANKED, Judge, other_captions, reranked, retrieval
from stages.evaluation_world import SLOTS, elsewhere, read_slots, swapped, variants, worlds
from stages.manifest import Manifest, ManifestError, digest_of, verify
from stages.pairs import Texts
from stages.ref import Ref
from stages.sources.captions import LANGUAGES, caption
from stages.sources.scenes import Split, sample_scene
from stages.workspace import Output, Workspace

VISION = VisionConfig(
    image_size=48, patch_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
)


def text_config(vocab_size: int) -> TextConfig:
    return TextConfig(
        vocab_size=vocab_size, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )


# Metrics


def test_recall_counts_every_right_candidate_and_no_tie() -> None:
    scores = np.array([[0.9, 0.8, 0.1], [0.5, 0.5, 0.5], [0.1, 0.2, 0.3]])
    right = np.array([[False, True, False], [True, False, False], [True, False, True]])
    assert recall(scores, right, 1).tolist() == [False, False, True]
    assert recall(scores, right, 2).tolist() == [True, False, True]
    assert recall(scores, right, 3).tolist() == [True, True, True]


def test_chance_of_recall_is_what_random_orders_give() -> None:
    right = np.zeros((2, 6), dtype=bool)
    right[0, 0] = right[1, 0] = right[1, 1] = True
    assert recall_chance(right, 1) == pytest.approx((1 / 6 + 2 / 6) / 2)
    rng = np.random.default_rng(0)
    found = [recall(rng.random((2, 6)), right, 3).mean() for _ in range(4000)]
    assert recall_chance(right, 3) == pytest.approx(np.mean(found), abs=0.02)
    assert recall_chance(right, 6) == recall_chance(right, 99) == 1.0


def test_a_caption_that_two_pictures_share_is_right_for_both() -> None:
    scores = np.array([[0.1, 0.9, 0.0], [0.8, 0.2, 0.0], [0.0, 0.0, 1.0]])
    shared = {each.name: each for each in retrieval_measures("iid", "en", scores, ["same", "same", "other"])}
    apart = {each.name: each for each in retrieval_measures("iid", "en", scores, ["one", "two", "other"])}
    assert shared["recall_at_1_image_to_text"].value == 1.0
    assert apart["recall_at_1_image_to_text"].value == pytest.approx(1 / 3)
    assert shared["recall_at_1_text_to_image"].chance == pytest.approx(5 / 9)
    assert apart["recall_at_1_text_to_image"].chance == pytest.approx(1 / 3)


def test_the_interval_holds_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    held = [low <= 0.3 <= high for low, high in (interval(rng.random(200) < 0.3) for _ in range(300))]
    assert 0.90 <= np.mean(held) <= 0.985
    low, high = interval([1.0] * 50)
    # So many hits in a row still happen once in forty times at this rate.
    assert high == 1.0 and low**50 == pytest.approx(0.025)
    assert interval([0.0] * 50) == (0.0, pytest.approx(1 - low))
    assert interval([0, 1] * 20) == interval([0, 1] * 20)


def test_the_area_under_the_curve_counts_ties_half() -> None:
    def area(right: list[float], wrong: list[float]) -> float:
        return auc_measure("iid", "en", "x", np.array(right), np.array(wrong)).value

    assert area([3.0, 2.0], [1.0, 0.0]) == 1.0
    assert area([1.0, 1.0], [1.0, 1.0]) == 0.5
    assert area([2.0, 0.0], [1.0, 1.0]) == 0.5
    rng = np.random.default_rng(0)
    found = auc_measure("iid", "en", "x", rng.normal(1, 1, 200), rng.normal(0, 1, 200))
    assert found.low < found.value < found.high and found.low > 0.5


def test_a_tie_chooses_nothing_and_the_majority_is_the_commonest_answer() -> None:
    assert winners(np.array([[0.1, 0.7], [0.5, 0.5], [2.0, -1.0]])).tolist() == [1, -1, 0]
    assert majority(["a", "b", "a", "c"]) == 0.5


@pytest.mark.parametrize(
    ("unit", "values", "chance", "blind", "expected"),
    [
        ("%", [1] * 90 + [0] * 10, 0.5, 0.6, "yes"),
        ("%", [1] * 90 + [0] * 10, 0.5, 0.9, "no"),
        ("%", [1] * 55 + [0] * 45, 0.5, None, "no"),
        ("nats", [1.0, 1.1] * 20, None, 1.5, "yes"),
        ("nats", [1.0, 1.1] * 20, None, 1.05, "no"),
        ("%", [1, 0], None, None, "–"),
    ],
)
def test_above_guessing_needs_the_whole_interval(
    unit: str, values: list[float], chance: float | None, blind: float | None, expected: str
) -> None:
    found = measure("iid", "en", "x", values, chance=chance, blind=None if blind is None else [blind], unit=unit)
    assert above_guessing(found) == expected


# The drawn world


@pytest.mark.parametrize("language", LANGUAGES)
def test_slots_are_read_back_from_every_caption(language: str) -> None:
    for split in Split:
        for index in range(60):
            scene = sample_scene(5, index, split)
            for variant in (0, 1):
                found = read_slots(caption(scene, language, variant), language)
                assert found == {slot: getattr(scene, slot) for slot in SLOTS}


def test_a_caption_that_says_little_gives_no_credit_for_what_it_leaves_out() -> None:
    assert read_slots("drawing of a ring", "en") == {**dict.fromkeys(SLOTS), "group_shape": "ring"}
    assert read_slots("三角", "zh") == {**dict.fromkeys(SLOTS), "group_shape": "triangle"}
    assert read_slots("", "de") == dict.fromkeys(SLOTS)


def test_variants_differ_in_one_slot_and_swapped_captions_are_wrong() -> None:
    scene = sample_scene(0, 3, Split.IID)
    for slot, values in SLOTS.items():
        texts = variants(scene, slot, "en")
        assert len(set(texts)) == len(values)
        assert texts[values.index(getattr(scene, slot))] == caption(scene, "en")
    seen = set()
    for number in range(24):
        slot, text = swapped(scene, number, "de")
        said = read_slots(text, "de")
        assert [name for name in SLOTS if said[name] != getattr(scene, name)] == [slot]
        seen.add(slot)
    assert seen == set(SLOTS)


def test_perfect_captions_are_right_and_their_blind_twin_is_not() -> None:
    world = worlds(40, 0, 48)[1]
    found = {each.name: each for each in score_slots("unseen", "de", world.captions("de"), world.scenes)}
    assert all(each.value == 1.0 for each in found.values())
    assert found["caption_all_slots"].blind == 0.0
    blind = found["caption_group_color"].blind
    assert blind is not None and blind < 0.6
    nothing = score_slots("unseen", "de", [""] * 40, world.scenes)
    assert all(each.value == 0.0 and above_guessing(each) == "no" for each in nothing)


def test_other_captions_are_never_the_own_one_where_there_is_another() -> None:
    assert other_captions(["a", "a", "b"], range(3)) == ["b", "b", "a"]
    assert other_captions(["a", "a"], range(2)) == ["a", "a"]
    assert other_captions(["a", "b", "c"], [(1, 1), (1, 1), (2, 2)]) == ["c", "c", "a"], "b is right for a's picture"
    assert elsewhere([1, 2, 3]) == [2, 3, 1]


def test_answers_are_compared_without_case_and_full_stop() -> None:
    assert same(" Red.", "red") and same("红色。", "红色") and not same("red blue", "red") and not same("", "red")


# Whole evaluations


def commit(
    store: Store,
    kind: str,
    config: str,
    weights: dict[str, torch.Tensor],
    tokenizer: str,
    data: Manifest,
    aside: float,
) -> Manifest:
    identity = {"stage": kind, "parameters": {"held_out_share": aside}, "inputs": {data.ref.name: data.digest}}
    files = {
        **in_shards(weights),
        "config.json": config.encode(),
        "tokenizer.json": tokenizer.encode(),
    }
    named = {name.partition(".")[0]: (name, content) for name, content in files.items()}
    output = Output(store, Ref(name=f"checkpoints/{kind}", version="t"), kind, identity)
    facts = {"names": {role: name for role, (name, _) in named.items()}}
    return output.commit([publish(output, digest_of(kind), named, 1, facts)])


def make_towers(store: Store, kind: str, data: Manifest, aside: float = 0.3) -> Manifest:
    tokenizer = tiny_tokenizer()
    config = InternVLConfig(
        vision=VISION,
        text=text_config(tokenizer.get_vocab_size()),
        embed_dim=8,
        attn_pool_num_heads=2,
        num_query_token=3,
        cross_attention_frequency=1,
    )
    torch.manual_seed(0)
    state = InternVL(config, generative=kind == "generative").state_dict()
    return commit(store, kind, config.model_dump_json(), state, tokenizer.to_str(), data, aside)


def make_chat(store: Store, data: Manifest, aside: float = 0.45) -> Manifest:
    tokenizer = tiny_tokenizer()
    grow_tokenizer(tokenizer, "Hermes-2")
    config = ChatConfig(
        vision=VISION,
        text=text_config(tokenizer.get_vocab_size()),
        image_context_token_id=tokenizer.token_to_id(IMG_CONTEXT),
        eos_token_id=tokenizer.token_to_id("</s>"),
    )
    torch.manual_seed(0)
    state = InternVLChat(config).state_dict()
    return commit(store, "instruct", config.model_dump_json(), state, tokenizer.to_str(), data, aside)


def make_conversations(store: Store) -> Manifest:
    output = Output(store, Ref(name="conversations", version="t"), "conversations", {})
    here = Workspace(store, InlineCluster(), Path("unused"))
    return conversations.run(conversations.Parameters(scenes=24), output, here)


def evaluated(
    store: Store, tmp_path: Path, inputs: list[Manifest], version: str = "t", **parameters: Any
) -> Manifest:
    given = evaluate.Parameters(**parameters)
    ref = Ref(name=f"evaluations/{given.kind}", version=version)
    scratch = tmp_path / f"scratch-{version}"
    scratch.mkdir()
    here = Workspace(store, InlineCluster(), scratch, {manifest.ref.name: manifest for manifest in inputs})
    return evaluate.run(given, Output(store, ref, "evaluate", {"parameters": parameters}), here)


def page_of(store: Store, manifest: Manifest) -> str:
    return store.read(manifest.key(manifest.reports["page"])).decode()


def names(manifest: Manifest) -> set[str]:
    return {name for name in manifest.totals if not name.endswith(("_chance", "_blind"))}


def test_towers_that_know_nothing_are_near_chance_and_twice_the_same(store: Store, tmp_path: Path) -> None:
    shards = make_shards(store, samples=20)
    checkpoint = make_towers(store, "contrastive", shards)
    given = {"kind": "contrastive", "scenes": 10, "languages": ("en", "zh"), "held_out": 6}
    manifest = evaluated(store, tmp_path, [checkpoint, shards], **given)
    again = evaluated(store, tmp_path, [checkpoint, shards], version="again", **given)
    assert verify(store, manifest) == []
    assert again.totals == manifest.totals and again.parts[0].files == manifest.parts[0].files
    assert manifest.ledger.listed == manifest.ledger.kept == 2 * 10 + 6
    for split in ("iid", "unseen"):
        for language in ("en", "zh"):
            key = f"{split}_{language}_choose_group_shape"
            assert manifest.totals[f"{key}_chance"] == pytest.approx(1 / 6, abs=1e-4)
            assert 0 <= manifest.totals[key] <= 0.7 and f"{key}_blind" in manifest.totals
    assert manifest.totals["held_out_all_recall_at_1_image_to_text_chance"] >= 1 / 6 - 1e-4
    assert "| iid | en | recall at 1 image to text |" in manifest.totals["markdown"]
    assert "Chance is guessing without learning" in manifest.totals["markdown"]
    rows = json.loads(store.read(manifest.key(manifest.parts[0].files["measures"])))["measures"]
    assert len(rows) == 2 * 2 * (4 + 6) + 4 and all(row["low"] <= row["value"] <= row["high"] for row in rows)
    page = page_of(store, manifest)
    assert checkpoint.digest in page and shards.digest in page and "data:image/jpeg;base64," in page


def test_a_generative_model_is_measured_in_all_its_ways(store: Store, tmp_path: Path) -> None:
    shards = make_shards(store, "shards/caption_quality", samples=20)
    checkpoint = make_towers(store, "generative", shards)
    manifest = evaluated(
        store,
        tmp_path,
        [checkpoint, shards],
        kind="generative",
        scenes=6,
        languages=("de",),
        held_out=5,
        batch_size=4,
    )
    found = names(manifest)
    for name in ("c_recall_at_1_image_to_text", "g_recall_at_5_text_to_image", "matching_auc_one_slot_swapped"):
        assert f"unseen_de_{name}" in found
    assert {f"iid_de_caption_{slot}" for slot in SLOTS} <= found
    assert {"held_out_all_caption_loss", "held_out_all_own_picture_helps_the_caption"} <= found
    assert manifest.totals["iid_de_matching_auc_random_chance"] == 0.5
    assert manifest.totals["held_out_all_caption_loss"] == pytest.approx(np.log(360), rel=0.2)
    assert "no stage that trained this model was shown these pictures" in page_of(store, manifest)


@pytest.mark.parametrize(("verdict", "expected"), [(100.0, 1.0), (0.0, None), (-100.0, 0.0)])
def test_the_matching_head_has_its_say_on_the_likeliest_captions(
    verdict: float, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tiny_tokenizer()
    config = InternVLConfig(
        vision=VISION, text=text_config(tokenizer.get_vocab_size()), embed_dim=8, attn_pool_num_heads=2
    )
    torch.manual_seed(2)
    judge = Judge(InternVL(config), Texts(tokenizer, 80), batch_size=8)
    world = worlds(RERANKED, 0, 24)[0]
    vision, captions = judge.see(world.pictures), world.captions("en")
    assert len(set(captions)) == RERANKED, "every caption is among the likeliest"

    def match(pictures: torch.Tensor, texts: list[str]) -> Any:
        own = [captions[number // RERANKED] == text for number, text in enumerate(texts)]
        return verdict * np.array(own, dtype=float)

    monkeypatch.setattr(judge, "match", match)
    vectors = judge.picture_vectors(vision, queries=True)
    found = reranked(judge, world, vision, vectors, "en").value
    alone = {m.name: m.value for m in retrieval(judge, world.split, "en", vectors, captions)}
    assert found == (alone["recall_at_1_image_to_text"] if expected is None else expected)


def test_a_chat_model_is_asked_everything(store: Store, tmp_path: Path) -> None:
    data = make_conversations(store)
    checkpoint = make_chat(store, data)
    manifest = evaluated(
        store, tmp_path, [checkpoint, data], kind="instruct", scenes=6, languages=("en", "zh"), held_out=5
    )
    found = names(manifest)
    for kind in ("color", "shape", "relation", "count", "exists"):
        assert f"unseen_zh_question_{kind}" in found
        assert manifest.totals[f"iid_en_question_{kind}_chance"] >= 1 / 6
    assert "iid_en_caption_all_slots" in found and "held_out_all_answer_loss" in found
    assert manifest.ledger.listed == 2 * 2 * 6 * 6 + 5 == manifest.totals["judged"]
    page = page_of(store, manifest)
    assert "What color are the equal objects?" in page and "<script" not in page


def test_numbers_follow_the_model(store: Store, tmp_path: Path) -> None:
    """A model that looks at nothing says the same blindly; the blind twin must then be exactly as good."""
    shards = make_shards(store, samples=20)
    tokenizer = tiny_tokenizer()
    config = InternVLConfig(
        vision=VISION, text=text_config(tokenizer.get_vocab_size()), embed_dim=8, attn_pool_num_heads=2
    )
    torch.manual_seed(1)
    state = InternVL(config, generative=False).state_dict()
    state["clip_projector.cross_attn.proj.weight"].zero_()
    state["clip_projector.cross_attn.proj.bias"].normal_()
    checkpoint = commit(store, "contrastive", config.model_dump_json(), state, tokenizer.to_str(), shards, aside=0)
    manifest = evaluated(store, tmp_path, [checkpoint], kind="contrastive", scenes=30, languages=("en",))
    for split in ("iid", "unseen"):
        assert manifest.totals[f"{split}_en_recall_at_1_text_to_image"] == 0.0
        for slot in SLOTS:
            key = f"{split}_en_choose_{slot}"
            assert manifest.totals[key] == manifest.totals[f"{key}_blind"]


def test_the_shared_prefix_changes_no_vector() -> None:
    tokenizer = tiny_tokenizer()
    config = InternVLConfig(
        vision=VISION, text=text_config(tokenizer.get_vocab_size()), embed_dim=8, attn_pool_num_heads=2
    )
    torch.manual_seed(2)
    for context in (80, 12):
        judge = Judge(InternVL(config, generative=False), Texts(tokenizer, context), batch_size=3)
        captions = [caption(sample_scene(0, index, Split.IID), LANGUAGES[index % 3]) for index in range(7)]
        with torch.no_grad():
            wanted = judge.model.encode_text(*judge.texts.summaries(captions)).numpy()
        assert np.abs(judge.text_vectors(captions) - wanted).max() < 1e-5


def test_what_was_trained_on_is_never_measured(store: Store, tmp_path: Path) -> None:
    shards = make_shards(store, samples=20)
    checkpoint = make_towers(store, "contrastive", shards, aside=0.2)
    made = evaluated(store, tmp_path, [checkpoint, shards], kind="contrastive", held_out=20)
    assert made.ledger.kept == 6, "six of twenty lie in the share, and no other is measured"
    other = make_shards(store, samples=21, version="other")
    with pytest.raises(ManifestError, match="checkpoints/contrastive@t was not trained on shards/clean@other"):
        evaluated(store, tmp_path, [checkpoint, other], version="b", kind="contrastive", held_out=4)
    for aside, message in ((0.0, "tells of no held_out_share"), (0.05, "1 sample of shards/clean@t is kept aside")):
        checkpoint = make_towers(Store(str(tmp_path / str(aside))), "contrastive", shards, aside)
        with pytest.raises(ManifestError, match=message):
            evaluated(store, tmp_path, [checkpoint, shards], version=str(aside), kind="contrastive", held_out=4)


def test_a_checkpoint_of_another_kind_is_refused(store: Store, tmp_path: Path) -> None:
    here = Workspace(store, InlineCluster(), tmp_path, {"checkpoints/contrastive": make_language(store)})
    output = Output(store, Ref(name="evaluations/contrastive", version="t"), "evaluate", {})
    with pytest.raises(ManifestError, match="checkpoints/language@t holds no InternVL-C or -G"):
        evaluate.run(evaluate.Parameters(kind="contrastive", scenes=4), output, here)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "contrastive"}, "give scenes >= 2"),
        ({"kind": "contrastive", "scenes": 1, "held_out": 8}, "give scenes >= 2"),
        ({"kind": "contrastive", "scenes": 8, "languages": ("en", "fr")}, "not described in 'fr'"),
        ({"kind": "other", "scenes": 8}, "kind"),
    ],
)
def test_parameters_that_measure_nothing_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        evaluate.Parameters(**given)


def test_the_page_escapes_what_models_and_people_wrote() -> None:
    picture = worlds(1, 0, 48)[0].pictures[0]
    hostile = "<img src=x onerror=alert(1)>\u202e"
    example = Example(hostile, picture, [("caption", hostile)], False)
    found = measure("iid", "en", "x", [1, 0, 1], chance=0.5, blind=[0, 0, 1])
    page = render(
        title=hostile, judged="3", measures=[found], examples=[example], notes=[hostile], provenance={"a": hostile}
    )
    assert "<img src=x" not in page and "&lt;img src=x onerror" in page and "[RLO]" in page
    assert "66.7 %" in page and "33.3 %" in page and "50.0 %" in page and "wrong" in page
    assert markdown([found]).splitlines()[2].startswith("| iid | en | x | 66.7 % |")


@pytest.mark.parametrize("kind", evaluate.DATA)
def test_of_every_model_it_is_said_what_kept_aside_means(kind: str) -> None:
    for given, said in (({"held_out": 4}, True), ({"scenes": 4}, False), ({"held_out": 4, "scenes": 4}, True)):
        notes = evaluate.notes_for(evaluate.Parameters.model_validate({"kind": kind, **given}))
        assert any("no stage that trained this model was shown these pictures" in note for note in notes) == said
