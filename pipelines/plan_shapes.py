"""What each training stage of a recipe computes at once, from its parameters: what its memory is traced by."""

from collections.abc import Mapping

from models.config import ChatConfig, InternVLConfig
from models.step_shape import Shape
from pipelines.graph import ALIGN, INSTRUCT
from pipelines.training_price import TOWERS, text_of
from stages import contrastive, generative, instruct, language
from stages.contrastive_parameters import config_of
from stages.generative import FEATURE_BYTES, TEXT_BYTES
from stages.materialize import StageSpec
from stages.placement import Placement


def shapes_of(specs: Mapping[str, StageSpec]) -> dict[str, Shape]:
    """Return what each training computes."""
    spoken = language.Parameters.model_validate(specs["language"].parameters) if "language" in specs else None
    if spoken is None:
        return {}
    text = spoken.pretrained_shape or text_of(spoken)
    seen = contrastive.Parameters.model_validate(specs["contrastive"].parameters)
    asked = generative.Parameters.model_validate(specs["generative"].parameters)
    towers = config_of(seen, text)
    views, whole = seen.views(), generative.config_of(asked, towers)
    # The widest view decides: at the end, pictures without a mask.
    view = views.late if seen.unmasked_steps else views.early
    shown = towers.model_copy(update={"vision": towers.vision.model_copy(update={"image_size": view.image_size})})
    found = {
        "language": Shape("language", text=text, tokens=spoken.context_length),
        "contrastive": Shape(
            "contrastive",
            towers=shown,
            tokens=towers.context_length,
            kept=view.kept if view.kept < shown.vision.grid**2 else None,
            text_learns=bool(seen.text_learning_rate_scale),
        ),
        "generative": Shape(
            "generative",
            towers=whole,
            tokens=whole.context_length,
            paired=asked.paired,
            image_negatives=asked.image_negatives,
            stays=FEATURE_BYTES + TEXT_BYTES,
        ),
    }
    for name in (ALIGN.removeprefix("checkpoints/"), INSTRUCT.removeprefix("checkpoints/")):
        if name in specs:
            found[name] = _chat(instruct.Parameters.model_validate(specs[name].parameters), specs[name], whole)
    return found


def _chat(given: instruct.Parameters, spec: StageSpec, towers: InternVLConfig) -> Shape:
    """Return a chat training: one pack, as full as its placement allows; else of what is computed at once."""
    layers = min(given.most_layers or towers.vision.num_hidden_layers, towers.vision.num_hidden_layers)
    shown = {"image_size": given.image_size or towers.vision.image_size, "num_hidden_layers": layers}
    fields = given.model_dump(include=set(ChatConfig.model_fields))
    config = ChatConfig(
        vision=towers.vision.model_copy(update=shown),
        text=towers.text,
        towers=towers if given.connector == "two_mlp" else None,
        image_context_token_id=0,
        eos_token_id=0,
        **{name: value for name, value in fields.items() if name not in ("vision", "text", "towers")},
    )
    tiles = given.max_dynamic_patch + (given.max_dynamic_patch > 1 and given.use_thumbnail)
    learns = {tower: given.trains(tower) for tower in TOWERS}
    placement = Placement(**spec.placement)
    together = placement.micro_batch_size or max(1, given.schedule.global_batch_size // placement.workers)
    return Shape(
        "instruct",
        chat=config,
        packed=True,
        tokens=placement.max_packed_tokens or together * given.context_length,
        tiles=placement.max_packed_tiles or together * tiles,
        length=given.context_length,
        text_learns=learns["language"],
        vision_learns=learns["vision"],
    )
