"""An exported InternVL-C or -G in CLIP_benchmark: `python -m stages.evaluations.on_clip_benchmark eval ...`.

CLIP_benchmark knows its kinds of models by a table of functions; this adds `internvl` to it and starts its own
command line, all of whose options remain. `--pretrained` is the model's folder, in any layout that `internvl convert`
reads, and `--model` one of `MODELS`, named as in the official InternVL repository's fork of CLIP_benchmark.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from models.config import InternVLConfig
from models.internvl import InternVL
from models.layouts import from_layout
from stages.chat_loading import open_tokenizer
from stages.model_files import open_source
from stages.pairs import Texts, normalise, resize

MODELS = {
    "internvl_c_classification": (False, True),
    "internvl_c_retrieval": (False, False),
    "internvl_g_classification": (True, True),
    "internvl_g_retrieval": (True, False),
}
"""Name to (InternVL-G's queries look too, the picture is cropped): classification resizes the short side and cuts out
the middle, retrieval squashes."""
KIND = "internvl"
OUTPUT = "{dataset}_{model}_{language}_{task}.json"
"""Where results go unless somebody says: CLIP_benchmark's own default has the model's path in a file's name."""
Transform = Callable[[Image.Image], Tensor]


class Tokens:
    """Tokens and their mask, which CLIP_benchmark hands around as if they were one tensor."""

    def __init__(self, input_ids: Tensor, attention_mask: Tensor) -> None:
        """Keep both, of shape (texts, tokens)."""
        self.input_ids, self.attention_mask = input_ids, attention_mask

    def to(self, device: str | torch.device) -> "Tokens":
        """Return them on a device."""
        return Tokens(self.input_ids.to(device), self.attention_mask.to(device))


class Benchmarked(nn.Module):
    """The two functions that CLIP_benchmark asks for; vectors are of unit length."""

    def __init__(self, model: InternVL, *, queries: bool) -> None:
        """Wrap a model; with `queries` pictures are seen InternVL-G's way."""
        super().__init__()
        self.model, self.queries = model, queries

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """Return vectors of pictures, shape (pictures, embed_dim)."""
        return self.model.encode_image_g(pixel_values) if self.queries else self.model.encode_image(pixel_values)

    def encode_text(self, tokens: Tokens) -> Tensor:
        """Return vectors of texts, shape (texts, embed_dim)."""
        return self.model.encode_text(tokens.input_ids, tokens.attention_mask)


class Tokenizer:
    """Turns texts into tokens behind the prefix of texts whose vectors are asked for."""

    def __init__(self, texts: Texts) -> None:
        """Use a checkpoint's own tokenizer."""
        self._texts = texts

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Return tokens, padded on the right."""
        return Tokens(*self._texts.summaries(texts))


class Prepare:
    """Turns a picture into the vision tower's input, shape (3, side, side); can be sent to data workers."""

    def __init__(self, side: int, *, crop: bool) -> None:
        """Crop or squash to a square of `side` pixels."""
        self._side = side
        self._crop = Compose([Resize(side, InterpolationMode.BICUBIC), CenterCrop(side)]) if crop else None

    def __call__(self, picture: Image.Image) -> Tensor:
        """Return pixel values."""
        rgb = picture.convert("RGB")
        return normalise([resize(self._crop(rgb) if self._crop else rgb, self._side)])[0]


def load_internvl(
    model_name: str,
    pretrained: str,
    cache_dir: str | None = None,
    device: str | torch.device = "cpu",
) -> tuple[Benchmarked, Transform, Tokenizer]:
    """Return what CLIP_benchmark's loading functions return.

    Args:
        model_name: One of `MODELS`.
        pretrained: The model's folder.
        cache_dir: Not used; nothing is downloaded.
        device: Where it computes.

    Raises:
        ValueError: There is no such name, or the folder holds another kind of model.
        ManifestError: It has no tokenizer.
    """
    if model_name not in MODELS:
        raise ValueError(f"--model {model_name!r} is none of {', '.join(MODELS)}")
    queries, crop = MODELS[model_name]
    folder = Path(pretrained)
    source = open_source(folder)
    config = source.config
    if not isinstance(config, InternVLConfig):
        raise ValueError(f"{folder} holds no InternVL-C or -G; export a contrastive or generative checkpoint")
    model = InternVL.from_state(config, from_layout(source.layout, source.weights, config, source.decoder))
    if queries and not model.generative:
        raise ValueError(f"{folder} holds InternVL-C, which has no queries; take {model_name.replace('_g_', '_c_')}")
    text = config.text
    texts = Texts(open_tokenizer(folder), config.context_length, text.bos_token_id, text.eos_token_id)
    wrapped = Benchmarked(model.eval().to(device), queries=queries).eval()
    return wrapped, Prepare(config.vision.image_size, crop=crop), Tokenizer(texts)


def accuracy(output: Tensor, target: Tensor, topk: Sequence[int] = (1,)) -> list[float]:
    """Return how often the right class is among the k likeliest, for each k.

    CLIP_benchmark 1.6.2 counts the same, and then makes numbers of arrays in a way that NumPy 2.4 refuses.
    """
    likeliest = output.topk(max(topk), dim=1).indices
    right = likeliest == target[:, None]
    return [float(right[:, :k].any(dim=1).double().mean()) for k in topk]


def register() -> None:
    """Add `internvl` to the kinds of models that CLIP_benchmark knows, and let it count with today's NumPy."""
    from clip_benchmark import models
    from clip_benchmark.metrics import zeroshot_classification

    zeroshot_classification.accuracy = accuracy
    models.TYPE2FUNC[KIND] = load_internvl
    if KIND not in models.MODEL_TYPES:
        models.MODEL_TYPES.append(KIND)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run CLIP_benchmark's command line with `--model_type internvl` added."""
    register()
    from clip_benchmark import cli

    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["eval"] and not any(each.split("=")[0] == "--output" for each in given):
        given += ["--output", OUTPUT]
    # CLIP_benchmark reads its arguments from there and from nowhere else.
    before, sys.argv = sys.argv, ["clip_benchmark", *given]
    try:
        cli.main()
    finally:
        sys.argv = before


if __name__ == "__main__":
    main()
