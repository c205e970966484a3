"""Questions about pictures in the forms that the public sets come as."""

import base64
from pathlib import Path
from typing import Any

import pytest
from layouts import as_json, described, lay, picture

from stages.evaluations.base import Question
from stages.evaluations.data import open_examples
from stages.evaluations.data.dataset import Dataset
from stages.manifest import ManifestError

ASKED = described("vqa_json", protocol="dialogue")


def opened(place: Path, files: dict[str, Any], **more: Any) -> Dataset:
    lay(place, {name: each if isinstance(each, str | bytes) else as_json(each) for name, each in files.items()})
    return open_examples(ASKED, place, **more)


def test_vqav2_has_questions_and_answers_in_two_files(tmp_path: Path) -> None:
    name = "COCO_val2014_000000000042.jpg"
    questions = {"data_subtype": "val2014", "questions": [{"image_id": 42, "question_id": 420, "question": "What?"}]}
    answers = [{"answer": each, "answer_id": 1} for each in ["cat"] * 9 + ["dog"]]
    told = {"annotations": [{"question_id": 420, "answers": answers, "answer_type": "other", "image_id": 42}]}
    files = {
        "v2_val_questions.json": questions,
        "v2_val_annotations.json": told,
        f"val2014/{name}": picture(kind="JPEG"),
    }
    found = opened(tmp_path, files)
    assert found.question(0) == Question("What?", ("cat",) * 9 + ("dog",), (), "other")
    assert (found.key(0), found.pictures(0)[0].size) == ("420", (12, 8))
    # Of the test split there are questions only.
    lay(tmp_path, {"v2_test_questions.json": as_json(questions), "v2_train_questions.json": as_json(questions)})
    assert open_examples(ASKED, tmp_path).key(0) == "420"
    for name in ("v2_test_questions", "v2_val_annotations"):
        (tmp_path / f"{name}.json").unlink()
    with pytest.raises(ManifestError, match=r"question 420 of v2_val_questions.json has no answer beside it"):
        open_examples(ASKED, tmp_path)


def test_gqa_is_a_dictionary(tmp_path: Path) -> None:
    questions = {"0107": {"imageId": "n1", "question": "Is it?", "answer": "yes", "types": {}}}
    found = opened(tmp_path, {"testdev_balanced_questions.json": questions, "images/n1.jpg": picture(kind="JPEG")})
    assert (found.key(0), found.question(0).answers, found.pictures(0)[0].size) == ("0107", ("yes",), (12, 8))


def test_textvqa_and_docvqa_have_data(tmp_path: Path) -> None:
    rows = [{"question": "Which?", "image_id": "a1", "question_id": 7, "answers": ["x", "x", "y"]}]
    found = opened(tmp_path / "t", {"TextVQA_val.json": {"data": rows}, "train_images/a1.jpg": picture(kind="JPEG")})
    assert found.question(0).answers == ("x", "x", "y") and found.key(0) == "7"
    rows = [
        {
            "questionId": 9,
            "question": "Who?",
            "image": "documents/d.png",
            "answers": ["Ann"],
            "ocr_tokens": ["I", "am"],
        }
    ]
    found = opened(tmp_path / "d", {"val_v1.0.json": {"data": rows}, "documents/d.png": picture()})
    assert found.question(0) == Question("Who?", ("Ann",), context="I am") and len(found.pictures(0)) == 1


def test_chartqa_and_pope_tell_parts_by_their_files(tmp_path: Path) -> None:
    row = {"imgname": "c.png", "query": "How many?", "label": "3"}
    files = {
        "test_human.json": [row, row],
        "test_augmented.json": [row],
        "train_human.json": [row] * 5,
        "png/c.png": picture(),
    }
    found = opened(tmp_path / "c", files)
    assert [found.key(n) for n in range(3)] == ["augmented/c.png", "human/c.png", "human/c.png#2"]
    assert [found.question(n).category for n in range(3)] == ["augmented", "human", "human"]
    line = '{"question_id": 1, "image": "c.png", "text": "Is there a cat?", "label": "no"}\n'
    found = opened(
        tmp_path / "p", {"coco_pope_random.json": line, "coco_pope_popular.json": line, "c.png": picture()}
    )
    assert found.question(0) == Question("Is there a cat?", ("no",), (), "popular") and len(found) == 2


def test_mme_asks_twice_about_each_picture(tmp_path: Path) -> None:
    lines = "Is it red? Please answer yes or no.\tYes\nIs it blue? Please answer yes or no.\tNo\n"
    files = {
        "color/1.png": picture(),
        "color/1.txt": lines,
        "OCR/images/2.png": picture(),
        "OCR/questions_answers_YN/2.txt": lines,
    }
    found = opened(tmp_path, files)
    assert [found.key(n) for n in range(4)] == ["OCR/2.png#1", "OCR/2.png#2", "color/1.png#1", "color/1.png#2"]
    assert found.question(3) == Question("Is it blue? Please answer yes or no.", ("No",), (), "color")
    assert len(open_examples(ASKED, tmp_path, limit=3)) == 2
    (tmp_path / "color/1.txt").write_text("Is it red?\tPerhaps\n")
    with pytest.raises(ManifestError, match=r"is no question<TAB>Yes or No"):
        open_examples(ASKED, tmp_path)


