"""Which engine computes, with which command, and what its requests look like."""

import importlib.util
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.manifest import ManifestError
from stages.serving import bound_engine, transformers_engine
from stages.serving.limits import Limits
from stages.serving.messages import resized
from stages.serving.names import EngineName
from stages.serving.requests import ChatRequest
from stages.serving.served_model import ServedModel

MODEL = "model"
"""How an engine calls the one model it has: a link of this name in its own folder."""
SOCKET = "engine.sock"


QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
}
"""Environment of every engine: it looks for nothing on the web and reports to nobody."""


@dataclass(frozen=True)
class Engine:
    """A program that answers chat requests about one folder at a socket file.

    Attributes:
        name: Which program it is.
        command: Its words; the current folder is the engine's own, in which `model` is the folder with the weights.
        environment: What is added to ours.
        shares_tiles: Whether it lets several pictures share the tiles of one, as in training.
    """

    name: EngineName
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=lambda: dict(QUIET))
    shares_tiles: bool = False

    def body(self, request: ChatRequest, model: ServedModel) -> dict[str, Any]:
        """Return a checked request in this engine's words; answers are always streamed, so that they can be stopped.

        A request without a temperature gets the likeliest answer, as evaluation does.
        """
        turns = request.turns if self.shares_tiles else resized(request.turns, model)
        body: dict[str, Any] = {
            "model": MODEL,
            "messages": [turn.message() for turn in turns],
            "max_tokens": request.answer_tokens,
            "stream": True,
        }
        sampled = {"temperature": request.temperature, "top_p": request.top_p}
        if self.name is EngineName.VLLM:
            body |= {**sampled, "stream_options": {"include_usage": True}}
        elif request.temperature > 0:
            # `transformers serve` takes a temperature, but leaves sampling off where the model's own file says so.
            chosen = {**model.generation, **sampled, "do_sample": True, "max_new_tokens": request.answer_tokens}
            body["generation_config"] = json.dumps(chosen)
        if request.seed is not None:
            body["seed"] = request.seed
        return body


def installed(program: str = "vllm") -> bool:
    """Say whether vLLM can be imported by this Python."""
    return importlib.util.find_spec(program) is not None


def engine_for(name: EngineName, model: ServedModel, limits: Limits, device: str = "auto") -> Engine:
    """Return the engine of a name; `auto` is vLLM where it and a GPU are there, else transformers.

    Raises:
        ManifestError: It is not installed, or cannot be used so.
    """
    if name is EngineName.AUTO:
        name = EngineName.VLLM if installed() and _gpu() and device in ("auto", "cuda") else EngineName.TRANSFORMERS
    if name is EngineName.TRANSFORMERS:
        # -P: the program's own folder is no place to import from, its files would hide packages of the same names.
        program = (sys.executable, "-P", str(Path(transformers_engine.__file__).resolve()))
        return Engine(name, (*program, MODEL, "--socket", SOCKET, "--device", device), shares_tiles=True)
    if not installed():
        raise ManifestError(
            "vLLM is not installed in this environment, and is not part of the lock; install it on a machine with a "
            "GPU, or serve with --engine transformers"
        )
    return vllm(model, limits)


def vllm(model: ServedModel, limits: Limits) -> Engine:
    """Return the command of vLLM; it needs a GPU, and a version that knows socket files (`--uds`)."""
    command = (
        sys.executable, "-P", str(Path(bound_engine.__file__).resolve()),
        str(Path(sys.executable).with_name("vllm")), "serve", MODEL,
        "--uds", SOCKET,
        "--served-model-name", MODEL,
        "--max-model-len", str(model.context),
        "--limit-mm-per-prompt", json.dumps({"image": limits.pictures, "video": 0}),
        "--chat-template-content-format", "openai",
    )  # fmt: skip
    return Engine(EngineName.VLLM, command)


def _gpu() -> bool:
    """Say whether this machine lends us a GPU, without loading torch for the question."""
    return os.path.exists("/dev/nvidiactl") and os.environ.get("CUDA_VISIBLE_DEVICES") != ""
