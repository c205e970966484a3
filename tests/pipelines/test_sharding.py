"""`internvl reshard` and `internvl takedown`: what they print, what they leave behind, what they refuse."""

from pathlib import Path

import pytest
from shard_world import hashes, kept_rows, make_world, write
from typer.testing import CliRunner, Result

from infra.storage import Store
from pipelines.cli import app
from stages.manifest import find, load
from stages.ref import Ref
from stages.takedown_list import registered

CHOSEN = [row for row in kept_rows() if row["source"] == "cc3m"][:4]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("INTERNVL_STORE", str(tmp_path / "store"))
    store = Store(str(tmp_path / "store"))
    make_world(store)
    write(store, "tiny")
    return store


def call(*words: object) -> tuple[Result, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result, " ".join(result.output.split())


def version(name: str) -> Ref:
    return Ref(name="shards/clean", version=name)


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines))
    return path


def test_reshard_keeps_a_list_and_tells_what_was_not_there(store: Store, tmp_path: Path) -> None:
    keep = written(tmp_path / "keep.txt", *(row["uid"].hex() for row in CHOSEN), "0" * 32)
    words = ("reshard", "shards/clean@tiny", "--keep", keep, "--new-version", "few", "--rows-per-shard", 100)
    result, said = call(*words)
    assert result.exit_code == 0, said
    assert "shards/clean@few kept 4 of 54 samples" in said and "1 lines of the list named no sample" in said
    made = load(store, version("few"))
    assert made.totals["layout"]["rows_per_shard"] == 100 and made.ledger.kept == 4
    assert call(*words)[0].exit_code == 0, "found again"
    written(keep, CHOSEN[0]["uid"].hex())
    result, said = call(*words)
    assert result.exit_code == 2 and "keep_sha256" in said and "--version NAME" in said


def test_reshard_refuses_what_it_cannot_do(store: Store, tmp_path: Path) -> None:
    for words, says in (
        (("shards/clean@tiny", "--new-version", "tiny"), "give --new-version another name"),
        (("shards/clean@absent", "--new-version", "x"), "finished versions: tiny"),
        (("pool/cc3m@v1", "--new-version", "x"), "pool/cc3m@v1 is not shards"),
        (("shards/clean@tiny", "--new-version", "x", "--keep", tmp_path / "no.txt"), "no.txt is not a file"),
    ):
        result, said = call("reshard", *words)
        assert result.exit_code == 2 and says in said, said


def test_takedown_tells_the_shards_and_writes_only_them(store: Store, tmp_path: Path) -> None:
    listed = written(tmp_path / "list.txt", CHOSEN[0]["url"], CHOSEN[1]["uid"].hex())
    result, said = call("takedown", listed, "--shards", "shards/clean@tiny", "--dry-run")
    assert result.exit_code == 0, said
    assert "listed: 1 uid, 1 url" in said and registered(store) == ()
    assert "of 9 shards hold what is named" in said and "uid 1" in said and "url 1" in said
    assert find(store, version("less")) is None
    result, said = call("takedown", listed, "--shards", "shards/clean@tiny", "--new-version", "less")
    assert result.exit_code == 0, said
    assert "52 samples left, 2 taken down; shards/clean@tiny still holds them" in said
    assert CHOSEN[0]["url"] not in result.output and "example" not in result.output
    old, new = hashes(load(store, version("tiny"))), hashes(load(store, version("less")))
    assert 1 <= sum(old[key] != new[key] for key in old) <= 2 and len(registered(store)) == 1
    result, said = call("takedown", listed, "--shards", "shards/clean@less")
    assert result.exit_code == 0 and "0 of 9 shards hold" in said and len(registered(store)) == 1
    assert store.folders("shards/clean") == ["less", "tiny"]


def test_a_list_alone_is_kept_for_later_writes(store: Store, tmp_path: Path) -> None:
    listed = written(tmp_path / "list.txt", "laion-en.example.com")
    result, said = call("takedown", listed)
    assert result.exit_code == 0 and "later writes of shards honour it" in said
    assert write(store, "later").totals["per_source"] == {"cc3m": 27}
    result, said = call("takedown", listed, "--shards", "shards/clean@tiny")
    assert result.exit_code == 0 and "shards/clean@tiny-" in said and "27 samples left, 27 taken down" in said


def test_takedown_refuses_before_it_keeps_anything(store: Store, tmp_path: Path) -> None:
    bad = written(tmp_path / "bad.txt", "example.com", "sha256:private")
    good = written(tmp_path / "good.txt", "example.com")
    for words, says in (
        ((bad,), "bad.txt line 2 is no sha256"),
        ((tmp_path / "absent.txt",), "cannot be read"),
        ((good, "--dry-run"), "give --shards"),
        ((good, "--shards", "shards/clean@absent"), "finished versions: tiny"),
        ((good, "--shards", "signals/cc3m@v1"), "is not shards"),
    ):
        result, said = call("takedown", *words)
        assert result.exit_code == 2 and says in said, said
        assert "private" not in said and registered(store) == ()
