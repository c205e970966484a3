"""An object store that fails in every known way: right bytes or one clear sentence, in bounded time."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import botocore.exceptions
import pytest
from s3_fault_proxy import Fault, Faults, s3_fault_proxy

from infra import failpoints, s3_client, s3_objects
from infra.s3_objects import Bucket
from infra.storage import StorageError, Store, StoreUnavailable
from stages.manifest import Ledger, Manifest, ManifestError, load, verify
from stages.materialize import StageSpec
from stages.ref import Ref
from stages.sweep import DAY_SECONDS, Kind, find_leftovers, remove_leftovers
from stages.workspace import Output, read_file

REF = Ref(name="pool/x", version="v1")
Break = Callable[..., Faults]


@pytest.fixture
def broken(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Break]:
    """Return a function that puts faults between us and the store, for the rest of the test."""
    opened = []

    def begin(*faults: Fault, seed: int = 0) -> Faults:
        played = Faults(seed, *faults)
        proxy = s3_fault_proxy(s3_endpoint, played)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.__enter__())
        opened.append(proxy)
        return played

    yield begin
    for proxy in opened:
        proxy.__exit__(None, None, None)


def output(store: Store) -> Output:
    return Output(store=store, ref=REF, stage="toy", identity={"stage": "toy", "inputs": {}})


def publish(store: Store, parts: int = 4) -> Manifest:
    to = output(store)
    made = [
        to.part(f"{n:06d}", "d" * 64, Ledger(listed=1, kept=1), {"rows": (f"{n:06d}.bin", content(n))})
        for n in range(parts)
    ]
    return to.commit(made)


def content(number: int) -> bytes:
    return f"content of part {number}, ".encode() * 400


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_errors_resets_lost_answers_cut_bodies_and_slowness_leave_the_right_bytes(
    s3_store: Store, broken: Break, tmp_path: Path, seed: int
) -> None:
    plain = publish(Store(str(tmp_path)))
    kinds = ("503", "500", "reset", "lost", "cut", "slow")
    played = broken(*(Fault(kind, probability=0.06) for kind in kinds), seed=seed)
    started = time.monotonic()
    made = publish(s3_store)
    assert made.digest == plain.digest
    assert verify(s3_store, load(s3_store, REF)) == []
    assert sum(played.played.values()) >= 5, "the faults were there"
    assert time.monotonic() - started < 60


def test_a_marker_whose_answer_was_lost_is_ours(s3_store: Store, broken: Break) -> None:
    played = broken(Fault("lost", methods=("PUT",), contains="/markers/", at_most=1))
    publish(s3_store, parts=1)
    assert played.played["lost"] == 1
    assert verify(s3_store, load(s3_store, REF)) == []
    assert len(s3_store.keys(f"{REF.folder}/markers")) == 1


def test_what_publishing_and_looking_up_cost_in_requests(s3_store: Store, broken: Break) -> None:
    seen = broken()
    publish(s3_store, parts=3)
    # Per part: one question, its file, and one conditional PUT of its marker; then recipe and manifest.
    assert dict(seen.requests) == {"HEAD": 3, "PUT": 3 + 3 + 2}
    seen.requests.clear()
    output(s3_store).standing([(f"{n:06d}", "d" * 64) for n in range(1000)])
    assert dict(seen.requests) == {"GET": 1 + 3}, "one page of a listing, and the markers that stand"


def test_a_marker_that_a_rival_wrote_first_is_kept_and_its_part_is_what_counts(s3_store: Store) -> None:
    first = output(s3_store).part("0", "d", Ledger(listed=1, kept=1), {"rows": ("0.bin", b"first")})
    second = output(s3_store).part("0", "d", Ledger(listed=1, kept=0, failed=1), {"rows": ("0.bin", b"second")})
    assert second == first
    (loser,) = find_leftovers(s3_store, 0).leftovers
    assert (loser.kind, loser.entry.bytes) == (Kind.UNCOUNTED, len(b"second"))


def test_two_runs_that_end_differently_do_not_replace_each_other(any_store: Store) -> None:
    first = publish(any_store, parts=1)
    assert publish(any_store, parts=1) == first, "the same result is no conflict"
    with pytest.raises(ManifestError, match=r"pool/x@v1 was finished by another run meanwhile.*--force"):
        publish(any_store, parts=2)
    assert load(any_store, REF) == first


@pytest.mark.parametrize("kind", ["cut", "short", "flip"])
def test_a_truncated_answer_is_read_again(s3_store: Store, broken: Break, kind: str) -> None:
    manifest = publish(s3_store, parts=1)
    played = broken(Fault(kind, methods=("GET",), contains="/parts/", at_most=1))
    assert read_file(s3_store, manifest, manifest.parts[0].files["rows"]) == content(0)
    assert played.played[kind] == 1


def test_an_answer_that_is_short_every_time_is_refused(s3_store: Store, broken: Break) -> None:
    manifest = publish(s3_store, parts=1)
    broken(Fault("short", methods=("GET",), contains="/parts/"))
    with pytest.raises(ManifestError, match=r"pool/x/v1/parts/.* differs from its manifest"):
        read_file(s3_store, manifest, manifest.parts[0].files["rows"])


def test_an_answer_that_is_damaged_every_time_is_not_asked_for_long(s3_store: Store, broken: Break) -> None:
    manifest = publish(s3_store, parts=1)
    played = broken(Fault("flip", methods=("GET",), contains="/parts/"))
    with pytest.raises(StorageError, match=r"pool/x/v1/parts/.* damaged, 3 times"):
        read_file(s3_store, manifest, manifest.parts[0].files["rows"])
    assert played.played["flip"] == 3


def test_large_objects_are_whole_too(
    s3_store: Store, broken: Break, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_objects, "WHOLE_BYTES", 1 << 20)
    monkeypatch.setattr(s3_objects, "PIECE_BYTES", 5 << 20)
    source = tmp_path / "large.bin"
    source.write_bytes(os.urandom(12 << 20))
    played = broken(
        Fault("503", methods=("PUT", "POST"), at_most=2), Fault("cut", methods=("GET",), at_most=2, probability=0.5)
    )
    s3_store.write("large", source)
    assert played.requests["POST"] >= 2, "it went up in pieces"
    assert s3_store.read("large") == source.read_bytes()
    assert s3_store.create("large", source)
    with s3_store.local("large") as copy:
        assert copy.read_bytes() == source.read_bytes()


def test_a_store_that_is_down_is_said_within_the_limit(
    s3_store: Store, broken: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_client, "PATIENCE_SECONDS", 1.0)
    publish(s3_store, parts=1)
    broken(Fault("503"))
    started = time.monotonic()
    for ask in (
        lambda: s3_store.write("a", b"1"),
        lambda: s3_store.exists(REF.key("manifest.json")),
        lambda: s3_store.files("pool"),
    ):
        with pytest.raises(StoreUnavailable, match=r"in \d+ tries over .* run the same command again"):
            ask()
    assert time.monotonic() - started < 30
    with pytest.raises(StoreUnavailable):
        find_leftovers(s3_store, 0)  # an outage must not look like an artifact without a manifest


def test_a_refused_connection_is_asked_again_and_then_said_to_be_no_answer(
    s3_store: Store, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setattr(s3_client, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port}")
    for ask in (s3_store.check, lambda: s3_store.read("a"), lambda: s3_store.files("pool")):
        with pytest.raises(StoreUnavailable, match=rf"does not answer at http://127\.0\.0\.1:{closed_port}: .*tries"):
            ask()


@pytest.mark.parametrize("named", ["ConnectTimeoutError", "EndpointConnectionError", "ProxyConnectionError"])
def test_a_server_that_comes_back_is_found_again(named: str) -> None:
    def refused() -> Exception:
        kind = getattr(botocore.exceptions, named)
        error: Exception = kind(endpoint_url="http://x", proxy_url="x", error="refused")
        return error

    answers: list[Exception | str] = [refused(), refused(), "bytes"]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert s3_client.patiently("bucket", "give a", ask) == "bytes"


def test_a_certificate_that_is_not_trusted_is_said_at_once() -> None:
    asked = []

    def ask() -> None:
        asked.append(1)
        raise botocore.exceptions.SSLError(endpoint_url="https://x", error="self-signed certificate")

    with pytest.raises(StorageError, match=r"certificate .* is not trusted.*AWS_CA_BUNDLE") as refusal:
        s3_client.patiently("bucket", "give a", ask)
    assert len(asked) == 1 and not isinstance(refusal.value, StoreUnavailable)


def test_a_stage_ends_with_the_exit_code_for_later(s3_store: Store, broken: Break, tmp_path: Path) -> None:
    spec = StageSpec(stage="list_urls", artifact=REF, parameters={"source": "own"})
    s3_store.write("spec.json", spec.model_dump_json().encode())
    broken(Fault("503"))
    code = "import sys; from infra import s3_client; s3_client.PATIENCE_SECONDS = 0.5; from stages.run import main; "
    command = [
        sys.executable,
        "-c",
        code + f"sys.exit(main(['spec.json', '--store', {s3_store.root!r}, '--inline']))",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == os.EX_TEMPFAIL, ended.stderr[-2000:]
    assert ended.stdout.splitlines()[-1].startswith("later: s3://")


def test_a_bucket_that_is_not_there_is_named(s3_endpoint: str) -> None:
    with pytest.raises(StorageError, match=r"no bucket 'never-made'.*INTERNVL_STORE"):
        Store("s3://never-made/x").write("a", b"1")


def test_no_credentials_is_said_so(s3_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", os.environ["AWS_ENDPOINT_URL"] + "/")  # a client of its own
    with pytest.raises(StorageError, match="check the credentials"):
        s3_store.write("a", b"1")


def test_an_upload_that_fails_half_way_publishes_nothing_and_is_aborted(
    s3_store: Store, broken: Break, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_objects, "PIECE_BYTES", 5 << 20)
    monkeypatch.setattr(s3_client, "PATIENCE_SECONDS", 0.2)
    source = tmp_path / "large.bin"
    source.write_bytes(os.urandom(12 << 20))
    broken(Fault("500", methods=("PUT",), contains="partNumber=2"))
    with pytest.raises(StoreUnavailable):
        s3_store.write("large", source)
    assert not s3_store.exists("large")
    assert list(s3_store.entries()) == []


def test_an_upload_whose_process_was_killed_is_invisible_until_the_sweep_aborts_it(
    s3_store: Store, s3_endpoint: str
) -> None:
    name, _, prefix = s3_store.root.removeprefix("s3://").partition("/")
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    for folder in (f"{prefix}/{REF.folder}", "another"):
        key = f"{folder}/parts/0-0123456789abcdef.tar"
        upload = client.create_multipart_upload(Bucket=name, Key=key)["UploadId"]
        for number in (1, 2):
            client.upload_part(Bucket=name, Key=key, UploadId=upload, PartNumber=number, Body=b"x" * (5 << 20))
    assert s3_store.keys() == []
    # The S3 server of the tests dates every upload 2010-11-10.
    assert find_leftovers(s3_store, 50 * 365 * DAY_SECONDS).leftovers == [], "it may be running"
    (found,) = find_leftovers(s3_store, 0).leftovers
    assert (found.kind, found.entry.bytes) == (Kind.UPLOAD, 10 << 20)
    assert remove_leftovers(s3_store, [found]) == [found]
    assert find_leftovers(s3_store, 0).leftovers == []
    left = client.list_multipart_uploads(Bucket=name)["Uploads"]
    assert [each["Key"] for each in left] == ["another/parts/0-0123456789abcdef.tar"], "outside our prefix"


def test_a_work_that_raises_publishes_nothing_that_counts(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoints, "_passed", Counter())
    monkeypatch.setenv("INTERNVL_FAILPOINT", "before_marker:raise")
    with pytest.raises(failpoints.FailpointError, match="before_marker"):
        publish(any_store, parts=1)
    monkeypatch.delenv("INTERNVL_FAILPOINT")
    assert output(any_store).done("000000", "d" * 64) is None
    publish(any_store, parts=1)


def test_listings_are_paged(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.s3.models import s3_backends

    name, _, prefix = s3_store.root.removeprefix("s3://").partition("/")
    backend = s3_backends["123456789012"]["aws"]
    for number in range(2500):
        backend.put_object(name, f"{prefix}/pool/x/v1/markers/{number:06d}.json", b"{}")
    pages = []
    call = Bucket._call

    def counted(self: Bucket, what: str, method: str, **arguments: object) -> dict[str, object]:
        pages.append(method)
        return call(self, what, method, **arguments)

    monkeypatch.setattr(Bucket, "_call", counted)
    assert len(s3_store.keys("pool/x")) == 2500
    assert pages == ["list_objects_v2"] * 3
    s3_store.remove("pool")
    assert s3_store.keys() == []
