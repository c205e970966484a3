"""Captions are cut as Stanford's PTBTokenizer cuts them: as it once did, and as it does where there is Java."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from stages.evaluations.caption_tokens import words

PHOTOS = Path(__file__).resolve().parents[4] / "shared/data/flickr8k-photos.tar"
RECORDED = [
    # What pycocoevalcap.tokenizer.ptbtokenizer (stanford-corenlp 3.4.1) gave.
    (
        "A man's dog isn't on the boat, but the women's boats are.",
        "a man 's dog is n't on the boat but the women 's boats are",
    ),
    ("Two zebras (one old, one young) graze.", "two zebras -lrb- one old one young -rrb- graze"),
    ("She's here; they'll come, we've waited and I'd go.", "she 's here they 'll come we 've waited and i 'd go"),
    ("He can't, won't and doesn't know; they cannot.", "he ca n't wo n't and does n't know they can not"),
    ('"WET PAINT", says the sign.', "wet paint says the sign"),
    ("A red-and-white t-shirt with the number 25 on it.", "a red-and-white t-shirt with the number 25 on it"),
    ("It is 2:25 p.m. at the station...", "it is 2:25 p.m. at the station"),
    ("The U.S. Army truck drives on Main St. in the rain.", "the u.s. army truck drives on main st. in the rain"),
    ("Mr. and Mrs. Brown at 3rd Ave. with their twins", "mr. and mrs. brown at 3rd ave. with their twins"),
    ("A living room/dining room, black & white.", "a living room/dining room black & white"),
    ("The price is $2.50 and 30% off!!", "the price is $ 2.50 and 30 % off !!"),
    ("Player #28 runs past # 7.", "player # 28 runs past # 7"),
    ("A cup of rock-n-roll coffee at five o'clock", "a cup of rock-n-roll coffee at five o'clock"),
    ("A dog—wet and happy—runs.", "a dog wet and happy runs"),
    ("The sign reads ‘stop’ and “go”.", "the sign reads stop and go"),
    ("George W. Bush stands near a plane", "george w. bush stands near a plane"),
    ("An A.M. radio, S.C.U.B.A. gear and a T.V. set", "an a.m. radio s.c.u.b.a. gear and a t.v. set"),
    ("The child is gonna run; I gotta go and wanna stay.", "the child is gon na run i got ta go and wan na stay"),
    ("Wait... what?!", "wait what ?!"),
    ("A cat -- or a dog - sleeps", "a cat or a dog sleeps"),
    ("A man [left] and a woman {right}", "a man -lsb- left -rsb- and a woman -lcb- right -rcb-"),
    ("1,000 people and 1/2 of a pizza", "1,000 people and 1/2 of a pizza"),
    ("The girls' bags and the boys' bikes", "the girls bags and the boys bikes"),
    ("B.B. King Blvd. is closed", "b.b. king blvd. is closed"),
    ("a 12-inch ruler and 2 4x4 trucks", "a 12-inch ruler and 2 4x4 trucks"),
    ("y'all are here", "y' all are here"),
    ("it's it's head and a banana's peel", "it 's it 's head and a banana 's peel"),
    ("Photo of the No. 5 bus", "photo of the no. 5 bus"),
    ("salt &amp; pepper shakers", "salt & pepper shakers"),
    ("a café in São Paulo", "a café in são paulo"),
]


@pytest.mark.parametrize(("caption", "wanted"), RECORDED)
def test_captions_are_cut_as_the_original_cut_them(caption: str, wanted: str) -> None:
    assert words(caption) == wanted.split()


def test_languages_without_spaces_are_cut_sign_by_sign() -> None:
    assert words("一只狗，在 NBA 球场。", "zh") == ["一", "只", "狗", "在", "nba", "球", "场"]
    assert words("猫がいる", "ja") == list("猫がいる")
    assert words("ein Hund läuft", "de") == ["ein", "hund", "läuft"]


@pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")
@pytest.mark.skipif(not PHOTOS.exists(), reason=f"needs {PHOTOS}")
def test_real_captions_are_cut_as_java_cuts_them() -> None:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    with tarfile.open(PHOTOS) as tar:
        members = [each for each in tar if each.name.endswith(".json")]
        told = [json.loads(tar.extractfile(each).read()) for each in members]  # type: ignore[union-attr]
    captions = [caption for each in told for caption in each["captions"]]
    theirs = PTBTokenizer().tokenize({number: [{"caption": each}] for number, each in enumerate(captions)})
    wrong = [each for number, each in enumerate(captions) if " ".join(words(each)) != theirs[number][0]]
    assert len(captions) == 4000 and len(wrong) <= 2, wrong
