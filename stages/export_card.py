"""README.md of an exported model: what it is, how it is loaded, and what it was made from."""

import json
from collections.abc import Sequence

from stages.manifest import Manifest

CHAT_USAGE = """```python
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained(FOLDER)
processor = AutoProcessor.from_pretrained(FOLDER)
turn = {"role": "user", "content": [{"type": "image", "image": PICTURE}, {"type": "text", "text": QUESTION}]}
inputs = processor.apply_chat_template(
    [turn], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
)
answer = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
print(processor.decode(answer, skip_special_tokens=True))
```

Several pictures are numbered by the chat template as in training. There they also shared the tiles of one:
with `n` pictures add `processor_kwargs={"images_kwargs": {"max_patches": max(1, MAX_PATCHES // n)}}`, the number of
`preprocessor_config.json`.

Frames of a video are pictures of one tile, named by the text before them: `{"type": "text", "text": "Frame-1: "}`,
`{"type": "image", "image": FRAME_1}`, and so on, with `"max_patches": 1`. A part `{"type": "video", "video": FRAMES}`
works too, but the processor writes `Frame1: ` for `Frame-1: `.

The processor cuts the same tiles as in training and resizes them with torchvision: most pixels are the same, others
one or two grey levels off, in pictures of noise up to ten. For the very pixels of training:

```python
from transformers import GotOcr2ImageProcessorPil

processor.image_processor = GotOcr2ImageProcessorPil.from_pretrained(FOLDER)
```"""
OFFICIAL_USAGE = """Weights and `config.json` are in the layout of the official code (`InternVLChatModel`): copy that
code beside these files, or talk to the model with ours:

```
internvl chat FOLDER --image PICTURE
```"""
ADAPTERS_USAGE = """

That is the model before its adapters (LoRA) were trained; with them:

```python
from peft import PeftModel

model = PeftModel.from_pretrained(model, FOLDER + "/adapter")
```"""
TOWERS_USAGE = """`model.safetensors` and `config.json` hold the whole model under the weight names and configuration
fields of the official InternVL-14B-224px. transformers has no class of its own for it, and its
`model_type` `internvl` means the chat model there: load it with the official code, or with ours.
Without queries (InternVL-C) the official class is to be loaded with `strict=False`. A text whose vector
is asked for begins with `<s>summarize:` and ends with `</s>`.

The vision tower loads without remote code:

```python
from transformers import InternVLVisionModel

vision = InternVLVisionModel.from_pretrained(FOLDER + "/vision")
```"""


def model_card(
    title: str, usage: str, checkpoint: Manifest | None = None, evaluations: Sequence[Manifest] = ()
) -> str:
    """Return README.md: what this is, how to load it, and the digests of everything it was made from.

    Args:
        title: Of the page.
        usage: How it is loaded.
        checkpoint: What it was made from; None for files that came from elsewhere.
        evaluations: What it was measured by.
    """
    lines = ["---", "library_name: transformers", "tags: [internvl]", "---", f"# {title}", ""]
    if checkpoint is None:
        lines += ["Written by internvl-pipeline, an open reproduction of InternVL (arXiv 2312.14238)."]
        return "\n".join([*lines, "", "## Use", "", usage]) + "\n"
    lines += ["Trained by internvl-pipeline, an open reproduction of InternVL (arXiv 2312.14238).", ""]
    lines += ["## Use", "", usage, "", "## Made from", "", "| what | artifact | digest |", "| :-- | :-- | :-- |"]
    lines.append(f"| checkpoint | {checkpoint.ref} | `{checkpoint.digest}` |")
    for name, digest in sorted(checkpoint.identity.get("inputs", {}).items()):
        lines.append(f"| its input | {name} | `{digest}` |")
    for manifest in evaluations:
        lines.append(f"| evaluation | {manifest.ref} | `{manifest.digest}` |")
    lines += ["", "## Recipe", "", "Stage, code version and parameters of the checkpoint:", "", "```json"]
    recipe = {key: checkpoint.identity.get(key) for key in ("stage", "code", "parameters")}
    lines += [json.dumps(recipe, indent=2, sort_keys=True, ensure_ascii=False), "```", "", "## Evaluation", ""]
    tables = [str(manifest.totals["markdown"]) for manifest in evaluations if "markdown" in manifest.totals]
    lines.append("\n\n".join(tables) if tables else "Not evaluated when it was exported.")
    return "\n".join(lines) + "\n"
