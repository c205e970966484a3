"""Lineage: what stands on what, and what stands on something that is not so any more."""

from live_world import CHAIN, ask, chain, make, seen, tell

from infra.storage import Store
from pipelines.live.drawing import drawn
from pipelines.live.lineage import Graph, Standing, in_order, lineage


def graph(store: Store, running: list[str] | None = None) -> Graph:
    now = seen(store, running if running is not None else [])
    return lineage(now.view, now.doing)


def marked(found: Graph) -> dict[str, Standing]:
    return {key: node.standing for key, node in found.nodes.items() if node.standing is not Standing.WHOLE}


def test_a_whole_road_has_no_marks_and_every_input(store: Store) -> None:
    chain(store)
    found = graph(store)
    assert marked(found) == {}
    made_from = {key: set(inputs) for key, inputs in found.inputs.items()}
    assert made_from == {f"{name}@v1": {f"{each}@v1" for each in inputs} for _, name, inputs in CHAIN}


def test_what_was_made_from_an_older_one_is_stale_and_what_follows_rests_on_it(store: Store) -> None:
    chain(store)
    old = make_again(store)
    found = graph(store)
    assert marked(found) == {
        f"pool/coyo {old}": Standing.MISSING,
        "signals/coyo@v1": Standing.STALE,
        "shards/clean@v1": Standing.STALE,
        "checkpoints/contrastive@v1": Standing.RESTS,
        "evaluations/contrastive@v1": Standing.RESTS,
    }
    assert "was replaced since" in found.nodes[f"pool/coyo {old}"].why
    assert "made from pool/coyo as it was before" in found.nodes["signals/coyo@v1"].why


def make_again(store: Store) -> str:
    from stages.manifest import load
    from stages.ref import Ref

    old = load(store, Ref(name="pool/coyo", version="v1")).digest[:12]
    store.remove("pool/coyo/v1/manifest.json")
    make(store, "pool/coyo", "v1", ("listing/coyo",), again=1)
    return old


def test_an_input_that_was_removed_is_missing_and_spoils_nothing(store: Store) -> None:
    chain(store)
    store.remove("listing/coyo/v1")
    found = graph(store)
    ((key, standing),) = marked(found).items()
    assert key.startswith("listing/coyo ") and standing is Standing.MISSING
    assert found.nodes[key].why.endswith("was removed") and found.inputs["pool/coyo@v1"] == (key,)


def test_versions_share_what_they_were_both_made_from(store: Store) -> None:
    chain(store)
    make(store, "shards/clean", "v2", ("signals/coyo@v1", "pool/coyo@v1"), other=1)
    found = graph(store).of_version("v2")
    assert set(found.nodes) == {"shards/clean@v2", "signals/coyo@v1", "pool/coyo@v1", "listing/coyo@v1"}
    assert graph(store).versions() == ["v2", "v1"]
    around = graph(store).around("shards/clean@v1")
    assert "checkpoints/contrastive@v1" in around.nodes and "shards/clean@v2" not in around.nodes
    picture = str(drawn(found, "v2"))
    assert picture.count("≠ v1") == 3 and picture.count("≠ v2") == 0


def test_what_is_being_made_stands_among_the_rest(store: Store) -> None:
    chain(store)
    inputs = ("shards/caption_quality@v1", "checkpoints/contrastive@v1")
    ref = ask(store, "generative", "checkpoints/generative@v1", *inputs)
    tell(store, ref, 0, 100, "steps", "waiting for 8 GPUs, 0 free")
    found = graph(store, running=[str(ref)])
    assert marked(found) == {str(ref): Standing.WAITING, "shards/caption_quality@v1": Standing.MISSING}
    assert marked(graph(store))[str(ref)] is Standing.STOPPED


def test_marks_are_signs_and_dashes_and_not_colours_alone(store: Store) -> None:
    chain(store)
    make_again(store)
    picture = str(drawn(graph(store)))
    for sign in ("⚠ stale", "⚠ rests on stale", "✗ missing"):
        assert sign in picture
    assert picture.count('<a href="/') == len(CHAIN) and 'href="/pool/coyo/v1/"' in picture


def test_inputs_come_first_also_where_specifications_run_in_a_circle(store: Store) -> None:
    chain(store)
    order = in_order(graph(store))
    assert order.index("pool/coyo@v1") < order.index("signals/coyo@v1") < order.index("evaluations/contrastive@v1")
    ask(store, "score", "signals/a@v1", "signals/b@v1")
    ask(store, "score", "signals/b@v1", "signals/a@v1")
    found = graph(store)
    assert sorted(in_order(found)) == sorted(found.nodes)
    assert drawn(found)
