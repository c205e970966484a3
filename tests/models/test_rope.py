"""How positions are stretched is read from configurations, written to them, and refused by field."""

from typing import Any

import pytest
import torch
from decoder_configs import LLAMA, PHI3, SCALED, SHORT_FACTOR, SU, phi3_config
from pydantic import ValidationError
from transformers import InternVLConfig, InternVLForConditionalGeneration

from models.chat import InternVLChat
from models.config import TextConfig
from models.native_config import decoder_config, native_chat_config, native_decoder
from models.official_config import text_of
from models.renaming import shapes
from models.rope import LongRope, rope_scaling_of
from models.rotary import attention_factor
from models.sizes import SIZES
from models.weights import chat_to_native


def test_every_kind_is_written_as_it_was_read() -> None:
    for fields, kind in ((PHI3, "phi3"), ({**PHI3, "sliding_window": 5}, "phi3"), (LLAMA, "llama")):
        read = text_of(fields)
        written = decoder_config(read, eos_token_id=2)
        assert written["model_type"] == kind and text_of(written) == read
    for scaling in SCALED.values():
        read = text_of({**LLAMA, "rope_scaling": scaling})
        assert text_of(decoder_config(read)) == read and read.rope_scaling is not None
        assert TextConfig.model_validate_json(read.model_dump_json()) == read
    read = text_of(PHI3)
    assert TextConfig.model_validate_json(read.model_dump_json()) == read
    kept = phi3_config(PHI3).to_dict()
    assert text_of({**kept, "architectures": ["Phi3ForCausalLM"]}) == read, "as transformers itself writes it"


REFUSED = {
    "kind": ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, r"rope_scaling.rope_type 'yarn' .* own class"),
    "newer field": (
        {"rope_scaling": None, "rope_parameters": {"rope_type": "llama3", "factor": 8.0}},
        r"rope_parameters.rope_type 'llama3' is not computed",
    ),
    "part of a head": ({"partial_rotary_factor": 0.75}, r"partial_rotary_factor 0.75 .* own class"),
    "missing list": ({"rope_scaling": {"type": "su", "short_factor": SHORT_FACTOR}}, r"long_factor: Field required"),
    "wrong list": ({"rope_scaling": {**SU, "long_factor": [1.0, -2.0, 1.0, 1.0]}}, r"greater than 0.* put it right"),
    "length of a list": ({"rope_scaling": {**SU, "long_factor": [1.0]}}, r"long_factor holds 1 numbers.* have 4"),
    "unknown word": ({"rope_scaling": {**SU, "short_mscale": 1.2}}, r"short_mscale: Extra"),
    "no factor": ({"rope_scaling": {"type": "dynamic"}}, r"type 'dynamic' .*factor: Field required"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_computed_is_refused_by_field_with_the_next_move(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        text_of({**PHI3, **change})


def test_a_window_where_nothing_reads_it_is_passed_over_or_refused() -> None:
    assert text_of({**LLAMA, "sliding_window": 3}).sliding_window is None
    qwen2 = {**LLAMA, "architectures": ["Qwen2ForCausalLM"], "sliding_window": 3}
    assert text_of({**qwen2, "use_sliding_window": False}).sliding_window is None
    with pytest.raises(ValueError, match="use_sliding_window True is not computed here"):
        text_of({**qwen2, "use_sliding_window": True})
    with pytest.raises(ValueError, match="original_max_position_embeddings"):
        text_of({**LLAMA, "rope_scaling": SU})
    windowed = text_of(LLAMA).model_copy(update={"sliding_window": 3})
    assert native_decoder(windowed) == "Phi3ForCausalLM"
    for change in ({"qkv_bias": True}, {"rope_scaling": rope_scaling_of({"rope_scaling": SCALED["linear"]}, "")}):
        with pytest.raises(ValueError, match=r"transformers has no decoder with .*sliding_window.*leave one"):
            native_decoder(windowed.model_copy(update=change))
    with pytest.raises(ValidationError, match="needs heads of 4"):
        text_of({**LLAMA, "num_attention_heads": 16, "num_key_value_heads": 16, "rope_scaling": SCALED["dynamic 2"]})


def test_the_published_4b_model_has_transformers_names_shapes_and_count() -> None:
    lists = LongRope(short_factor=(1.0,) * 48, long_factor=(2.0,) * 48, original_max_position_embeddings=4096)
    config = SIZES["InternVL2-4B"].chat_config(image_context_token_id=32013, eos_token_id=32007, rope_scaling=lists)
    native = native_chat_config(
        config.vision,
        config.text,
        image_token_id=32013,
        downsample_ratio=config.downsample_ratio,
        select_layer=config.select_layer,
    )
    with torch.device("meta"):
        ours = chat_to_native(InternVLChat(config).state_dict(), native_decoder(config.text))
        theirs = InternVLForConditionalGeneration(InternVLConfig(**native))
    assert shapes(ours) == shapes(theirs.state_dict())
    assert sum(value.numel() for value in theirs.parameters()) == 4_146_855_936
    assert theirs.model.language_model.rotary_emb.attention_scaling == attention_factor(config.text)
