"""Bring a chat model that others trained into the store: to be tuned, measured, served and exported like ours.

The artifact is called as the instruct stage calls its own, `checkpoints/instruct`: what takes a chat model by that
name takes this one. Weights come out under our names, tensor by tensor, and stay as they are to the bit.
"""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from infra.storage import sha256_file
from models.config import ChatConfig
from models.layouts import from_layout
from models.renaming import State
from stages.chat_loading import open_chat, open_tokenizer
from stages.checkpoints import FINAL, publish
from stages.manifest import Manifest, ManifestError, digest_of
from stages.output import Data
from stages.weight_files import on_meta, write_weights
from stages.workspace import Output, Workspace

VERSION = 1
NAME = "checkpoints/instruct"
CONTEXT_LENGTH = 8192
"""Tokens of a conversation, as InternVL2 was tuned with, where the folder does not say: the official files do not."""


class Parameters(BaseModel):
    """Whose model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str = Field(description="Folder of a chat model in any layout: official, transformers' own, ours.")
    digest: str = Field(description="Hash of its files; other files under the same name are another model.")


def digest_of_folder(folder: Path) -> str:
    """Return a hash of a model's files, the same wherever they lie."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".safetensors", ".bin", ".pth")]
    return digest_of([[path.name, sha256_file(path)] for path in files])


def _read(folder: Path) -> tuple[ChatConfig, State, State]:
    """Return a folder's chat model under our names: its shape, its weights in their files, and what these are like.

    Raises:
        ManifestError: It holds no chat model.
        WeightsError: The weights are not all of the model's and no others.
        ValueError: Its configuration cannot be computed here.
    """
    source, config = open_chat(folder)
    if "context_length" not in json.loads((folder / "config.json").read_bytes()):
        longest = min(CONTEXT_LENGTH, config.text.max_position_embeddings)
        config = config.model_copy(update={"context_length": longest})

    def ours(weights: State) -> State:
        return from_layout(source.layout, weights, config, source.decoder)

    return config, ours(source.weights), on_meta(ours(on_meta(source.weights)))


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Publish the model of a folder as a checkpoint.

    Raises:
        ManifestError: The folder holds no chat model or no tokenizer, or another one than was named.
    """
    part = output.done(FINAL, parameters.digest)
    if part is None:
        folder = Path(parameters.folder)
        config, weights, described = _read(folder)
        tokenizer = open_tokenizer(folder)
        if tokenizer.get_vocab_size() > config.text.vocab_size:
            raise ManifestError(
                f"{folder}: tokenizer.json has {tokenizer.get_vocab_size()} tokens and the model "
                f"{config.text.vocab_size}; take both from the same model"
            )
        here.progress(0, 1, "models", "copying weights")
        written = write_weights(weights, described, here.scratch / "adopted")
        if (now := digest_of_folder(folder)) != parameters.digest:
            raise ManifestError(
                f"the files in {folder} are not those that were named ({now[:12]}, not {parameters.digest[:12]}); "
                "run the command again"
            )
        files: dict[str, Data] = {each.path.name: each for each in written}
        files["config.json"] = config.model_dump_json(indent=2).encode()
        files["tokenizer.json"] = tokenizer.to_str(pretty=True).encode()
        roles = {name.partition(".")[0]: name for name in files}
        facts = {
            "names": roles,
            "metrics": {"steps": 0},
            "parameters": sum(each.numel() for each in described.values()),
            "adopted": parameters.folder,
        }
        named = {role: (name, files[name]) for role, name in roles.items()}
        part = publish(output, parameters.digest, named, 0, facts)  # no sample was trained on here
    return output.commit([part], totals={"adopted": parameters.folder, "parameters": part.facts["parameters"]})
