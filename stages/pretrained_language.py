"""Take a pre-trained language model over: its weights under our names, its shape, its tokenizer.

The paper's text tower starts from a multilingual LLaMA-7B (arXiv:2312.14238, section 3.2). What is published here
is what `stages.language` leaves when it trains one, so the next stages see no difference. Weights are read, renamed
and written one tensor at a time and keep their type: the model is never in memory.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from tokenizers import Tokenizer

from infra.storage import sha256_file
from models.config import TextConfig
from models.decoders import DECODERS
from models.qllama import LlamaForCausalLM
from models.recognise import Described, describe
from models.renaming import Origin, Renamed, State, differences, refuse, same, shapes
from stages.checkpoints import FINAL, publish
from stages.manifest import Manifest, ManifestError, digest_of
from stages.materialize import difference
from stages.output import Data
from stages.weight_files import on_meta, open_weights, write_weights
from stages.workspace import Output, Workspace

EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"
NEEDED = ("*.safetensors", "*.safetensors.index.json", "config.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Pretrained:
    """A language model in a folder, its weights left there."""

    folder: Path
    config: TextConfig
    tokenizer: Tokenizer
    digest: str
    """Of what configuration, tokenizer and weight files say of themselves: names, sizes, heads; not of each number,
    which a plan would have to read 13 GB for."""
    weights: State
    """Under LLaMA's names."""
    described: State
    """The same without numbers."""


