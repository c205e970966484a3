"""Filters that a user writes: found in a folder, given bits that stay theirs, refused with a reason."""

import json
import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from filters.bits import BITS, OWN_BITS, reasons_of
from filters.policies import Policy, caption_quality, clean
from filters.verdicts import give

FILTER = """
from filters.base import CaptionFilter


class {name}(CaptionFilter):
    reason = "{reason}"
    word: str = "{word}"

    def passes(self, captions):
        return ~captions.matches(self.word, captions.length > 0)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    add(tmp_path, "cats", "cat")
    return tmp_path


def add(folder: Path, reason: str, word: str) -> None:
    (folder / f"{reason}.py").write_text(FILTER.format(name=reason.title(), reason=reason, word=word))


def test_it_judges_with_a_bit_of_its_own(folder: Path) -> None:
    policy = caption_quality("laion_en", filters_folder=str(folder))
    assert policy.filters[-1].reason == "cats" and BITS["cats"] == OWN_BITS.start == 48
    assert json.loads((folder / "bits.json").read_text()) == {"cats": 48}
    captions = {"caption": pa.array(["a cat", "a dog"])}
    assert [reasons_of(int(mask)) for mask in give(policy.filters[-1:], captions, 2).reasons] == [["cats"], []]


def test_bits_stay_with_their_reasons(folder: Path) -> None:
    clean(filters_folder=str(folder))
    add(folder, "ants", "ant")  # first by name, but second in time
    clean(filters_folder=str(folder))
    (folder / "cats.py").unlink()
    add(folder, "bees", "bee")
    clean(filters_folder=str(folder))
    assert json.loads((folder / "bits.json").read_text()) == {"cats": 48, "ants": 49, "bees": 50}


def test_a_policy_with_it_travels_to_workers(folder: Path) -> None:
    policy = clean(filters_folder=str(folder))
    assert Policy.model_validate_json(policy.model_dump_json()) == policy
    assert pickle.loads(pickle.dumps(policy)) == policy


def test_changed_code_is_another_policy(folder: Path) -> None:
    policy = clean(filters_folder=str(folder))
    add(folder, "cats", "kitten")
    with pytest.raises(ValueError, match="changed since this policy was made"):
        Policy.model_validate_json(policy.model_dump_json())
    assert clean(filters_folder=str(folder)).own != policy.own


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("x = 1\n", "holds no filter"),
        ("import nothing_of_this_name\n", "cannot be loaded: ModuleNotFoundError"),
        (
            "from filters.base import CaptionFilter\nclass A(CaptionFilter):\n    reason = 'a'\n",
            "lacks its method keep",
        ),
        (
            "from filters.base import AtLeast\nclass A(AtLeast):\n    reason = 'a'\n    reads = ('a',)\n    low: "
            "float\n",
            "needs a default for each field",
        ),
        (FILTER.format(name="A", reason="gibberish", word="a"), "'gibberish' exists already"),
    ],
)
def test_what_is_no_filter_is_refused_by_name(folder: Path, code: str, says: str) -> None:
    (folder / "wrong.py").write_text(code)
    with pytest.raises(ValueError, match=says) as refused:
        clean(filters_folder=str(folder))
    assert "wrong.py" in str(refused.value)


def test_wrong_folders_and_registries_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no folder"):
        clean(filters_folder=str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no Python file"):
        clean(filters_folder=str(tmp_path / "empty"))
    for text, says in (
        ('{"cats": 3}', "lie in 48 to 62"),
        ('{"cats": "x"}', "no table of reasons"),
        ("[", "no table"),
    ):
        (folder / "bits.json").write_text(text)
        with pytest.raises(ValueError, match=says):
            clean(filters_folder=str(folder))
    (folder / "bits.json").write_text(json.dumps({f"old{bit}": bit for bit in OWN_BITS}))
    with pytest.raises(ValueError, match="all 15 bits are given"):
        clean(filters_folder=str(folder))
