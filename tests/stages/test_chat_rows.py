"""What a chat model is shown of a row: no picture, one, several, a video; and lengths that are found once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_data import annotations, make, mixed, picture, turns
from PIL import Image
from tokenizers import Tokenizer
from training_data import make_contrastive, make_language

from infra.cluster import InlineCluster
from infra.storage import Store
from models.chat import InternVLChat
from models.cost import ConversationCost
from models.preprocess import encode_again
from stages import instruct
from stages.batches import ShardedSamples
from stages.chat_assembly import assemble
from stages.chat_batches import collate, tiles_of
from stages.chat_data import Conversations
from stages.chat_rows import most_tiles, said
from stages.chat_template import IMG_CONTEXT
from stages.conversation_rows import shaped
from stages.conversation_sources import OwnConversations
from stages.instruct_data import InstructBatches
from stages.manifest import Manifest, ManifestError
from stages.workspace import Workspace

PARAMETERS = instruct.Parameters(context_length=512, max_dynamic_patch=6)
FRAMES = {"least": 3, "most": 3}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, InternVLChat, Tokenizer]:
    folder = tmp_path_factory.mktemp("chat")
    store = Store(str(folder / "store"))
    inputs = {"checkpoints/language": make_language(store), "checkpoints/contrastive": make_contrastive(store)}
    here = Workspace(store=store, cluster=InlineCluster(), scratch=folder / "scratch", inputs=inputs)
    return store, *assemble(PARAMETERS, here)


def workspace(store: Store, folder: Path) -> Workspace:
    return Workspace(store=store, cluster=InlineCluster(), scratch=folder / "scratch")


def made(store: Store, folder: Path, rows: list[dict[str, Any]], **given: Any) -> Manifest:
    own = OwnConversations(name="own", format="jsonl", path=annotations(folder, rows), root=str(folder), **given)
    return make(store, folder, own, version=folder.name, frames=FRAMES)


def opened(world: Any, folder: Path, rows: list[dict[str, Any]], **given: Any) -> Conversations:
    store, chat, tokenizer = world
    samples = ShardedSamples(store, made(store, folder, rows, **given), folder / "samples")
    return Conversations(samples, tokenizer, chat.config)


def test_each_kind_of_row_has_its_pictures_and_their_tiles(world: Any, tmp_path: Path) -> None:
    _, chat, tokenizer = world
    data = opened(world, tmp_path, mixed(tmp_path))
    assert len(data) == 4 and not data.left_out
    examples = [data.example(number) for number in range(4)]
    # 96 x 48 is two tiles and a thumbnail; of two pictures each has half of the six; a frame has one.
    tiles = [0 if each.pixel_values is None else len(each.pixel_values) for each in examples]
    assert tiles == [0, 3, 6, 3]
    context, each_tile = tokenizer.token_to_id(IMG_CONTEXT), chat.config.num_image_token
    for number, example in enumerate(examples):
        assert example.input_ids.count(context) == tiles[number] * each_tile
        learned = sum(label >= 0 for label in example.labels)
        assert data.size(number) == (len(example.input_ids), tiles[number], learned)
    film = examples[3].input_ids
    said_of_it = tokenizer.decode([token for token in film if token != context], skip_special_tokens=False)
    assert "Frame-1: <img></img>\nFrame-2: <img></img>\nFrame-3: <img></img>\nBrighter" in said_of_it
    assert [image.size for image in data.pictures(2)] == [(96, 48), (48, 96)] and data.pictures(0) == []
    two = torch.cat([tiles_of(image, chat.config, 3) for image in data.pictures(2)])
    assert examples[2].pixel_values is not None and torch.equal(examples[2].pixel_values, two)
    batch = collate(examples, chat.config.eos_token_id)
    assert torch.isfinite(chat(batch)["loss"])


def test_a_source_may_have_a_limit_of_its_own(world: Any, tmp_path: Path) -> None:
    data = opened(world, tmp_path, mixed(tmp_path), max_dynamic_patch=1)
    assert [data.size(number).tiles for number in range(4)] == [0, 1, 2, 3]
    config = world[1].config
    assert most_tiles({}, 4, config) == 1 and most_tiles({"max_dynamic_patch": 12}, 2, config) == 6
    assert most_tiles({"video": True, "max_dynamic_patch": 12}, 3, config) == 1


def test_a_row_brings_its_own_system_message(world: Any) -> None:
    config = world[1].config.model_copy(update={"system_message": "Ours."})
    row = {"conversations": turns("Q", "A")}
    assert said(row, config).system_message == "Ours."
    assert said({**row, "system": "Theirs."}, config).system_message == "Theirs."
    silent = shaped({**row, "conversations": [{"from": "system", "value": ""}, *row["conversations"]]}).told
    assert said(silent, config).system_message == "", "whoever says so wants none"


def test_other_pictures_stand_in_the_places_of_its_own(world: Any, tmp_path: Path) -> None:
    data = opened(world, tmp_path, mixed(tmp_path))
    text, one, two = (data.pictures(number) for number in (0, 1, 2))
    other = data.example(2, one)
    assert other.input_ids == data.example(2).input_ids and other.pixel_values is not None
    swapped = torch.cat([tiles_of(one[0].resize(image.size), world[1].config, 3) for image in two])
    assert torch.equal(other.pixel_values, swapped)
    white = data.example(1, text)
    blank = tiles_of(Image.new("RGB", (96, 48), (255, 255, 255)), world[1].config)
    assert white.pixel_values is not None and torch.equal(white.pixel_values, blank)


def test_a_batch_without_pictures_runs_the_encoder_on_a_tile_that_nobody_reads(world: Any, tmp_path: Path) -> None:
    _, chat, _ = world
    data = opened(world, tmp_path, mixed(tmp_path))
    batches = InstructBatches([data], chat.config.eos_token_id, cost=ConversationCost.of(chat.config))
    alone, other = batches([0], 0), batches([0], 0)
    assert alone["image_flags"].tolist() == [0] and alone["pixel_values"].shape == (1, 3, 48, 48)
    other["pixel_values"] = torch.randn(1, 3, 48, 48)
    chat.zero_grad()
    loss = chat(alone)["loss"]
    assert torch.equal(loss, chat(other)["loss"])
    loss.backward()
    gradients = [value.grad for value in chat.vision_model.parameters() if value.grad is not None]
    assert gradients and not any(bool(each.any()) for each in gradients), "there, and zero"
    assert "image_flags" not in batches([0, 1], 0)


def test_degraded_pictures_are_drawn_by_step_and_row(world: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (48, 48, 3), np.uint8)).save(tmp_path / "noise.png")
    row = {"image": "noise.png", "conversations": turns("<image>\nQ", "A")}
    _, chat, _ = world
    for augment in (True, False):
        (tmp_path / str(augment)).mkdir()
        (tmp_path / str(augment) / "noise.png").write_bytes((tmp_path / "noise.png").read_bytes())
        data = opened(world, tmp_path / str(augment), [row], data_augment=augment)
        batches = InstructBatches([data], chat.config.eos_token_id, cost=ConversationCost.of(chat.config), seed=5)
        shown = [batches([0], step)["pixel_values"] for step in (0, 0, 1, 2)]
        assert torch.equal(shown[0], shown[1])
        assert (len({each.sum().item() for each in shown}) > 1) is augment
        plain = batches.example(0).pixel_values
        assert plain is not None and torch.equal(shown[0], plain) is not augment
        if augment:
            able = [tiles_of(encode_again(data.pictures(0)[0], quality), chat.config) for quality in range(75, 101)]
            assert all(any(torch.equal(each, one) for one in able) for each in shown)


def test_pictures_are_shown_upright_and_on_white(world: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (96, 48), "red").save(tmp_path / "lying.jpg", exif=exif)
    Image.new("RGBA", (48, 48)).save(tmp_path / "clear.png")
    rows = [{"image": name, "conversations": turns("<image>\nQ", "A")} for name in ("lying.jpg", "clear.png")]
    data = opened(world, tmp_path, rows)
    by_size = {image.size: image for number in range(2) for image in data.pictures(number)}
    assert set(by_size) == {(48, 96), (48, 48)}
    assert by_size[48, 48].getcolors() == [(48 * 48, (255, 255, 255))]
    for number in range(2):
        tiles = data.example(number).pixel_values
        assert tiles is not None and len(tiles) == data.size(number).tiles


def test_a_damaged_picture_is_named(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"image": picture(tmp_path, "a.png"), "conversations": turns("<image>\nQ", "A")}
    data = opened(world, tmp_path, [row])
    monkeypatch.setattr(ShardedSamples, "pictures", lambda *_: [b"torn"])
    with pytest.raises(ManifestError, match=r"a picture of sample \w+ of .* cannot be decoded \(not_image\)"):
        data.pictures(0)


def test_conversations_are_read_by_range_too(world: Any, tmp_path: Path) -> None:
    store, chat, tokenizer = world
    data = made(store, tmp_path, mixed(tmp_path))
    copied = Conversations(ShardedSamples(store, data, tmp_path / "copied"), tokenizer, chat.config)
    ranged = ShardedSamples(store, data, tmp_path / "ranged", cache_bytes=1 << 20)
    by_range = Conversations(ranged, tokenizer, chat.config)
    for number in range(4):
        one, other = copied.example(number), by_range.example(number)
        assert one.input_ids == other.input_ids
        if one.pixel_values is not None and other.pixel_values is not None:
            assert torch.equal(one.pixel_values, other.pixel_values)
        assert (one.pixel_values is None) == (other.pixel_values is None) == (number == 0)


def test_torn_pictures_of_a_sample_are_named(store: Store, tmp_path: Path) -> None:
    picture(tmp_path, "a.png")
    rows = [{"image": ["a.png", "a.png"], "conversations": turns("<image><image>Q", "A")}]
    samples = ShardedSamples(store, made(store, tmp_path, rows), tmp_path / "samples")
    path = next((tmp_path / "samples").glob("*.tar"))
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(ManifestError, match=r"sample [0-9a-f]{32}: not a tar"):
        samples.pictures(0)
