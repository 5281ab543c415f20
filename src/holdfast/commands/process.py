"""A foreign process: what it is told, what it says within bounds, and its certain end.

Everything here blocks and belongs in a thread. The process leads a session of its own; whatever happens, none of its
group is left when `converse` returns. Where the program itself is killed meanwhile, a watchdog ends the group.
"""

from __future__ import annotations

import os
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

MARK = "HOLDFAST_PROCESS"
"""A variable of its environment that no other process has the value of."""

_TICK = 0.02
"""Seconds between looks, where the system does not tell when a process ends."""
_CHUNK = 65_536
_ROUNDS = 5
"""How often those that left the group are looked for: they may begin others meanwhile."""


class Bounds(Struct, frozen=True, kw_only=True):
    """What a process may take."""

    seconds: float
    stdout: int = 1_048_576
    """Bytes."""
    stderr: int = 65_536
    """Bytes."""


class Said(Struct, frozen=True, kw_only=True):
    """What became of a process."""

    stdout: bytes
    stderr: bytes
    code: int
    """Its exit code; negative for the signal that ended it."""
    ended: str = ""
    """Why it was ended before it ended itself."""


def converse(
    argv: Sequence[str], told: bytes, stop: int, *, cwd: str, environment: Mapping[str, str], bounds: Bounds
) -> Said:
    """Run it, tell it this on its standard input, and take what it says.

    It is ended when its time is over, when it says too much, and when the other end of the pipe `stop` is closed; this
    end is closed here. Raises `OSError` when it cannot be started.
    """
    try:
        if _is_closed(stop):
            return Said(stdout=b"", stderr=b"", code=0, ended="it was told to stop")
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        talk = _Talk(process, told, bounds)
        ended = "it could not be attended to"
        watchdog = _watchdog(process.pid)
        try:
            ended = talk.until_over(stop)
        finally:
            _end_all(process, environment.get(MARK, "") if ended else "")
            talk.close()
            if watchdog is not None:
                watchdog.kill()
                watchdog.communicate()
        return Said(
            stdout=bytes(talk.stdout), stderr=bytes(talk.stderr), code=process.returncode, ended=ended
        )
    finally:
        os.close(stop)


def _is_closed(stop: int) -> bool:
    """Whether the other end of this pipe is."""
    poll = select.poll()
    poll.register(stop, select.POLLIN)
    return bool(poll.poll(0))


class _Talk:
    """The three pipes of a process."""

    def __init__(self, process: subprocess.Popen[bytes], told: bytes, bounds: Bounds) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process, self._told, self._bounds = process, memoryview(told), bounds
        self._pipes = (process.stdin, process.stdout, process.stderr)
        self.stdout, self.stderr = bytearray(), bytearray()
        for pipe in self._pipes:
            os.set_blocking(pipe.fileno(), False)

    def close(self) -> None:
        """Let go of the pipes."""
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.close()

    def until_over(self, stop: int) -> str:
        """Talk until the process has ended by itself (empty), or must be ended, and why."""
        deadline = time.monotonic() + self._bounds.seconds
        leader = _descriptor(self._process.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._pipes[0], selectors.EVENT_WRITE)
                for pipe in self._pipes[1:]:
                    selector.register(pipe, selectors.EVENT_READ)
                for fd in (stop,) if leader is None else (stop, leader):
                    selector.register(fd, selectors.EVENT_READ)
                while True:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return f"it took longer than {self._bounds.seconds:g} s"
                    ready = selector.select(left if leader is not None else min(left, _TICK))
                    gone = _has_ended(self._process)  # before reading, so that nothing of it is missed
                    if why := self._step(selector, [key.fileobj for key, _ in ready], stop, gone):
                        return why
                    if gone:
                        return ""
        finally:
            if leader is not None:
                os.close(leader)

    def _step(self, selector: selectors.BaseSelector, ready: Sequence[object], stop: int, gone: bool) -> str:
        stdin, stdout, stderr = self._pipes
        if stop in ready:
            return "it was told to stop"
        if stdin in ready and self._write():
            selector.unregister(stdin)
            stdin.close()
        for pipe, said, most in (
            (stdout, self.stdout, self._bounds.stdout),
            (stderr, self.stderr, self._bounds.stderr),
        ):
            if (pipe in ready or gone) and not _read(pipe.fileno(), said, most) and not gone:
                selector.unregister(pipe)
            if len(said) > most:
                name = "standard output" if pipe is stdout else "standard error"
                return f"it wrote more than {most:,} bytes to {name}; let it write less"
        return ""

    def _write(self) -> bool:
        """Tell it more; whether it has been told everything, or does not listen any more."""
        try:
            self._told = self._told[os.write(self._pipes[0].fileno(), self._told[:_CHUNK]) :]
        except BlockingIOError:
            return False
        except OSError:
            return True
        return not self._told


def _read(fd: int, said: bytearray, most: int) -> bool:
    """Take what is there, up to just beyond what it may say; False when nothing will come any more."""
    while len(said) <= most:
        try:
            piece = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not piece:
            return False
        said += piece
    return True


def _descriptor(pid: int) -> int | None:
    """What becomes readable when the process ends, where there is such a thing."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has; where the system can, it stays there to be taken note of, and its group keeps its number."""
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end_all(process: subprocess.Popen[bytes], mark: str) -> None:
    """Kill the process and its group, and (by the mark in their environment) those that left the group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGSTOP)  # so that nothing is begun while the others are looked for
    for _ in range(_ROUNDS):
        if not (found := _marked(mark)):
            break
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _marked(mark: str) -> list[int]:
    """Processes with this mark, where the system shows the environment of processes."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for entry in Path("/proc").glob("[0-9]*") if mark else ():
        with suppress(OSError, ValueError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def _watchdog(group: int) -> subprocess.Popen[bytes] | None:
    """A process that kills this group as soon as ours is gone, however that comes about."""
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill -s KILL -- "-$1"', "sh", str(group)],
            cwd="/",
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return None
