"""What a training begins with, as the study takes it for its attention's first numbers."""

import torch

from models.config import InternVLConfig, TextConfig
from models.internvl import InternVL
from models.variants import derive
from stages.study.measuring import untrained
from stages.study.parameters import TRAINING, Parameters


def test_the_untrained_encoder_is_the_one_that_training_begins_with() -> None:
    given = Parameters().trained(derive(2, 4, 8, 8e3), seed=5)
    text = TextConfig(vocab_size=20, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1)
    config = InternVLConfig(vision=given.vision(), text=text, embed_dim=8, attn_pool_num_heads=1)
    torch.manual_seed(5)
    expected = InternVL(config, generative=False).vision_model.state_dict()
    found = untrained(given.vision(), 5, TRAINING.start_vision).state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], value) for name, value in found.items())
    other = untrained(given.vision(), 6, None).state_dict()
    assert any(not torch.equal(other[name], value) for name, value in found.items())
