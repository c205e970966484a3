"""What is kept aside: one rule by the bytes of a picture, the same in every stage, and what it refuses."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from held_out_worlds import Sight, World
from hypothesis import given
from hypothesis import strategies as st
from training_data import make_language

from infra.storage import Store
from pipelines.recipes import OwnData
from pipelines.recipes.one_gpu import one_gpu
from pipelines.recipes.paper import paper
from pipelines.recipes.photos import photos
from pipelines.recipes.smoke import smoke
from pipelines.recipes.tiny import tiny
from stages import conversations, language_data
from stages.held_out import (
    Divided,
    Fingerprints,
    by_shard,
    check_road,
    divide,
    fingerprint,
    fingerprint_of_members,
    fingerprints_of_texts,
    stacked,
)
from stages.manifest import ManifestError
from stages.sources import scenes, web_site
from stages.sources.web_site import SiteSpec, plan_site

RULES = ("language", "contrastive", "generative", "finetune", "chat_data", "evaluation_held_out")
"""Where a stage or an evaluation asks for the rule."""
OWN = OwnData()


def crossed(world: World) -> list[tuple[str, str]]:
    """Return (who was taught, who keeps aside) wherever a picture is on both sides; there is something on each."""
    found: list[Sight] = list(world.sights())
    assert len(found) == 8
    assert all(each.aside and (each.taught or each.stage.startswith("evaluation")) for each in found)
    return [(one.stage, other.stage) for one in found for other in found if one.taught & other.aside]


@pytest.mark.parametrize("seed", range(3))
def test_no_stage_is_taught_a_picture_that_any_stage_or_evaluation_keeps_aside(tmp_path: Path, seed: int) -> None:
    assert crossed(World(tmp_path, seed)) == []


def last_rows(fingerprints: Fingerprints, share: float, held_out: int, name: str, needed: bool = True) -> Divided:
    """Return the rows that were kept aside before: the last ones."""
    first = round(len(fingerprints) * (1 - share))
    return Divided(np.arange(first), np.arange(first, len(fingerprints)))


@pytest.mark.parametrize("stage", RULES)
def test_one_stage_with_another_rule_is_found(tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"stages.{stage}.divide", last_rows)
    who = {"chat_data": "instruct", "evaluation_held_out": "evaluation of generative"}.get(stage, stage)
    assert any(who in pair for pair in crossed(World(tmp_path, 1)))


def members(*pictures: bytes, **texts: bytes) -> dict[str, bytes]:
    if len(pictures) == 1:
        return {"jpg": pictures[0], **texts}
    return {**{f"{number}.jpg": each for number, each in enumerate(pictures)}, **texts}


def test_a_sample_is_told_by_its_pictures_and_a_text_by_itself() -> None:
    one, other = fingerprint(b"one"), fingerprint(b"other")
    assert one == 0x7692C3AD3540BB80, "the rule never changes: what was trained on stays so"
    assert fingerprint_of_members(members(b"one", txt=b"said", json=b"{}")) == (one, one)
    assert fingerprint_of_members(members(b"one", b"other")) == (min(one, other), max(one, other))
    assert fingerprint_of_members(members(txt=b"one", json=b"{}")) == (one, one)
    assert fingerprint_of_members(members(json=b"one")) == (one, one)
    assert fingerprints_of_texts(["one", "\ud800"]).tolist()[0] == [one, one]


NUMBERS = st.integers(0, 2**64 - 1)


@given(st.lists(st.tuples(NUMBERS, NUMBERS)), st.floats(0, 0.999), st.floats(0, 1))
def test_a_smaller_share_is_part_of_a_larger_one_and_mixed_samples_are_on_no_side(
    pairs: list[tuple[int, int]], share: float, part: float
) -> None:
    whole = stacked([*((min(pair), max(pair)) for pair in pairs), (2**64 - 1, 2**64 - 1)])
    large, small = (divide(whole, each, len(whole), "drawn", needed=False) for each in (share, share * part))
    assert set(small.aside) <= set(large.aside) and set(large.taught) <= set(small.taught)
    for row, (least, most) in enumerate(whole.tolist()):
        assert (row in large.taught) == (least >= int(share * 2**64))
        assert (row in large.aside) == (most < int(share * 2**64))
    assert large.between == len(whole) - len(large.taught) - len(large.aside)


def test_of_those_kept_aside_the_smallest_are_measured_and_none_is_trained_on() -> None:
    tenths = stacked([(int(each * 2**60), int(each * 2**60)) for each in (9, 1, 15, 0, 3, 2, 12)])
    found = divide(tenths, 0.25, 2, "drawn")
    assert found.aside.tolist() == [1, 3] and found.taught.tolist() == [0, 2, 6], "rows 4 and 5 are on neither side"
    assert by_shard(found.taught, [2, 3, 1, 1]) == (1, 1, 1) and by_shard(found.taught, [7]) == (3,)
    assert by_shard([3, 4], [2, 3, 1, 1]) == (2,)


def test_nothing_to_train_on_and_nothing_to_measure_are_refused() -> None:
    high, low = (stacked([(each, each)] * 3) for each in (2**63, 5))
    with pytest.raises(ManifestError, match=r"of x holds 3 .* nothing is left to train on; lower held_out_share"):
        divide(low, 0.1, 0, "of x")
    with pytest.raises(ManifestError, match=r"of x holds 3 .* nothing could be measured; raise held_out_share"):
        divide(high, 0.1, 1, "of x")
    assert divide(high, 0.1, 0, "of x").taught.tolist() == [0, 1, 2], "who measures nothing needs nothing"
    with pytest.raises(ManifestError, match="nothing is left to train on"):
        divide(stacked([]), 0.1, 0, "of x")


def test_a_checkpoint_that_was_trained_on_more_is_not_built_on(store: Store) -> None:
    made = make_language(store)

    def trained(**parameters: Any) -> Any:
        return made.model_copy(update={"identity": {"parameters": parameters}})

    check_road(0.3, [made, trained(held_out_share=0.3), trained(held_out_share=0.5), trained()])
    check_road(0.3, [trained(held_out_share=0.2, pretrained="models/llama")])
    says = "checkpoints/language@t was trained with held_out_share 0.2 and this stage has 0.3"
    with pytest.raises(ManifestError, match=re.escape(says)):
        check_road(0.3, [trained(held_out_share=0.2)])


def test_the_stages_of_a_recipe_keep_one_share_aside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    for recipe in (tiny("http://web"), smoke("http://web"), photos(OWN), one_gpu(OWN), paper(OWN)):
        taken_over = recipe.language.pretrained is not None
        trained = [recipe.contrastive, recipe.generative, recipe.instruct, *([] if taken_over else [recipe.language])]
        assert len({each.held_out_share for each in trained}) == 1, recipe.name


def test_scenes_that_stages_draw_themselves_are_shown_by_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, set[int]] = {}
    for module in (web_site, conversations, language_data):

        def noted(seed: int, index: int, split: scenes.Split, name: str = module.__name__) -> scenes.Scene:
            if split is scenes.Split.TRAIN:
                drawn.setdefault(name, set()).add(index)
            return scenes.sample_scene(seed, index, split)

        monkeypatch.setattr(module, "sample_scene", noted)
    plan_site(SiteSpec(base_url="http://web", rows={"cc3m": 200}))
    language_data.scene_texts(0, 50)
    for index in range(50):
        conversations.scene_row(conversations.Parameters(scenes=50), index)
    web, asked, told = (drawn[module.__name__] for module in (web_site, conversations, language_data))
    assert min(map(len, (web, asked, told))) >= 50
    assert max(web) < min(asked) and max(asked) < scenes.FIRST_OF_TEXTS <= min(told)