def test_mmbench_holds_its_pictures_in_base64(tmp_path: Path) -> None:
    image = base64.b64encode(picture(size=(9, 5))).decode()
    header = "index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\timage\n"
    table = f'{header}1\t"Which\none?"\tLook.\tred\tblue\t\t\tA\tcolour\t{image}\n'
    table += "1000007\tWhich?\tnan\tblue\tred\tnan\tnan\tB\tcolour\t1\n"
    found = opened(tmp_path, {"MMBench_DEV_EN.tsv": table})
    assert found.question(0) == Question("Look.\nWhich\none?", ("A",), ("red", "blue"), "colour")
    assert found.question(1) == Question("Which?", ("B",), ("blue", "red"), "colour")
    assert [found.pictures(number)[0].size for number in range(2)] == [(9, 5), (9, 5)]
    assert [found.key(number) for number in range(2)] == ["1", "1000007"], "there is no 7 of which it is a copy"
    for changed, says in [
        (table.replace("\t1\n", "\t77\n"), "picture of row '77', which has none"),
        (table.replace("\tB\tcolour", "\tcolour"), "has 9 cells of 10"),
        (table.replace("image\n", "photo\n"), "it needs index and image"),
    ]:
        with pytest.raises(ManifestError, match=says):
            opened(tmp_path, {"MMBench_DEV_EN.tsv": changed})
    broken = opened(tmp_path, {"MMBench_DEV_EN.tsv": table + f"2\tWho?\t\ta\tb\t\t\tA\tx\t{'*' * 80}\n"})
    assert "the cell is no base64" in broken.unreadable["2"]


def test_copies_of_a_question_with_turned_options_are_left_out(tmp_path: Path) -> None:
    image = base64.b64encode(picture(size=(9, 5))).decode()
    table = "index\tquestion\tA\tB\tC\tD\tanswer\timage\n"
    for key, four, two in (
        (0, "wxyz", "pq"),
        (1_000_000, "zwxy", "qp"),
        (2_000_000, "yzwx", ""),
        (3_000_000, "xyzw", ""),
    ):
        table += "\t".join([str(key + 1), "Which?", *four, "A", "1" if key else image]) + "\n"
        if two:
            table += "\t".join([str(key + 2), "What?", *two, "", "", "B", "1"]) + "\n"
    found = opened(tmp_path, {"MMBench_DEV_EN.tsv": table})
    assert [found.key(number) for number in range(len(found))] == ["1", "2"]
    assert sum(len(found.question(number).options) for number in range(2)) == 6, "as often each is asked, turned"


def test_multiple_choice_tells_the_right_option_in_several_ways(tmp_path: Path) -> None:
    whole = {
        "1": {"question": "Q", "choices": ["x", "y"], "answer": 1, "hint": "", "image": "image.png", "split": "test"},
        "2": {"question": "Q", "choices": ["x", "y"], "answer": 0, "image": None, "split": "test"},
        "3": {"question": "Q", "choices": ["x", "y"], "answer": 0, "image": "image.png", "split": "train"},
        "4": {"question": "Q", "choices": ["x", "y"], "answer": 0, "image": "image.png", "split": "val"},
    }
    found = opened(tmp_path / "s", {"problems.json": whole, "image.png": picture()})
    assert len(found) == 1 and found.question(0) == Question("Q", ("B",), ("x", "y"))
    assert [found.training().key(number) for number in range(len(found.training()))] == ["3"]
    rows = [{"image": "a.png", "question": "Q", "options": ["x", "y"], "answer": each} for each in ("a", "y", "B")]
    found = opened(tmp_path / "a", {"test.json": rows, "a.png": picture()})
    assert [found.question(number).answers for number in range(3)] == [("A",), ("B",), ("B",)]
    with pytest.raises(ManifestError, match=r"right answer 'z' is none of the options"):
        opened(tmp_path / "a", {"test.json": [{**rows[0], "answer": "z"}]})


@pytest.mark.parametrize(
    ("whole", "says"),
    [
        ([{"image": "a.png", "answer": "x"}], "no question is known"),
        ([{"image": "a.png", "question": "x"}], "no answer is known"),
        ([{"image": "a.png", "question": "x", "answers": []}], "an empty list of answers"),
        ([3], "has '3' where a question is expected"),
        ({"a": 3}, "has '3' where a question is expected"),
        ([], "asks nothing in the split test"),
    ],
)
def test_odd_lists_are_refused(tmp_path: Path, whole: Any, says: str) -> None:
    with pytest.raises(ManifestError, match=says):
        opened(tmp_path, {"test.json": whole, "a.png": picture()})
