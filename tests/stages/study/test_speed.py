"""What an encoder costs, counted, and how timings are summed."""

import torch

from models.config import VisionConfig
from models.intern_vit import InternVisionModel
from models.variants import derive
from stages.study.parameters import Parameters
from stages.study.speed import activation_bytes, exact_cost, measure_speed, summed


def config(depth: int) -> VisionConfig:
    return VisionConfig(
        image_size=16, patch_size=8, hidden_size=16, num_hidden_layers=depth, num_attention_heads=2,
        intermediate_size=32,
    )  # fmt: skip


def test_what_is_kept_for_the_backward_pass_grows_with_pictures_and_depth_and_leaves_weights_out() -> None:
    kept = {
        (depth, batch): activation_bytes(InternVisionModel(config(depth)), torch.zeros(batch, 3, 16, 16))
        for depth in (1, 2, 3)
        for batch in (1, 2)
    }
    assert kept[3, 1] - kept[2, 1] == kept[2, 1] - kept[1, 1] > 0, "every block keeps as much"
    assert 1.7 < kept[2, 2] / kept[2, 1] <= 2.0
    # A block's input, norms, queries, keys, values, MLP: at least ten tensors of its width for its five tokens.
    assert kept[2, 1] - kept[1, 1] > 10 * 5 * 16 * 4


def test_cost_is_the_models_own() -> None:
    found = exact_cost(config(2))
    assert found["parameters"] == sum(each.numel() for each in InternVisionModel(config(2)).parameters())
    assert found["macs"] > 2 * 5 * 16 * 16 * (4 + 2 * 2)


def test_the_fastest_batch_is_the_saturated_one() -> None:
    found = summed({1: [10.0, 12.0, 11.0], 8: [50.0, 70.0, 60.0], 32: [40.0, 41.0, 42.0]})
    assert found["unsaturated"] == {"batch": 1, "value": 11.0, "low": 10.0, "high": 12.0}
    assert found["saturated"] == {"batch": 8, "value": 60.0, "low": 50.0, "high": 70.0}


def test_every_variant_is_timed_and_the_deeper_one_keeps_more() -> None:
    parameters = Parameters.model_validate({"batches": [1, 2], "rounds": 1})
    variants = [derive(1, 4, 8, 8e3), derive(3, 4, 8, 24e3)]
    found = measure_speed(variants, parameters)
    assert set(found) == {each.name for each in variants}
    small, large = (found[each.name] for each in variants)
    assert (
        large["activation_bytes"] > small["activation_bytes"] and large["training_bytes"] == 16 * large["parameters"]
    )
    assert large["macs"] > small["macs"] and large["speed"]["unsaturated"]["batch"] == 1
