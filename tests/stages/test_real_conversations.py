"""Real instruction data, as others publish it, from its files to training steps without a row lost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from own_data import make
from training_data import make_contrastive, make_language, tiny_tokenizer

from infra.cluster import InlineCluster
from infra.storage import Store
from stages import instruct
from stages.batches import ShardedSamples
from stages.conversation_sources import OwnConversations, mixture, pin
from stages.held_out import SHARE, divide
from stages.manifest import Ledger, Manifest
from stages.ref import Ref
from stages.training.audit import audit_run
from stages.training.schedule import Schedule
from stages.workspace import Output, Workspace

DATA = Path(__file__).resolve().parents[3] / "shared/data"
ROWS, CHARTS = DATA / "vqa-and-instructions.parquet", DATA / "chartqa-split.tar"

pytestmark = pytest.mark.skipif(not ROWS.is_file() or not CHARTS.is_file(), reason="../shared/data is not here")


def sources(store: Store, rows: Path) -> tuple[OwnConversations, OwnConversations]:
    """Return the questions without their pictures, which are not in the file, and the charts with theirs."""
    asked = OwnConversations(name="asked", format="rows", path=str(rows), text_only=True)
    charts = OwnConversations(name="charts", format="qa_tar", path=str(CHARTS), repeat=2, max_dynamic_patch=2)
    return pin(asked, store), pin(charts, store)


def texts(table: pa.Table) -> Iterator[str]:
    for name in ("question", "answer", "context"):
        yield from (text for text in table[name].to_pylist() if text)


def trained(store: Store, tmp_path: Path, rows: Path, steps: int) -> tuple[list[Manifest], Manifest]:
    """Run both through the data stage and a tiny chat model through so many steps."""
    own = sources(store, rows)
    data = [make(store, tmp_path, each) for each in own]
    spoken = tiny_tokenizer(2000, texts(pq.read_table(rows).slice(0, 4000)))
    language = make_language(
        store, tokenizer=spoken, hidden_size=16, num_hidden_layers=1, max_position_embeddings=4096
    )
    inputs = {each.ref.name: each for each in [*data, language, make_contrastive(store)]}
    here = Workspace(store=store, cluster=InlineCluster(), scratch=tmp_path / "scratch", inputs=inputs)
    schedule = Schedule(global_batch_size=8, steps=steps, learning_rate=1e-3)
    given: dict[str, Any] = {"held_out": 8, "context_length": 4096, "schedule": schedule}
    parameters = instruct.Parameters(**given, mixture=mixture(own, "square_root"))
    output = Output(store, Ref(name="checkpoints/instruct", version="t"), "instruct", parameters.model_dump())
    return data, instruct.run(parameters, output, here)


def check(store: Store, tmp_path: Path, data: list[Manifest], made: Manifest, steps: int) -> None:
    assert made.totals["left_out"] == {}, "every row that the data stage kept can be learned from"
    samples = [ShardedSamples(store, each, tmp_path / f"again-{each.ref.name}") for each in data]
    taught = [divide(each.fingerprints, SHARE, 0, each.name).taught for each in samples]
    assert made.ledger.kept == sum(map(len, taught)) > 0.9 * sum(each.ledger.kept for each in data)
    audited = audit_run(store, made)
    assert audited.sound and sum(each.read for each in audited.sources) == 8 * steps
    losses = [step["loss"] for step in made.parts[0].facts["curve"]]
    assert losses[-1] < losses[0]


def test_a_twentieth_of_the_questions_and_all_charts(store: Store, tmp_path: Path) -> None:
    whole = pq.read_table(ROWS)
    some = whole.take(list(range(0, whole.num_rows, 20)))
    pq.write_table(some, tmp_path / "some.parquet")
    (asked, charts), made = trained(store, tmp_path, tmp_path / "some.parquet", steps=5)
    assert asked.ledger == Ledger(listed=some.num_rows, kept=some.num_rows)
    assert charts.ledger == Ledger(listed=157, kept=157) and charts.totals["turns"] == 260
    check(store, tmp_path, [asked, charts], made, 5)


@pytest.mark.slow
def test_all_of_them_for_fifty_steps(store: Store, tmp_path: Path) -> None:
    (asked, charts), made = trained(store, tmp_path, ROWS, steps=50)
    assert asked.ledger == Ledger(listed=21393, kept=21392, rejected=1)
    assert asked.totals["first_bad_rows"] == [f"{ROWS}, row 14317: control_token: somebody says </s>"]
    assert charts.ledger == Ledger(listed=157, kept=157)
    check(store, tmp_path, [asked, charts], made, 50)
