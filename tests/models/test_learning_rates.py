"""Which weights of InternVL learn how fast, and which decay: the whole table."""

import torch

from models.config import InternVLConfig, TextConfig, VisionConfig
from models.internvl import InternVL
from models.learning_rates import LearningRates, decays

CONFIG = InternVLConfig(
    vision=VisionConfig(
        image_size=16, patch_size=8, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8
    ),
    text=TextConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=3, num_attention_heads=2),
    embed_dim=4,
    attn_pool_num_heads=2,
)
# Weight, share with layer_decay 0.5, text 0.1 and patches at half, whether it decays.
TABLE = """
query_tokens 1/16 no
text_projection 1 yes
logit_scale 1/16 no
vision_model.embeddings.class_embedding 1/8 no
vision_model.embeddings.position_embedding 1/8 no
vision_model.embeddings.patch_embedding.weight 1/16 yes
vision_model.embeddings.patch_embedding.bias 1/16 no
vision_model.encoder.layers.0.attn.qkv.weight 1/4 yes
vision_model.encoder.layers.0.ls1 1/4 no
vision_model.encoder.layers.1.norm2.weight 1/2 no
vision_model.encoder.layers.1.mlp.fc2.weight 1/2 yes
qllama.model.embed_tokens.weight 0.1/16 yes
qllama.model.layers.0.cross_attn.q_proj.weight 0.1/8 yes
qllama.model.layers.0.self_attn.q_proj.weight 0.1/8 yes
qllama.model.layers.2.mlp.up_proj.weight 0.1/2 yes
qllama.model.layers.2.input_layernorm.weight 0.1/2 no
qllama.model.norm.weight 0.1 no
qllama.lm_head.weight 0.1 yes
clip_projector.norm1_q.weight 1 no
clip_projector.cross_attn.q.weight 1 yes
clip_projector.cross_attn.q_bias 1 no
clip_projector2.cross_attn.proj.weight 1 yes
itm_head.weight 1 yes
itm_head.bias 1 no
"""


def number(text: str) -> float:
    over, _, under = text.partition("/")
    return float(over) / float(under or 1)


def test_the_table_of_rates_and_decay() -> None:
    rates = LearningRates(vision_layers=2, text_layers=3, text=0.1, patch_embedding=0.5, layer_decay=0.5)
    weights = dict(InternVL(CONFIG).named_parameters())
    rows = [line.split() for line in TABLE.split("\n") if line]
    assert {name for name, *_ in rows} <= set(weights)
    for name, share, decay in rows:
        assert abs(rates.of(name) - number(share)) < 1e-12, name
        assert decays(name, weights[name]) == (decay == "yes"), name


def test_without_decay_only_the_text_tower_is_slow() -> None:
    rates = LearningRates(vision_layers=2, text_layers=3, text=0.2)
    assert {rates.of(name) for name, _ in InternVL(CONFIG).named_parameters()} == {0.2, 1.0}
    assert rates.of("logit_scale") == rates.of("text_projection") == 1.0


def test_a_learned_token_never_decays_though_it_is_no_vector() -> None:
    token = torch.nn.Parameter(torch.zeros(1, 1, 8))
    assert not decays("model.vision_model.embeddings.class_embedding", token)
    assert decays("model.vision_model.embeddings.some_kernel", token)
