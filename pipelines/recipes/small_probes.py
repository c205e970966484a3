"""How the heads of small models are trained where a user has a few hundred pictures and two cores."""

from typing import Any

from stages.evaluations.registry import ProtocolName

SMALL_PROBES: dict[ProtocolName, dict[str, Any]] = {
    # Features are computed once, and ten epochs of a thousand pictures would be ten steps.
    "linear_probe": {"augment": False, "batch_size": 128, "epochs": 30, "warmup_epochs": 3},
    # The paper's 80,000 iterations at 504 pixels take two weeks with a linear head and thirty years with UperNet.
    "segmentation": {"iterations": 100, "crop_size": 96, "batch_size": 8, "channels": 32, "learning_rate": 1e-3},
}
"""By protocol, in place of the paper's; pages name every such departure."""
