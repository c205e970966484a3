"""How rotary positions are stretched for texts longer than a model was first trained for: as data, read and written.

The kinds and their fields carry the names of `transformers`; `models/rotary.py` computes them.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError


class _Rope(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LinearRope(_Rope):
    """Every position counts 1/factor."""

    rope_type: Literal["linear"] = "linear"
    factor: float = Field(ge=1)


class DynamicRope(_Rope):
    """The base grows with a text from `max_position_embeddings` on, as InternLM2's configurations ask for."""

    rope_type: Literal["dynamic"] = "dynamic"
    factor: float = Field(ge=1)


class LongRope(_Rope):
    """Two lists of factors, one for short and one for long texts (LongRoPE, arXiv:2402.13753), as Phi-3-128k has."""

    rope_type: Literal["longrope"] = "longrope"
    short_factor: tuple[Annotated[float, Field(gt=0)], ...] = Field(description="One per frequency: head_dim / 2.")
    long_factor: tuple[Annotated[float, Field(gt=0)], ...]
    original_max_position_embeddings: int = Field(ge=2, description="Most tokens of a short text.")
    factor: float | None = Field(
        default=None,
        ge=1,
        description="How far it is stretched; max_position_embeddings over the original by default.",
    )
    attention_factor: float | None = Field(
        default=None,
        gt=0,
        description="Multiplies cosines and sines; sqrt(1 + log(factor) / log(original)) by default.",
    )


RopeScaling = Annotated[LinearRope | DynamicRope | LongRope, Field(discriminator="rope_type")]
KINDS = ("linear", "dynamic", "longrope")
_OLDER_NAMES = {"su": "longrope"}  # of Phi-3's first configurations
ORIGINAL = "original_max_position_embeddings"
_parse: TypeAdapter[RopeScaling] = TypeAdapter(RopeScaling)


def rope_scaling_of(fields: Mapping[str, Any], kind: str) -> RopeScaling | None:
    """Return how a language model's `config.json` stretches its positions; None where it does not.

    Args:
        fields: Older configurations hold `rope_scaling`, newer ones `rope_parameters`.
        kind: Class of the language model.

    Raises:
        ValueError: It is of a kind that is not computed here, or a value is missing or wrong.
    """
    name = "rope_scaling" if fields.get("rope_scaling") else "rope_parameters"
    given = dict(fields.get(name) or {})
    older = given.pop("type", "default")
    rope_type = given.pop("rope_type", older)
    given.pop("rope_theta", None)
    partial = given.pop("partial_rotary_factor", fields.get("partial_rotary_factor", 1.0))
    if partial not in (1.0, None):
        raise ValueError(
            f"{kind} with partial_rotary_factor {partial!r} is not computed here: ours turns whole heads; "
            "run this model with transformers' own class"
        )
    rope_type = _OLDER_NAMES.get(rope_type, rope_type)
    if rope_type == "default":
        return None
    if rope_type not in KINDS:
        raise ValueError(
            f"{kind} with {name}.rope_type {rope_type!r} is not computed here, as default, {', '.join(KINDS)} are; "
            "run this model with transformers' own class"
        )
    if rope_type == "longrope":
        # The outer field wins in transformers, and Phi-3's class has this default.
        inner = given.get(ORIGINAL, 4096 if kind == "Phi3ForCausalLM" else None)
        given[ORIGINAL] = fields.get(ORIGINAL, inner)
    try:
        return _parse.validate_python({"rope_type": rope_type, **given})
    except ValidationError as error:
        wrong = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
        raise ValueError(
            f"{kind} with {name} of type {rope_type!r} is not computed here as it stands ({wrong}); put it right in "
            "config.json, or run this model with transformers' own class"
        ) from None


def rope_fields(rope_theta: float, scaling: RopeScaling | None) -> dict[str, Any]:
    """Return the fields of a native `config.json` from which transformers computes the same positions."""
    if scaling is None:
        return {"rope_parameters": {"rope_type": "default", "rope_theta": rope_theta}}
    found = {"rope_parameters": {**scaling.model_dump(mode="json", exclude_none=True), "rope_theta": rope_theta}}
    return {**found, ORIGINAL: scaling.original_max_position_embeddings} if isinstance(scaling, LongRope) else found
