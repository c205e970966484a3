"""A PostgreSQL of our own, with its own folder, port and password; root lends it a user, because it refuses root."""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from installation import free_port

USER, SECONDS = "internvl", 300


class Postgres:
    """A running server with one database."""

    def __init__(self, bin_folder: Path, folder: Path) -> None:
        """Choose a port and a password."""
        self.bin, self.folder, self.port = bin_folder, folder, free_port()
        self.password = f"canary-postgres-{secrets.token_hex(16)}"

    @property
    def url(self) -> str:
        """Return the address as Prefect takes it."""
        return f"postgresql+asyncpg://{USER}:{self.password}@127.0.0.1:{self.port}/postgres"

    def call(self, tool: str, *words: str) -> str:
        """Run one of PostgreSQL's tools as a user that it accepts; return what it printed."""
        command = [str(self.bin / tool), *words]
        as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        environment = {**os.environ, "PGPASSWORD": self.password, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [*as_user, *command], env=environment, cwd=self.folder, text=True, timeout=SECONDS,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(command)} -> {done.returncode}\n{done.stdout[-3000:]}"
        return done.stdout

    def ask(self, query: str) -> list[str]:
        """Return the rows of a query, one line each."""
        told = self.call("psql", *self._where, "--no-psqlrc", "--tuples-only", "--no-align", "--command", query)
        return told.splitlines()

    def dump(self) -> str:
        """Return everything that the database holds."""
        return self.call("pg_dump", *self._where)

    @property
    def _where(self) -> list[str]:
        return ["--host=127.0.0.1", f"--port={self.port}", f"--username={USER}", "--dbname=postgres"]

    def start(self) -> None:
        """Make the database and serve it on loopback."""
        password_file = self.folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        if os.geteuid() == 0:
            for path in (self.folder, password_file):
                shutil.chown(path, "postgres")
        data = str(self.folder / "data")
        self.call("initdb", "-D", data, "-U", USER, "--auth=scram-sha-256", f"--pwfile={password_file}", "--no-sync")
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        )
        # Without a log file of its own the server would keep the pipe open that its starter's output is read from.
        self.call("pg_ctl", "-D", data, "-l", str(self.folder / "log"), "-o", options, "-w", "-t", "240", "start")

    def stop(self) -> None:
        """End the server."""
        self.call("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")


def installed() -> Path | None:
    """Return the folder of PostgreSQL's tools, None where it is not installed or has no user to run as."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    tool = found[-1] if found else shutil.which("initdb")
    users = {entry.pw_name for entry in pwd.getpwall()}
    return Path(tool).parent if tool and (os.geteuid() != 0 or "postgres" in users) else None


@contextmanager
def postgres(bin_folder: Path) -> Iterator[Postgres]:
    """Serve a new database meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="ivp-", dir="/tmp"))
    server = Postgres(bin_folder, folder)
    try:
        server.start()
        yield server
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
