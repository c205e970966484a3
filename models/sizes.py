"""The published systems of the InternVL family, as data.

Compositions come from arXiv:2312.14238 (InternViT-6B, InternVL-C, -G and the first chat models), arXiv:2404.16821
(1.5), arXiv:2410.16261 (Mini-InternVL) and the model cards of the organisation OpenGVLab. A language model's
`rms_norm_eps`, `rope_theta` and `max_position_embeddings` are those of its own `config.json`: they decide what it
computes and do not change a count.
"""

from typing import Literal

from models.composition import ChatPart, Language, Layout, Size
from models.config import (
    INTERN_VIT_6B_224,
    INTERN_VIT_300M_448,
    InternVLConfig,
    TextConfig,
    VisionConfig,
)
from models.variants import derive


def _vision(size: int, layers: int = 48) -> VisionConfig:
    return INTERN_VIT_6B_224.model_copy(update={"image_size": size, "num_hidden_layers": layers})


VIT_6B_448_V1_0 = _vision(448)
VIT_6B_448 = _vision(448, layers=45)
"""The last three blocks dropped: from 448px-V1-2 on."""

LLAMA_7B_TEXT = TextConfig(
    vocab_size=49954, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32
)
"""The multilingual LLaMA of the text tower (Chinese-Alpaca)."""
INTERNVL_14B = InternVLConfig(vision=INTERN_VIT_6B_224, text=LLAMA_7B_TEXT, embed_dim=768)


def _language(
    source: str,
    hidden_size: int,
    layers: int,
    heads: int,
    key_heads: int,
    intermediate_size: int,
    vocab_size: int,
    *,
    layout: Layout = "llama",
    eps: float = 1e-5,
    theta: float = 10000.0,
    positions: int = 4096,
) -> Language:
    shape = TextConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        rms_norm_eps=eps,
        rope_theta=theta,
        max_position_embeddings=positions,
        qkv_bias=layout == "qwen2",
    )
    return Language(source=source, layout=layout, shape=shape)


# Vocabularies count the nine tokens that the chat models add; Vicuna has none of them.
VICUNA_7B = _language("lmsys/vicuna-7b-v1.5", 4096, 32, 32, 32, 11008, 32000)
VICUNA_13B = _language("lmsys/vicuna-13b-v1.5", 5120, 40, 40, 40, 13824, 32000)
# Never published on its own, and its vocabulary nowhere named: this one gives both published sums, 13.12B and 19.11B.
LLAMA2_13B_CHINESE = _language("an in-house LLaMA2-13B chat model for Chinese", 5120, 40, 40, 40, 13824, 41800)
YI_34B = _language("NousResearch/Nous-Hermes-2-Yi-34B", 7168, 60, 56, 8, 20480, 64011, theta=5e6)
LLAMA3_70B = _language(
    "NousResearch/Hermes-2-Theta-Llama-3-70B", 8192, 80, 64, 8, 28672, 128265, theta=5e5, positions=8192
)
QWEN2_0_5B = _language(
    "Qwen/Qwen2-0.5B-Instruct", 896, 24, 14, 2, 4864, 151655, layout="qwen2", eps=1e-6, theta=1e6, positions=32768
)
PHI3_MINI = _language(
    "microsoft/Phi-3-mini-128k-instruct", 3072, 32, 32, 32, 8192, 32020, layout="phi3", positions=131072
).model_copy(update={"factors_elsewhere": True})
INTERNLM2_1_8B = _language(
    "internlm/internlm2-chat-1_8b", 2048, 24, 16, 8, 8192, 92553, layout="internlm2", theta=1e6, positions=32768
)
INTERNLM2_5_7B = _language(
    "internlm/internlm2_5-7b-chat", 4096, 32, 32, 8, 14336, 92553, layout="internlm2", theta=1e6, positions=32768
)
INTERNLM2_20B = _language(
    "internlm/internlm2-chat-20b", 6144, 48, 48, 8, 16384, 92553, layout="internlm2", theta=1e6, positions=32768
)


