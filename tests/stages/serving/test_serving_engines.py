"""The engine's command and words, and its process: watched, started again, ended with us."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gateways import LIMITS, stub
from installation import wait_for
from small_web import drawn

from infra.processes import start_time
from models.preprocess import stack
from stages.manifest import ManifestError
from stages.serving import bound_engine, engines, transformers_engine
from stages.serving.engine_process import EngineProcess, EngineState
from stages.serving.engines import QUIET, engine_for, vllm
from stages.serving.names import EngineName
from stages.serving.requests import ChatRequest, checked
from stages.serving.served_model import ServedModel


def request(model: ServedModel, **fields: object) -> ChatRequest:
    return checked({"messages": [{"role": "user", "content": "a"}], **fields}, model, LIMITS)


def test_without_vllm_transformers_computes(model: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "installed", lambda: False)
    monkeypatch.setattr(engines, "_gpu", lambda: True)
    found = engine_for(EngineName.AUTO, model, LIMITS, "cpu")
    assert found.name is EngineName.TRANSFORMERS and found.command[:2] == (sys.executable, "-P")
    assert found.command[-4:] == ("--socket", "engine.sock", "--device", "cpu")
    assert found.environment == QUIET and QUIET["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(ManifestError, match="--engine transformers"):
        engine_for(EngineName.VLLM, model, LIMITS)


def test_vllm_is_taken_where_it_and_a_gpu_are_there(model: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "installed", lambda: True)
    monkeypatch.setattr(engines, "_gpu", lambda: False)
    assert engine_for(EngineName.AUTO, model, LIMITS).name is EngineName.TRANSFORMERS
    monkeypatch.setattr(engines, "_gpu", lambda: True)
    assert engine_for(EngineName.AUTO, model, LIMITS).name is EngineName.VLLM
    assert engine_for(EngineName.AUTO, model, LIMITS, "cpu").name is EngineName.TRANSFORMERS


def test_the_command_of_vllm(model: ServedModel) -> None:
    bound, words = vllm(model, LIMITS).command[:3], vllm(model, LIMITS).command[3:]
    assert bound == (sys.executable, "-P", bound_engine.__file__)
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert words[0].endswith("/vllm") and words[1:3] == ("serve", "model")
    assert "--port" not in words and "--host" not in words and "--trust-remote-code" not in words
    assert options["--uds"] == "engine.sock" and options["--max-model-len"] == "512"
    assert json.loads(options["--limit-mm-per-prompt"]) == {"image": 3, "video": 0}


def test_without_a_temperature_the_likeliest_answer_is_asked_for(model: ServedModel) -> None:
    engine = engine_for(EngineName.TRANSFORMERS, model, LIMITS)
    plain = engine.body(request(model, max_tokens=9), model)
    assert plain["max_tokens"] == 9 and plain["model"] == "model" and plain["stream"] is True
    assert "generation_config" not in plain and "temperature" not in plain
    drawn = json.loads(
        engine.body(request(model, temperature=0.7, top_p=0.5, max_tokens=9), model)["generation_config"]
    )
    assert drawn["do_sample"] is True and (drawn["temperature"], drawn["top_p"]) == (0.7, 0.5)
    assert drawn["max_new_tokens"] == 9 and drawn["eos_token_id"] == model.generation["eos_token_id"]
    other = vllm(model, LIMITS).body(request(model, seed=5), model)
    assert other["temperature"] == 0.0 and other["seed"] == 5 and other["stream_options"] == {"include_usage": True}


def test_several_pictures_share_tiles_in_our_engine_and_thumbnails_are_made_of_the_pictures(
    model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoProcessor, GotOcr2ImageProcessorPil, InternVLProcessor

    monkeypatch.setattr(InternVLProcessor, "__call__", InternVLProcessor.__call__)  # to be put back
    transformers_engine.share_tiles()
    processor = AutoProcessor.from_pretrained(model.folder)
    processor.image_processor = GotOcr2ImageProcessorPil.from_pretrained(model.folder)
    images = [drawn(1, (480, 120)), drawn(2, (90, 300))]
    for shown in ([], images[:1], images):
        parts = [*({"type": "image", "image": each} for each in shown), {"type": "text", "text": "What?"}]
        found = processor.apply_chat_template(
            [{"role": "user", "content": parts}], tokenize=True, return_dict=True, return_tensors="pt"
        )
        wanted = [tile for each in shown for tile in model.tiles(each, len(shown))]
        assert len(wanted) == (0, 5, 6)[len(shown)]
        context = processor.image_token_id
        assert int((found["input_ids"] == context).sum()) == len(wanted) * model.tokens_per_tile
        if wanted:
            ours = stack(wanted, model.image_size)
            assert found["pixel_values"].shape == ours.shape
            assert torch.allclose(found["pixel_values"], ours, atol=1e-5)


def test_an_engine_that_does_not_start_says_its_last_words(model: ServedModel, place: Path) -> None:
    process = EngineProcess(stub("--broken"), model.folder, place)
    process.start()
    with pytest.raises(ManifestError, match=r"(?s)ended while it started.*no such weights"):
        asyncio.run(process.wait_until_ready(30))
    process.stop()


def test_an_engine_that_keeps_dying_is_given_up(model: ServedModel, place: Path) -> None:
    process = EngineProcess(stub("--broken"), model.folder, place)
    process.start()
    asyncio.run(process.watch(30, every=0.01))
    assert process.state is EngineState.FAILED and len(process.deaths) == 3
    assert process.log_tail.count("no such weights") == 3
    process.stop()


def test_an_engine_that_starts_too_slowly_once_is_started_again(model: ServedModel, place: Path) -> None:
    process = EngineProcess(stub("--slow-second"), model.folder, place)

    async def killed_and_watched() -> None:
        process.start()
        await process.wait_until_ready(30)
        assert process._process is not None
        process._process.kill()
        watching = asyncio.create_task(process.watch(2, every=0.01))
        while len(process.deaths) < 2 or process.state is not EngineState.READY:
            await asyncio.sleep(0.05)
        watching.cancel()

    try:
        asyncio.run(asyncio.wait_for(killed_and_watched(), 60))
        assert asyncio.run(process.answers())
    finally:
        process.stop()


def test_stopping_ends_the_engine(model: ServedModel, place: Path) -> None:
    process = EngineProcess(stub(), model.folder, place)
    process.start()
    asyncio.run(process.wait_until_ready(30))
    assert process.socket.exists() and asyncio.run(process.answers())
    assert process._process is not None
    pid = process._process.pid
    process.stop()
    assert not process.alive and start_time(pid) is None


def test_the_engine_ends_when_its_parent_does() -> None:
    program = (
        "import runpy, time\n"
        f"runpy.run_path({transformers_engine.__file__!r})['end_with_parent']()\n"
        "print('up', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-S", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None and child.stdout is not None
    assert child.stdout.readline() == b"up\n" and child.poll() is None
    child.stdin.close()
    assert wait_for("the child to end, long before its sleep is over", lambda: child.poll() is not None, 20)
    assert child.returncode == 0
    child.stdout.close()


def test_a_bound_program_ends_when_its_parent_is_killed() -> None:
    program = (
        "import subprocess, sys, time\n"
        f"words = [sys.executable, {bound_engine.__file__!r}, 'sleep', '60']\n"
        "print(subprocess.Popen(words).pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-S", "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_for("the program to run", lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n", 20)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for("the program to end, long before its sleep is over", lambda: start_time(child) is None, 20)
