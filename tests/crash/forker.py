"""A fork server: plays cases, each process of them a fork that really dies.

    python -m tests.crash.forker PLACE [--url URL] [--plant BUG]

Reads a case (JSON) per line and answers with its verdict. This process has one thread, no event loop and no open store,
ever, so that a fork of it is as good as a new process, and a hundred times cheaper.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import os
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from holdfast.engines import local
from holdfast.turn import retry
from tests.crash.bugs import BUGS
from tests.crash.cases import AMIDST, Case, Kill, Verdict
from tests.crash.judge import judged
from tests.crash.lives import Life
from tests.crash.scenarios import NAMED, PACE, Scenario
from tests.crash.world import Fuse, World

STUCK = 40.0
"""Seconds after which a process that should be done is stuck: a lease, a sweep, and some."""

QUIET = 0.4
"""Seconds that something may take to happen before a kill comes anyway."""

PARENT_DEATH = 1
"""What `prctl` calls the signal that a process gets when its parent dies."""


class Process:
    """A fork at work. It says on a pipe that it reached its place, and the end of the pipe is its own end."""

    def __init__(self, work: Callable[[Fuse], object], errors: Path, kill: Kill | None = None) -> None:
        self._ear, mouth = os.pipe()
        self._errors = errors
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._ear)
            _live(work, errors, kill, mouth)
        os.close(mouth)

    def kill(self) -> bool:
        """End it; whether it still lived."""
        os.kill(self.pid, signal.SIGKILL)
        return self.end() == -signal.SIGKILL

    def wait(self, delay: float = 0.0) -> int:
        """Until it ends by itself, or `delay` after it says that it is there; its exit code, -9 when it was killed.

        Raises `TimeoutError` for one that is stuck, and ends that.
        """
        deadline = time.monotonic() + STUCK
        while select.select([self._ear], [], [], max(deadline - time.monotonic(), 0))[0]:
            if not os.read(self._ear, 1):
                return self.end()
            time.sleep(delay)
            os.kill(self.pid, signal.SIGKILL)
        self.kill()
        raise TimeoutError(f"a process was stuck for {STUCK:g} s")

    def end(self) -> int:
        """Take note of its end."""
        os.close(self._ear)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def last_words(self) -> str:
        """What it wrote of why it failed."""
        return self._errors.read_text()[-1_500:] if self._errors.exists() else ""


def _live(work: Callable[[Fuse], object], errors: Path, kill: Kill | None, mouth: int) -> None:
    """The whole life of a fork."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL)
        output = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)

        def poke() -> None:
            os.write(mouth, b"!")

        work(Fuse(kill.at, kill.number, poke) if kill else Fuse())
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


class Play:
    """One case from its first process to its verdict."""

    def __init__(self, case: Case, place: Path, url: str) -> None:
        self._case = case
        self._scenario: Scenario = NAMED[case.scenario]
        self._place = place
        self._url = url
        self._killed: list[str] = []
        self._problems: list[str] = []

    def verdict(self) -> Verdict:
        """Play it, and look at what is left."""
        counts: dict[str, int] = {}
        try:
            if self._scenario.shared:
                self._together()
            else:
                self._one_after_another()
            if not self._problems:
                counts = self._judge()
        except TimeoutError as stuck:
            self._problems.append(str(stuck))
        return Verdict(
            case=self._case, killed=tuple(self._killed), problems=tuple(self._problems), counts=counts
        )

    def _life(self, fuse: Fuse) -> Life:
        return Life(self._scenario, self._place, self._url, fuse)

    def _start(self, work: Callable[[Fuse], object], kill: Kill | None = None) -> Process:
        return Process(work, self._place / "errors", kill)

    def _client(self, kill: Kill | None = None) -> Process:
        return self._start(lambda fuse: _run(self._life(fuse).client), kill)

    def _finished(self, process: Process, code: int) -> None:
        if code != 0:
            self._problems.append(f"a process ended with {code}: {process.last_words()}")

    def _one_after_another(self) -> None:
        for kill in self._case.kills:
            process = self._client(kill)
            code = process.wait(kill.delay)
            if code != -signal.SIGKILL:
                self._finished(process, code)
                break
            self._killed.append(kill.at)
        last = self._client()
        self._finished(last, last.wait())

    def _together(self) -> None:
        """Some processes at one database. Whoever dies is replaced, until the client is done."""
        setup = self._start(lambda fuse: _run(self._life(fuse).prepare))
        self._finished(setup, setup.wait())
        others = 2 if self._scenario.shared == "workers" else 1
        alive: dict[int, Process] = {}
        for kill in self._case.kills:
            self._staff(alive, others)
            self._until_lines(kill.number)
            time.sleep(kill.delay)
            if alive.pop(kill.victim).kill():
                self._killed.append(f"{AMIDST}, {'another' if kill.victim else 'client'}")
        self._staff(alive, others)
        client = alive.pop(0)
        try:
            self._finished(client, client.wait())
        finally:
            self._dismiss(alive)

    def _until_lines(self, number: int) -> None:
        """Until so many things more have happened, or for too long nothing has."""
        world = World(self._place)
        enough, deadline = world.length() + number, time.monotonic() + QUIET
        while world.length() < enough and time.monotonic() < deadline:
            time.sleep(PACE / 4)

    def _staff(self, alive: dict[int, Process], others: int) -> None:
        for number in range(1 + others):
            if number in alive:
                continue
            errors = self._place / f"errors {number}"
            works = number > 0 and self._scenario.shared == "workers"
            alive[number] = Process(
                lambda fuse, works=works: _run(  # type: ignore[misc]
                    self._life(fuse).work if works else self._life(fuse).client
                ),
                errors,
            )

    def _dismiss(self, others: dict[int, Process]) -> None:
        """Workers work until they die; a rival is done when everything is."""
        for process in others.values():
            if self._scenario.shared == "workers":
                if not process.kill():  # at rest, which is not counted
                    self._problems.append(f"a worker ended by itself: {process.last_words()}")
            else:
                self._finished(process, process.wait())

    def _judge(self) -> dict[str, int]:
        report = self._place / "report"

        def look(_: Fuse) -> None:
            found = judged(self._scenario, self._place, self._url, len(self._killed))
            report.write_bytes(msgspec.json.encode((found.problems, dict(found.counts))))

        process = self._start(look)
        self._finished(process, process.wait())
        if self._problems:
            return {}
        problems, counts = msgspec.json.decode(report.read_bytes(), type=tuple[list[str], dict[str, int]])
        self._problems += problems
        return counts


def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


def main() -> None:
    """Play what comes in, until nothing does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("place", type=Path)
    parser.add_argument("--url", default="", help="of a Postgres, for cases that are played on one")
    parser.add_argument("--plant", default="", choices=("", *BUGS), help="a bug that must be found")
    options = parser.parse_args()
    retry.FIRST_WAIT = 0.01
    local.POLL = 0.2
    if options.plant:
        BUGS[options.plant]()
    gc.freeze()
    for line in sys.stdin.buffer:
        case = msgspec.json.decode(line, type=Case)
        place = options.place / f"case_{uuid4().hex}"
        place.mkdir()
        url = options.url if case.store == "postgres" else ""
        verdict = Play(case, place, url).verdict()
        shutil.rmtree(place)
        sys.stdout.buffer.write(msgspec.json.encode(verdict) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