def located(name: str) -> Path:
    """Return the folder of a model: itself, or where the hub's copy is; the hub is asked only with HF_HUB_OFFLINE=0.

    Raises:
        ManifestError: There is none.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    ways = (
        f"download it (`hf download {name} --local-dir FOLDER`) and give that folder as language.pretrained "
        "(--language-model FOLDER), or start with HF_HUB_OFFLINE=0, which lets it be fetched by its name"
    )
    if name.count("/") != 1 or folder.is_absolute() or name.startswith((".", "~")):
        raise ManifestError(
            f"language.pretrained: {name} is no folder; put a language model there (config.json, tokenizer.json, "
            "*.safetensors), or name another folder, or a model of the Hugging Face hub as owner/name"
        )
    online = os.environ.get("HF_HUB_OFFLINE", "1") == "0"
    try:
        return Path(snapshot_download(name, allow_patterns=list(NEEDED), local_files_only=not online))
    except Exception as error:  # the hub's own errors, and those of whatever library carries its requests
        why = str(error).splitlines()[0] if online and str(error) else "the network is not asked (HF_HUB_OFFLINE)"
        raise ManifestError(
            f"language.pretrained: {name} is neither a folder nor in the hub's cache here, and {why}; {ways}"
        ) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        hint = ""
        if path.name == "tokenizer.json":
            hint = (
                "; make it: AutoTokenizer.from_pretrained(folder).save_pretrained(folder) of transformers writes it"
            )
        raise ManifestError(f"{path} is missing; a language model needs it{hint}") from None
    except ValueError as error:
        raise ManifestError(f"{path} is no JSON: {error}; download the model again") from error
    if not isinstance(found, dict):
        raise ManifestError(f"{path} holds a {type(found).__name__}, no object; download the model again")
    return found


def look(folder: Path) -> Pretrained:
    """Return the language model of a folder; names and shapes of all weights are checked, no number is read.

    Raises:
        ManifestError: It is none, or none that ours computes alike, or parts of it do not fit together.
    """
    given = _json(folder / "config.json")
    _json(folder / "tokenizer.json")
    try:
        found = describe(given)
        if not isinstance(found.config, TextConfig):
            raise ValueError("it is of a model that sees; the language stage takes a language model alone")
        files = open_weights(folder)
        weights, described = (_renamed(each, found, given) for each in (files, on_meta(files)))
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = found.config.model_copy(update=_ends(folder, given, tokenizer))
        _check(described, config, tokenizer)
    except (ValueError, FileNotFoundError) as error:
        raise ManifestError(f"the language model in {folder} cannot be taken: {error}") from error
    except Exception as error:
        # What tokenizers raises has no class of its own.
        raise ManifestError(f"{folder / 'tokenizer.json'} is no tokenizer: {error}; download it again") from error
    return Pretrained(folder, config, tokenizer, _digest(folder), weights, described)


def _renamed(weights: State, found: Described, given: Mapping[str, Any]) -> State:
    """Return weights under LLaMA's names; a head that is tied to the embeddings becomes one of its own.

    Raises:
        WeightsError: They are not of this model.
    """
    assert isinstance(found.config, TextConfig)
    renamed = DECODERS[found.decoder].to_llama(weights, found.config)
    if HEAD in renamed or not given.get("tie_word_embeddings", False):
        return renamed
    origins: dict[str, Origin] = {name: same(name) for name in renamed}
    return Renamed(renamed, origins | {HEAD: same(EMBEDDINGS)})


def _ends(folder: Path, given: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, int]:
    """Return the tokens that begin and end a text: what config.json says, or else what tokenizer_config.json does.

    Qwen2's texts have no beginning of their own; there the end of the text before them stands for it.

    Raises:
        ValueError: Nothing says how texts end, or the tokenizer has no such token.
    """
    said = _json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}

    def of(which: str) -> int | None:
        number = given.get(f"{which}_token_id")
        if isinstance(number, list) and number:
            number = number[0]
        if isinstance(number, int):
            return number
        token = said.get(f"{which}_token")
        token = token.get("content") if isinstance(token, dict) else token
        return tokenizer.token_to_id(token) if isinstance(token, str) else None

    end = of("eos")
    if end is None:
        raise ValueError("neither config.json nor tokenizer_config.json says which token ends a text (eos_token_id)")
    begin = of("bos")
    found = {"bos_token_id": end if begin is None else begin, "eos_token_id": end}
    for name, number in found.items():
        if tokenizer.id_to_token(number) is None:
            raise ValueError(f"{name} {number} is no token of tokenizer.json, which has {tokenizer.get_vocab_size()}")
    return found


def _check(described: State, config: TextConfig, tokenizer: Tokenizer) -> None:
    """Refuse weights and a tokenizer that are not the model's.

    Raises:
        ValueError: As it says.
    """
    with torch.device("meta"):
        expected = shapes(LlamaForCausalLM(config).state_dict())
    wrong = [
        f"weight {name!r} holds {value.dtype}" for name, value in described.items() if not value.is_floating_point()
    ]
    refuse(differences(expected, shapes(described)) + wrong, "a language model of this config.json")
    if tokenizer.get_vocab_size() > config.vocab_size:
        raise ValueError(
            f"tokenizer.json has {tokenizer.get_vocab_size()} tokens and config.json a vocab_size of "
            f"{config.vocab_size}; take both from the same model"
        )


def _digest(folder: Path) -> str:
    """Return a hash of what a folder says of itself, the same wherever it lies."""
    told = [sha256_file(folder / name) for name in ("config.json", "tokenizer.json")]
    files: list[Any] = []
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            files.append([path.name, path.stat().st_size, hashlib.sha256(file.read(length)).hexdigest()])
    return digest_of([*told, files])


def take(name: str, expected: TextConfig | None, output: Output, here: Workspace) -> Manifest:
    """Publish a pre-trained language model as if it had been trained here.

    Args:
        name: A folder, or a model of the Hugging Face hub.
        expected: The shape that the recipe reckoned with; any when left out.
        output: Where it is published.
        here: A place for files on their way.

    Raises:
        ManifestError: There is none, or not the one that is expected.
    """
    found = look(located(name))
    if expected is not None and expected != found.config:
        lines = difference(expected.model_dump(mode="json"), found.config.model_dump(mode="json"))
        raise ManifestError(
            f"the language model in {found.folder} is not the one that language.pretrained_shape describes: "
            f"{'; '.join(lines)}; name the right folder, or leave pretrained_shape out"
        )
    digest = digest_of({"pretrained": found.digest})
    part = output.done(FINAL, digest)
    if part is None:
        here.progress(0, 1, "models", "copying weights")
        written = write_weights(found.weights, found.described, here.scratch / "taken")
        found.tokenizer.no_padding()
        found.tokenizer.no_truncation()
        texts = {
            "config.json": json.dumps({"text": found.config.model_dump(mode="json")}, indent=2, sort_keys=True),
            "tokenizer.json": found.tokenizer.to_str(pretty=True),
        }
        files: dict[str, Data] = {each.path.name: each for each in written}
        files |= {each: text.encode() for each, text in texts.items()}
        roles = {each.partition(".")[0]: each for each in files}
        facts = {
            "names": roles,
            "metrics": {"steps": 0},
            "parameters": sum(each.numel() for each in found.described.values()),
            "pretrained": name,
        }
        # No sample was trained on.
        part = publish(output, digest, {role: (each, files[each]) for role, each in roles.items()}, 0, facts)
    return output.commit([part], totals={"pretrained": name, "parameters": part.facts["parameters"]})
