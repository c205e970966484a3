"""The shapes in the annotations of models/ are true: they are checked here at every call, and nowhere else."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FILES = [
    "attention",
    "chat_model",
    "contrastive_loss",
    "contrastive_objective",
    "frozen_towers",
    "intern_vit",
    "internvl",
    "layers",
    "losses",
    "mining",
    "negatives",
    "packing",
    "plain_generative",
    "preprocess",
    "rotary",
]
# A compiler cannot trace through the checks; the other hands in a wrong shape and waits for its own error.
WITHOUT = "not compiled and not a_packing_knows_its_samples"
# Processes that are started anew import the models unchecked: they would only take their time.
WITHOUT += " and not two_processes_have and not processes_see and not by_all_processes"

# PyTorch spreads each of these over what is missing and says nothing.
MISTAKES = {
    "keys of one sample for two": "attention(torch.ones(2, 4, 9, 8), torch.ones(1, 4, 9, 8), torch.ones(1, 4, 9, 8))",
    "a scale that is no scalar": "info_nce(torch.eye(3), torch.eye(3), torch.ones(1))",
    "one label for two rows": "learned_places(torch.ones(1, 5).long(), torch.ones(2, 5).long(), 0)",
    "tokens that are no whole numbers": "causal_mask(torch.ones(2, 5))",
    "a picture of one sample for two queries": "pool(torch.ones(2, 5, 8), torch.ones(1, 5, 8), torch.ones(1, 5, 8))",
}
RIGHT = {
    "attention": "attention(torch.ones(2, 4, 9, 8), torch.ones(2, 2, 9, 8), torch.ones(2, 2, 9, 8))",
    "contrast": "info_nce(torch.eye(3), torch.eye(3), torch.tensor(1.0))",
}
SCRIPT = """
import sys
from jaxtyping import TypeCheckError, install_import_hook
if sys.argv[1] == "checked":
    install_import_hook("models", "beartype.beartype")
import torch
from models.attention import attention
from models.contrastive_loss import info_nce
from models.packing import learned_places
from models.pooling import AttentionPooling
from models.qllama import causal_mask
pool = AttentionPooling(8, 2, 4).cross_attn
for call in sys.argv[2:]:
    try:
        eval(call)
        print("taken")
    except TypeCheckError:
        print("refused")
"""


def judged(mode: str) -> dict[str, str]:
    calls = {**MISTAKES, **RIGHT}
    command = [sys.executable, "-c", SCRIPT, mode, *calls.values()]
    done = subprocess.run(command, cwd=TESTS.parents[1], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(calls, done.stdout.split(), strict=True))


def test_wrong_shapes_are_refused_where_they_are_checked_and_only_there() -> None:
    assert judged("checked") == {**dict.fromkeys(MISTAKES, "refused"), **dict.fromkeys(RIGHT, "taken")}
    assert set(judged("plain").values()) == {"taken"}


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_all_that_the_models_do_has_the_shapes_they_say() -> None:
    # A process of its own: here the models may be imported already, and are then beyond checking.
    command = [sys.executable, "-m", "pytest", "--jaxtyping-packages=models,beartype.beartype", "-k", WITHOUT]
    files = [str(TESTS / f"test_{name}.py") for name in FILES]
    done = subprocess.run(
        [*command, *files], cwd=TESTS.parents[1], capture_output=True, text=True, timeout=220, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
