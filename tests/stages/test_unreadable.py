"""Whatever cannot be read is named in one line: a list or pictures, here, in a bucket or on a server."""

import gzip
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs  # type: ignore[import-untyped]

from infra.storage import Store
from stages.list_urls import Parameters, pin
from stages.manifest import ManifestError
from stages.sources.columns import ColumnNames, layout_of
from stages.sources.reading import resolve, survey
from stages.unreadable import fact_of, reading, unreadable


def look(path: str) -> None:
    """Do what a run does with a list before its first row."""
    pin(Parameters(source="x", paths=(path,)))
    for each in resolve((path,)):
        survey(each, layout_of(ColumnNames()))


@pytest.fixture
def refusing_web() -> Iterator[str]:
    """Yield a web server that lets nobody in."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_error(401)

        do_HEAD = do_GET

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_files_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"url,caption\n" * 999)[:40])
    (tmp_path / "no.csv.gz").write_bytes(b"url,caption\n")
    for name, says in {
        "lists": r"lists is a folder; name the files in it, as '.*lists/\*\.parquet'",
        "absent.csv": r"no file matches '.*absent\.csv'",
        "cut.csv.gz": r"cut\.csv\.gz cannot be read: it is damaged, or breaks off; fetch it again",
        "no.csv.gz": r"no\.csv\.gz cannot be read: it is damaged",
    }.items():
        with pytest.raises(ManifestError, match=says):
            look(str(tmp_path / name))


@pytest.mark.parametrize("address", ["ftp://localhost/a.csv", "gs://b/a.csv", "file:///etc/hostname"])
def test_another_scheme_is_refused_without_asking(address: str) -> None:
    with pytest.raises(ManifestError, match=r"lists are read from this machine, s3://.*; fetch it"):
        look(address)


@pytest.fixture
def fresh_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let each connection to S3 be a new one, which asks once."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "cachable", False)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.usefixtures("fresh_s3")
@pytest.mark.parametrize("name", ["list.parquet", "*.parquet"])
def test_a_bucket_whose_server_is_gone_or_wants_credentials(
    s3_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closed_port: int, name: str
) -> None:
    path = f"{s3_store.root}/{name}"
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port}")
        with pytest.raises(
            ManifestError,
            match=r"its server (refuses|cannot be).*; check the address, AWS_END",
        ):
            look(path)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(ManifestError, match=r"wants credentials, and there are none; export AWS_ACCESS_KEY_ID"):
        look(path)


def test_servers_of_the_web(closed_port: int, refusing_web: str) -> None:
    for address, says in {
        f"http://127.0.0.1:{closed_port}/a.csv": "its server (refuses|cannot)",
        f"{refusing_web}/a.csv": "its server says 401 Unauthorized",
        "http://nowhere.invalid/a.csv": "there is no server of that name; check the address, and the network",
    }.items():
        with pytest.raises(ManifestError, match=says):
            look(address)


@pytest.mark.parametrize("broken", ["one.jpg", "cut.tar"])
def test_pictures_that_are_neither_a_folder_nor_a_tar(tmp_path: Path, broken: str) -> None:
    path = tmp_path / broken
    path.write_bytes(b"\xff\xd8\xff" * 400)
    with pytest.raises(ManifestError, match=rf"{broken} cannot be read: it is no tar, or breaks off; give a folder"):
        pin(Parameters(source="x", images=str(path)))


def test_a_fault_of_the_code_is_not_called_the_files() -> None:
    with pytest.raises(KeyError), reading("x"):
        raise KeyError("no such column")
    with pytest.raises(ManifestError, match=r"^as it is$"), reading("x"):
        raise ManifestError("as it is")


def test_an_error_that_nobody_foresaw_keeps_its_words_and_an_empty_one_its_name() -> None:
    assert str(unreadable("x", OSError("seven"))) == "x cannot be read: seven; check the file, or leave it out"
    assert fact_of(ValueError())[0] == "ValueError"
    assert fact_of(OSError(28, "No space left on device"))[0] == "No space left on device"
