"""Tune a finished InternVL-C or InternVL-G for retrieval on pictures that have several captions each.

The paper does so on Flickr30K and COCO (arXiv:2312.14238, section 4.3 and appendix): all weights learn, each layer
more slowly than the one above, at larger pictures, and all captions of a picture are right answers. The result has
the name of the checkpoint it started from, and another version.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from models.config import InternVLConfig
from models.contrastive_objective import ContrastiveObjective
from models.internvl import InternVL, clamp_logit_scale
from models.learning_rates import LearningRates
from stages.batches import ShardedSamples
from stages.checkpoints import beside, fetch
from stages.held_out import SHARE, Share, by_shard, check_road, divide
from stages.manifest import Manifest, ManifestError
from stages.pair_batches import Augmentation, PairBatches, Switch, View
from stages.pair_measures import measured_retrieval
from stages.pairs import Texts, shards_of
from stages.train_loop import train
from stages.training.order import Source
from stages.training.schedule import Schedule
from stages.training.task import Finished, Metrics, Task, parameter_groups
from stages.weight_files import open_weights
from stages.workspace import Output, Workspace

VERSION = 2


class Parameters(BaseModel):
    """What is shown and how fast it is learned; the defaults are for the tiny recipe's checkpoints."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shards: str = Field(default="shards/clean", description="Artifact to train on.")
    checkpoint: str = Field(
        default="checkpoints/contrastive", description="Where to start: InternVL-C, or InternVL-G with its queries."
    )
    image_size: int | None = Field(
        default=None,
        ge=8,
        description="Side of pictures, 364 in the paper; positions are interpolated. Left out: the checkpoint's.",
    )
    layer_decay: float = Field(
        default=0.9, gt=0, le=1, description="Factor of the learning rate from each layer to the one below."
    )
    drop_path_rate: float = Field(default=0.0, ge=0, lt=1, description="Of the last vision block; 0.3 in the paper.")
    smallest_crop: float = Field(
        default=1.0, gt=0, le=1, description="Smallest share of a picture that a random crop shows; 0.5 in the paper."
    )
    flip: bool = Field(
        default=False, description="Mirror every second picture, as the paper does; wrong where captions say left."
    )
    held_out_share: Share = SHARE
    held_out: int = Field(
        default=256, ge=0, description="Most of the samples kept aside that are measured on at the end."
    )
    schedule: Schedule = Schedule(
        global_batch_size=128, steps=60, learning_rate=3e-4, warmup_steps=6, beta2=0.999, final_ratio=0.0
    )


def paper_parameters(pairs: int, checkpoint: str = "checkpoints/generative") -> Parameters:
    """Return the paper's settings for Flickr30K: ten epochs of the pairs that there are (five for COCO).

    Raises:
        ManifestError: There are fewer pairs than one batch has.
    """
    batch = 1024
    if pairs < batch:
        raise ManifestError(
            f"{pairs} pairs are fewer than the paper's batch of {batch}; choose a schedule of your own"
        )
    schedule = Schedule(
        global_batch_size=batch,
        steps=10 * pairs // batch,
        learning_rate=1e-6,
        warmup_steps=100,
        final_ratio=0.0,
        weight_decay=0.05,
        beta1=0.9,
        beta2=0.999,
        precision="bf16",
    )
    return Parameters(
        checkpoint=checkpoint,
        image_size=364,
        drop_path_rate=0.3,
        smallest_crop=0.5,
        flip=True,
        # It is measured on pictures of its own.
        held_out_share=0,
        held_out=0,
        schedule=schedule,
    )


class FinetuneTask:
    """A finished model, and pairs of which all captions of a picture are right."""

    def __init__(self, parameters: Parameters, samples: ShardedSamples, start: Path) -> None:
        """Load a fetched checkpoint.

        Raises:
            ManifestError: Sizes do not fit, or nothing is left to train on.
        """
        self.parameters, self.start = parameters, start
        self.model = load(start, parameters)
        for name, value in self.model.named_parameters():
            # What writes captions and judges pairs gets no gradient from retrieval.
            value.requires_grad_(not name.startswith(("qllama.lm_head.", "itm_head.")))
        self.module = ContrastiveObjective(self.model, soft_targets=True)
        vision = self.model.config.vision
        view = View(vision.image_size, vision.patch_size)
        rows = divide(samples.fingerprints, parameters.held_out_share, parameters.held_out, samples.name)
        self.samples = [Source(samples.name, by_shard(rows.taught, samples.sizes))]
        self.held_out = rows.aside.tolist()
        texts = Texts.of(start, self.model.config.context_length)
        augmentation = Augmentation(parameters.smallest_crop, parameters.flip)
        views = Switch(view, view, 0)
        self.batches = PairBatches(samples, texts, views, parameters.schedule.seed, augmentation, rows.taught)

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return the trained parameters, each layer slower than the one above it."""
        config = self.model.config
        rates = LearningRates(
            vision_layers=config.vision.num_hidden_layers,
            text_layers=config.text.num_hidden_layers,
            layer_decay=self.parameters.layer_decay,
        )
        return parameter_groups(self.model.named_parameters(), weight_decay, rates.of)

    def finish(self) -> Finished:
        """Measure on the samples kept aside, before and after, and return the model."""
        clamp_logit_scale(self.model)
        weights, files = self.model.state_dict(), beside(self.model.config, self.start)
        if not self.held_out:
            return Finished(weights, files)
        before = load(self.start).to(self.model.logit_scale.device).eval()
        found = {f"{name}_before": value for name, value in self._measure(before).items() if "to" in name}
        return Finished(weights, files, self._measure(self.model) | found)

    def _measure(self, model: InternVL) -> Metrics:
        """Return retrieval of a model among the samples kept aside, at its own size of pictures."""
        encode = model.encode_image_g if model.generative else model.encode_image
        pictures = self.batches.pictures(model.config.vision.image_size)
        captions = self.batches.captions.read(self.held_out)
        found = measured_retrieval(model, encode, pictures, self.batches.texts, self.held_out, captions)
        return {name: round(value, 4) for name, value in found.items()}


def load(folder: Path, parameters: Parameters | None = None) -> InternVL:
    """Return the model of a fetched checkpoint, with parameters as it is tuned: other pictures, dropped blocks.

    Raises:
        ManifestError: Pictures do not divide into its patches.
    """
    config = InternVLConfig.model_validate_json((folder / "config.json").read_text())
    model = InternVL.from_state(config, open_weights(folder))
    if parameters is None:
        return model
    size = parameters.image_size or config.vision.image_size
    if size % config.vision.patch_size:
        raise ManifestError(
            f"image_size {size} does not divide into the checkpoint's patches of {config.vision.patch_size}; "
            "choose a multiple"
        )
    model.vision_model.resize_position_embedding(size)
    rates = {"drop_path_rate": parameters.drop_path_rate, "drop_path_schedule": "linear"}
    tuned = config.model_copy(update={"vision": model.vision_model.config.model_copy(update=rates)})
    return InternVL.from_state(tuned, model.state_dict())


def build(parameters: Parameters, here: Workspace) -> Task:
    """Return what is trained, and on what."""
    check_road(parameters.held_out_share, here.inputs.values())
    _, samples = shards_of(here, parameters.shards)
    start = fetch(here.store, here.input(parameters.checkpoint), here.scratch / "start")
    return FinetuneTask(parameters, samples, start)


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Tune a checkpoint for retrieval."""
    return train(build, parameters, output, here)
