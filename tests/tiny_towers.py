"""The smallest towers that a step can be taken with."""

from models.config import InternVLConfig, TextConfig, VisionConfig
from models.step_shape import Shape

TOWERS = InternVLConfig(
    vision=VisionConfig(
        image_size=16, patch_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    ),
    text=TextConfig(vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2),
    embed_dim=8,
    attn_pool_num_heads=2,
    num_query_token=3,
)
GENERATIVE = Shape("generative", towers=TOWERS, tokens=6)