def variant(name: str, depth: int, ratio: int, head_dim: int, target: float = 6.0e9) -> Size:
    """Return one encoder of the hyper-parameter study (arXiv:2312.14238, table 11).

    Width and heads follow from the scale by the rule of `models.variants`.

    Args:
        name: How it is called.
        depth: Blocks.
        ratio: Width of the MLP over width of the model.
        head_dim: Width of one head.
        target: Wanted parameters.
    """
    return Size(name=name, kind="vision", vision=derive(depth, ratio, head_dim, target).config(INTERN_VIT_6B_224))


VARIANTS = (
    variant("variant-1", depth=32, ratio=4, head_dim=64),
    variant("variant-2", depth=48, ratio=4, head_dim=64),
    variant("variant-3", depth=48, ratio=4, head_dim=128).model_copy(update={"note": "the chosen one"}),
    variant("variant-4", depth=48, ratio=8, head_dim=64),
    variant("variant-5", depth=64, ratio=4, head_dim=64),
    variant("variant-6", depth=80, ratio=4, head_dim=64),
)


def _encoder(name: str, config: VisionConfig, *aliases: str) -> Size:
    return Size(name=name, kind="vision", vision=config, aliases=aliases)


def _towers(name: str, size: int, *aliases: str, generative: bool = True) -> Size:
    towers = INTERNVL_14B.model_copy(update={"vision": _vision(size)})
    kind: Literal["generative", "contrastive"] = "generative" if generative else "contrastive"
    return Size(name=name, kind=kind, vision=towers.vision, towers=towers, aliases=aliases)


def _first_chat(name: str, size: int, language: Language, *aliases: str, queries: bool = False) -> Size:
    """Return a chat model of 2023: the output of block 45 of 48, no unshuffling."""
    vision = _vision(size)
    part = ChatPart(
        connector="two_mlp" if queries else "mlp",
        downsample_ratio=1.0,
        select_layer=-4,
        template="vicuna_v1",
        context_length=2048,
    )
    towers = INTERNVL_14B.model_copy(update={"vision": vision}) if queries else None
    return Size(
        name=name, kind="chat", vision=vision, towers=towers, language=language, chat=part, aliases=aliases,
        released=not queries, note="with QLLaMA, of the paper alone" if queries else "",
    )  # fmt: skip


def _fixed_chat(name: str, vision: VisionConfig, language: Language, template: str, note: str = "") -> Size:
    """Return a chat model of one fixed picture size: 1.1 and 1.2."""
    select = -4 if vision.num_hidden_layers == 48 else -1
    part = ChatPart(ps_version="v1", select_layer=select, template=template, context_length=2048)
    return Size(name=name, kind="chat", vision=vision, language=language, chat=part, note=note)


def _tiled_chat(
    name: str, vision: VisionConfig, language: Language, template: str, context: int, *aliases: str,
    released: bool = True,
) -> Size:  # fmt: skip
    """Return a chat model of 1.5 and 2: up to 12 tiles and a thumbnail."""
    part = ChatPart(template=template, max_dynamic_patch=12, context_length=context)
    return Size(
        name=name, kind="chat", vision=vision, language=language, chat=part, aliases=aliases, released=released
    )


