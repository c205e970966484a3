"""The strict step judges what the light step kept, and refuses a part that the light step never saw."""

from pathlib import Path

import pytest
from judged_store import judge, policy_of, store_signals

from infra.cluster import InlineCluster
from infra.storage import Store
from stages.manifest import ManifestError
from stages.materialize import StageSpec, materialize
from stages.ref import Ref


def test_a_part_that_the_light_step_did_not_judge_is_refused_not_judged_whole(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store_signals(store, "coyo", "narrow", parts=2)
    judge(store, policy_of("clean", "coyo"), "coyo", "narrow")
    store_signals(store, "coyo", "wide", parts=3)
    policy = policy_of("caption_quality", "coyo").model_dump(mode="json")
    spec = StageSpec(
        stage="filter",
        artifact=Ref(name="verdicts/caption_quality/coyo", version="wide"),
        parameters={"source": "coyo", "policy": policy},
        inputs=(
            Ref(name="signals/coyo", version="wide"),
            Ref(name="pool/coyo", version="wide"),
            Ref(name="verdicts/clean/coyo", version="narrow"),
        ),
    )
    says = r"verdicts/clean/coyo@narrow has no part 000002, which signals/coyo@wide scores; filter with policy clean"
    with pytest.raises(ManifestError, match=says):
        materialize(spec, store, InlineCluster(), progress=False)
