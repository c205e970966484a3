"""Chat models on language models of each family that was published, from folders as transformers writes them."""

from pathlib import Path

import pytest
import torch
from pretrained_folders import TOKENS, write
from test_instruct import make_conversations, run, small, workspace
from training_data import make_contrastive

from infra.cluster import InlineCluster
from infra.storage import Store
from models.config import ChatConfig
from stages import language
from stages.batches import open_samples
from stages.chat_assembly import assemble, vocabulary
from stages.chat_data import Conversations
from stages.chat_template import SPECIAL_TOKENS, TEMPLATES, marks_of
from stages.checkpoints import fetch
from stages.manifest import Manifest
from stages.ref import Ref
from stages.weight_files import open_weights
from stages.workspace import Output, Workspace


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("languages")
    store = Store(str(root / "store"))
    made = make_conversations(store, root, scenes=24)
    return workspace(store, root, conversations=made, contrastive=make_contrastive(store))


def taken(here: Workspace, folder: Path, kind: str, version: str | None = None) -> Manifest:
    write(folder, kind)
    parameters = language.Parameters(pretrained=str(folder))
    ref = Ref(name="checkpoints/language", version=version or kind)
    output = Output(here.store, ref, "language", parameters.model_dump())
    return language.run(parameters, output, Workspace(here.store, InlineCluster(), folder / "scratch"))


# The template of each family's chat model; and whether its texts begin with a token, and with which.
FAMILIES = {
    "llama": ("internlm2-chat", 1),
    "qwen2": ("Hermes-2", None),
    "internlm2": ("internlm2-chat", 1),
    "phi3": ("phi3-chat", None),
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_chat_model_learns_on_it(here: Workspace, tmp_path: Path, kind: str) -> None:
    template, begins = FAMILIES[kind]
    here.inputs["checkpoints/language"] = taken(here, tmp_path / kind, kind)
    spoken = open_weights(fetch(here.store, here.inputs["checkpoints/language"], tmp_path / "l"))
    assert spoken["lm_head.weight"].shape[0] == TOKENS + 8, "rows beyond the tokens fill the table up"
    parameters = small(template=template, held_out=4, context_length=128)
    quick = parameters.schedule.model_copy(update={"steps": 2, "learning_rate": 1e-4})
    parameters = parameters.model_copy(update={"schedule": quick})

    chat, tokenizer = assemble(parameters, here)
    added = [*marks_of(TEMPLATES[template]), *SPECIAL_TOKENS]
    new = [token for token in added if tokenizer.token_to_id(token) >= TOKENS]
    assert set(SPECIAL_TOKENS) <= set(new), "nine, and turn marks that the small tokenizer lacks"
    ids = [tokenizer.token_to_id(token) for token in new]
    assert ids == list(range(TOKENS, TOKENS + len(new))) and vocabulary(tokenizer) == TOKENS + len(new)
    table, head = chat.language_model.model.embed_tokens.weight, chat.language_model.lm_head.weight
    assert table.shape[0] == head.shape[0] == chat.config.text.vocab_size == TOKENS + len(new)
    assert torch.equal(head[:TOKENS], spoken["lm_head.weight"][:TOKENS])
    mean = spoken["lm_head.weight"][:TOKENS].mean(dim=0)
    assert torch.allclose(head[TOKENS:], mean.expand(len(new), -1), atol=1e-6)
    assert torch.equal(table[:TOKENS], spoken["model.embed_tokens.weight"][:TOKENS])
    if kind == "qwen2":
        assert torch.equal(spoken["lm_head.weight"], spoken["model.embed_tokens.weight"]), "tied where it came from"
    data = Conversations(open_samples(here, here.inputs["conversations"]), tokenizer, chat.config)
    first = data.example(0).input_ids[0]
    assert first == begins if begins is not None else first >= TOKENS, "a turn mark, where nothing comes before it"
    assert chat.config.eos_token_id == (5 if kind == "qwen2" else 2)

    made = run(here.store, here, parameters, version=kind)
    folder = fetch(here.store, made, tmp_path / "made")
    assert ChatConfig.model_validate_json((folder / "config.json").read_text()).text == chat.config.text
    after = open_weights(folder)
    moved = {name for name, value in chat.state_dict().items() if not torch.equal(after[name], value)}
    assert {name.partition(".")[0] for name in moved} == {"vision_model", "mlp1", "language_model"}
    assert made.totals["steps"] == 2 and made.totals["left_out"] == {}


def test_a_tokenizer_of_real_text_gets_the_nine_and_no_role_names(here: Workspace, tmp_path: Path) -> None:
    here.inputs["checkpoints/language"] = taken(here, tmp_path / "again", "llama", "again")
    _, tokenizer = assemble(small(template="vicuna_v1", context_length=128), here)
    assert vocabulary(tokenizer) == TOKENS + len(SPECIAL_TOKENS), "its end of an answer is there already"
    assert tokenizer.token_to_id("assistant") is None