_ALL = (
    _encoder("InternViT-6B-224px", INTERN_VIT_6B_224),
    _encoder("InternViT-6B-448px-V1-0", VIT_6B_448_V1_0),
    _encoder("InternViT-6B-448px-V1-2", VIT_6B_448),
    _encoder("InternViT-6B-448px-V1-5", VIT_6B_448, "InternViT-6B-448px-V2_5"),
    _encoder("InternViT-300M-448px", INTERN_VIT_300M_448, "InternViT-300M-448px-V2_5"),
    _towers("InternVL-C", 224, "InternVL-C-13B-224px", generative=False),
    _towers("InternVL-14B-224px", 224, "InternVL-G"),
    _towers("InternVL-14B-Flickr30K-FT-364px", 364, "InternVL-14B-FlickrCN-FT-364px"),
    _first_chat("InternVL-Chat-QLLaMA-7B", 224, VICUNA_7B, queries=True),
    _first_chat("InternVL-Chat-QLLaMA-13B", 336, VICUNA_13B, queries=True),
    _first_chat("InternVL-Chat-V1-0-7B", 336, VICUNA_7B, "InternVL-Chat-ViT-6B-Vicuna-7B"),
    _first_chat("InternVL-Chat-V1-0-13B", 336, VICUNA_13B, "InternVL-Chat-ViT-6B-Vicuna-13B"),
    _first_chat("InternVL-Chat-V1-0-13B-448px", 448, VICUNA_13B, "InternVL-Chat-ViT-6B-Vicuna-13B-448px"),
    _fixed_chat(
        "InternVL-Chat-V1-1", VIT_6B_448_V1_0, LLAMA2_13B_CHINESE, "internvl_zh", note="vocabulary assumed: 41,800"
    ),
    _fixed_chat("InternVL-Chat-V1-2", VIT_6B_448, YI_34B, "Hermes-2"),
    _fixed_chat("InternVL-Chat-V1-2-Plus", VIT_6B_448, YI_34B, "Hermes-2"),
    _tiled_chat("InternVL-Chat-V1-5", VIT_6B_448, INTERNLM2_20B, "internlm2-chat", 4096),
    _tiled_chat("InternVL-Chat-V1-5-Plus", VIT_6B_448, YI_34B, "Hermes-2", 4096, released=False),
    _tiled_chat("Mini-InternVL-Chat-2B-V1-5", INTERN_VIT_300M_448, INTERNLM2_1_8B, "internlm2-chat", 8192),
    _tiled_chat("Mini-InternVL-Chat-4B-V1-5", INTERN_VIT_300M_448, PHI3_MINI, "phi3-chat", 8192),
    _tiled_chat("InternVL2-1B", INTERN_VIT_300M_448, QWEN2_0_5B, "Hermes-2", 8192),
    _tiled_chat("InternVL2-2B", INTERN_VIT_300M_448, INTERNLM2_1_8B, "internlm2-chat", 8192),
    _tiled_chat("InternVL2-4B", INTERN_VIT_300M_448, PHI3_MINI, "phi3-chat", 8192),
    _tiled_chat("InternVL2-8B", INTERN_VIT_300M_448, INTERNLM2_5_7B, "internlm2-chat", 8192),
    _tiled_chat("InternVL2-26B", VIT_6B_448, INTERNLM2_20B, "internlm2-chat", 8192),
    _tiled_chat("InternVL2-40B", VIT_6B_448, YI_34B, "Hermes-2", 8192),
    _tiled_chat("InternVL2-Llama3-76B", VIT_6B_448, LLAMA3_70B, "internlm2-chat", 8192, "InternVL2-76B"),
    *VARIANTS,
)
SIZES: dict[str, Size] = {size.name: size for size in _ALL}

UNPUBLISHED = {
    "InternVL2-Pro": "InternVL2-Pro (about 108B) was never released: only a service gave access to it, and "
    "its language model is not named, so there is no composition to count"
}


def find_size(name: str) -> Size | None:
    """Return a size by its name or another name of it, in either case of letters; None where there is none.

    Raises:
        ValueError: The model is known and its composition was never published.
    """
    wanted = name.removeprefix("OpenGVLab/").lower()
    for known, reason in UNPUBLISHED.items():
        if known.lower() == wanted:
            raise ValueError(reason)
    for size in _ALL:
        if wanted in (each.lower() for each in (size.name, *size.aliases)):
            return size
    return None
