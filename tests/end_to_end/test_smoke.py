"""The whole road on real Prefect and real Ray, at the size of the smoke recipe."""

import urllib.request
from pathlib import Path

import pytest
from installation import Installation
from transformers import AutoModelForImageTextToText, AutoProcessor

from pipelines.graph import data_steps, train_steps
from pipelines.names import RecipeName
from pipelines.recipes import make
from stages.manifest import verify
from stages.sources.scenes import Split, draw, sample_scene

pytestmark = pytest.mark.timeout(1800)


def test_every_artifact_stands_whole_and_its_ledger_closes(smoke: Installation) -> None:
    recipe = make(RecipeName.SMOKE)
    for step in [*data_steps(recipe, "smoke"), *train_steps(recipe, "smoke")]:
        manifest = smoke.manifest(str(step.spec.artifact))
        assert verify(smoke.store, manifest) == []
        assert manifest.ledger.kept > 0, manifest.ref
    pool = smoke.manifest("pool/cc3m@smoke").ledger
    assert pool.listed == smoke.manifest("listing/cc3m@smoke").ledger.kept
    assert 0 < pool.failed < pool.listed


def test_nothing_of_ours_listens_or_talks_beyond_this_machine(smoke: Installation) -> None:
    assert len(smoke.processes()) > 5, "nothing was watched"
    # While processes train together PyTorch's rendezvous listens on all interfaces; it knows no other way.
    outer = smoke.outer | smoke.open_to_others()
    rendezvous = {each for each in outer if each[0].startswith("ray::RayTrainWorker") and each[1].endswith(" LISTEN")}
    assert outer - rendezvous == set()


def test_one_job_made_each_artifact(smoke: Installation) -> None:
    made = [job["metadata"]["artifact"] for job in smoke.jobs() if "@smoke" in job["metadata"]["artifact"]]
    assert sorted(made) == sorted(set(made))


def test_a_second_run_finds_everything_and_starts_no_job(smoke: Installation) -> None:
    before = len(smoke.jobs())
    text = smoke.internvl("run", "internvl", "--recipe", "smoke")
    assert len(smoke.jobs()) == before
    assert "done " not in text and text.count("stands ") >= 22
    # The summary's counts are those of the manifests.
    rows = [[cell.strip() for cell in line.split("│")[1:6]] for line in text.splitlines() if "│ cc3m" in line]
    ledgers = [
        smoke.manifest(f"{kind}/cc3m@smoke").ledger for kind in ("pool", "verdicts/clean", "verdicts/caption_quality")
    ]
    assert rows == [["cc3m", str(ledgers[0].listed), *(str(ledger.kept) for ledger in ledgers)]]


def test_a_second_up_starts_nothing(smoke: Installation) -> None:
    before = smoke.services()
    assert "started" not in smoke.internvl("up")
    assert smoke.services() == before


def test_the_chat_model_answers_here_and_exported_in_transformers(smoke: Installation, tmp_path: Path) -> None:
    picture, question = draw(sample_scene(0, 3, Split.IID), 48), "How many objects are there?"
    picture.save(tmp_path / "scene.png")
    words = ("chat", "checkpoints/instruct@smoke", "--question", question, "--max-new-tokens", "8")
    answer = smoke.internvl(*words, "--image", str(tmp_path / "scene.png"))
    assert answer.endswith("\n") and "error" not in answer and "Traceback" not in answer
    told = smoke.internvl("export", "checkpoints/instruct@smoke", str(tmp_path / "out"), "--max-new-tokens", "8")
    assert "layout native" in told
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    native = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    turn = {"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": question}]}
    inputs = processor.apply_chat_template(
        [turn], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    said = processor.decode(native.generate(**inputs)[0, inputs["input_ids"].shape[1] :])
    assert said.partition("<|im_end|>")[0].strip() in answer


def test_a_rule_moved_gives_a_new_version_beside_the_old_one(smoke: Installation) -> None:
    old = smoke.manifest("verdicts/clean/laion_en@smoke")
    change = "policy.min_side.min_pixels=97"
    words = ("rerun", "filter", "--recipe", "smoke", "--source", "laion_en", "--set", change)
    refused = smoke.internvl(*words, code=2)
    assert "stands and was made differently" in refused and "--new-version NAME" in refused
    smoke.internvl(*words, "--new-version", "large")
    new = smoke.manifest("verdicts/clean/laion_en@large")
    # Pictures of the site are 96 pixels wide: the rule that asks for 97 drops them all.
    assert old.ledger.kept > 0 and new.ledger.kept == 0
    assert smoke.manifest("verdicts/clean/laion_en@smoke") == old
    strict = smoke.manifest("verdicts/caption_quality/laion_en@large")
    assert strict.identity["inputs"]["verdicts/clean/laion_en"] == new.digest
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    asked = urllib.request.Request(
        f"{smoke.reports}/verdicts/clean/laion_en/large/", headers={"Authorization": f"Bearer {smoke.report_token}"}
    )
    with opener.open(asked, timeout=60) as page:
        assert "verdicts/clean/laion_en@large" in page.read().decode()


def test_a_stage_that_refuses_its_input_is_shown_as_that(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("link,text\nhttp://127.0.0.1:1/a.jpg,a picture of a cat\n")
    words = ("run", "data", "--recipe", "photos", "--urls", str(tmp_path / "list.csv"), "--version", "column")
    text = installation.internvl(*words, code=2)
    (line,) = (line for line in text.splitlines() if line.startswith("error:"))
    assert "'url'" in line and "link" in line
    assert "Traceback" not in text and "job" not in line.lower()
