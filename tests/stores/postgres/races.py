"""A race: processes that take a few sessions from each other and write to them, others that read along, and trouble.

Trouble is what comes to processes (SIGKILL, upon which another takes the place, and SIGSTOP for longer than a lease)
and to the server (restarts, an immediate shutdown, SIGKILL). Each process notes what it believes; afterwards all of it
must fit together, and fit the log.
"""

import asyncio
import heapq
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from holdfast.errors import SessionHeld
from holdfast.events import Event
from holdfast.store import Store
from holdfast.stores.postgres import PostgresStore
from holdfast.testing.said import said, said_in
from tests.conftest import ROOT
from tests.stores.postgres.race_journal import Line, RaceJournal, Saw, noted
from tests.stores.postgres.race_judge import Told, complaints, missed, told
from tests.stores.postgres.racing_process import END, Hand
from tests.stores.postgres.server import Server

SESSIONS = ("session_a", "session_b", "session_c")
READERS = 2
CATCHING_UP = 30.0
"""Seconds that readers have to read the last of it. They are woken, so it takes a moment."""
ENDS = ("restart", "immediate", "crash")
"""How the server ends, in turn: a fast shutdown, an immediate one, SIGKILL."""
STOPPED = 0.5
"""Seconds that a process is stopped for: longer than any lease."""


Found = dict[str, list[str]]
"""What is wrong, by session."""
Item = tuple[float, int, str, "Racer | None"]
"""When (in seconds), nothing, what happens, and to whom."""


class RaceLost(AssertionError):
    """Something did not fit; the message lists what."""


def race(seconds: float, processes: int, seed: int) -> dict[str, int]:
    """Let so many processes race for so long on a server of their own, and count what they did.

    `seed` decides what is tried and what trouble comes; how it interleaves is up to the machine. Raises `RaceLost` when
    a promise was broken, `NoServer` where there can be no server.
    """
    server = Server(fsync=True)
    try:
        server.start()
        return race_on(server, seconds, processes, seed)
    finally:
        server.remove()


def race_on(server: Server, seconds: float, processes: int, seed: int) -> dict[str, int]:
    """The same on a server that runs, and is nobody else's."""
    with tempfile.TemporaryDirectory() as place:
        found, counts = Race(server.url, Path(place), seed, server=server).run(seconds, processes)
    if any(found.values()):
        raise RaceLost(f"seed {seed}:\n" + "\n".join(listed(found)))
    return counts


def listed(found: Found) -> Iterator[str]:
    """The complaints in words, not too many."""
    for where, what in found.items():
        yield from [f"{where}: {complaint}" for complaint in what[:5]]
        if len(what) > 5:
            yield f"{where}: and {len(what) - 5} more"


class Racer:
    """A process of the race, and those that take its place."""

    def __init__(self, role: str, name: str, race: "Race") -> None:
        self.role = role
        self.name = name
        self._race = race
        self._life = 0
        self.process = self._start()

    @property
    def journal(self) -> Path:
        """Of the process there is now. It is there once the process is at work."""
        return self._race.place / f"{self.name}-{self._life if self.role == 'write' else 0}.{self.role}"

    def _start(self) -> subprocess.Popen[bytes]:
        race, life = self._race, self._life
        module = [sys.executable, "-m", "tests.stores.postgres.racing_process"]
        what = [self.role, race.url, str(self.journal), f"{race.seed}-{self.name}-{life}"]
        with race.place.joinpath(f"{self.name}-{life}.errors").open("wb") as errors:
            return subprocess.Popen([*module, *what, *race.sessions], cwd=ROOT, stderr=errors)

    def replace(self) -> None:
        """Kill it, and let another one begin: a writer anew, a reader where this one was."""
        self.end()
        self._life += 1
        self.process = self._start()

    def end(self) -> None:
        """Kill it, if it is there."""
        self.process.kill()
        self.process.wait()


class Race:
    """One race: `run` it once. `place` is an empty folder for journals. Only a server that is given is troubled."""

    def __init__(
        self,
        url: str,
        place: Path,
        seed: int,
        *,
        server: Server | None = None,
        sessions: tuple[str, ...] = SESSIONS,
    ) -> None:
        self.url = url
        self.place = place
        self.seed = seed
        self.sessions = sessions
        self._server = server
        self._dice = random.Random(seed)
        self._counts = Counter(killed=0, stopped=0, restarts=0)
        self._racers: list[Racer] = []

    def run(self, seconds: float, processes: int) -> tuple[Found, dict[str, int]]:
        """What is wrong, by session (and of the processes themselves), and counts."""
        asyncio.run(self._begin())
        try:
            self._racers += [Racer("write", f"writer-{n}", self) for n in range(processes)]
            self._racers += [Racer("read", f"reader-{n}", self) for n in range(READERS)]
            self._until_all_are_at_work()
            self._trouble(seconds)
            strange = list(self._gone())
            for racer in self._of_role("write"):
                racer.end()
            asyncio.run(self._end())
            strange += self._behind()
        finally:
            for racer in self._racers:
                racer.end()
        strange += [
            said for path in sorted(self.place.glob("*.errors")) if (said := path.read_text()[-2_000:])
        ]
        logs, left = asyncio.run(self._logs())
        return {"processes": strange, **self._judge(logs, left)}, dict(self._counts)

    def _of_role(self, role: str) -> list[Racer]:
        return [racer for racer in self._racers if racer.role == role]

    async def _begin(self) -> None:
        """Make the sessions, each with one event."""
        async with Master(self, "begin") as hand:
            for session in self.sessions:
                assert await hand.write(session, said(session, 1, "master 1 begins"), 1, 0.0)

    async def _end(self) -> None:
        """Write the last event of each session, which its readers wait for."""
        async with Master(self, "end") as hand:
            for session in self.sessions:
                epoch = await _claimed(hand, session)
                head = await hand.store.head(session)
                assert head is not None
                last = said(session, head.sequence + 1, f"master {epoch} {END}")
                assert await hand.write(session, last, epoch, 0.0)

    async def _logs(self) -> tuple[dict[str, list[Event]], dict[str, list[str]]]:
        """The sessions' events, and the letters that nobody has taken."""
        async with Master(self, "judge") as hand:
            logs = {session: await _everything(hand.store, session) for session in self.sessions}
            return logs, {session: await _left(hand.store, session) for session in self.sessions}

    def _until_all_are_at_work(self) -> None:
        deadline = time.monotonic() + CATCHING_UP
        while any(not racer.journal.exists() for racer in self._racers) and time.monotonic() < deadline:
            time.sleep(0.05)

    def _trouble(self, seconds: float) -> None:
        """Let them race for so long, and do to them what the seed says."""
        start = time.monotonic()
        agenda = list(self._agenda(seconds))
        heapq.heapify(agenda)
        while agenda:
            when, _, what, racer = heapq.heappop(agenda)
            time.sleep(max(0.0, start + when - time.monotonic()))
            match what:
                case "kill":
                    self._dice.choice(self._racers).replace()
                    self._counts["killed"] += 1
                case "stop":
                    stopped = self._dice.choice(self._of_role("write"))
                    stopped.process.send_signal(signal.SIGSTOP)
                    heapq.heappush(agenda, (when + STOPPED, len(agenda), "go on", stopped))
                    self._counts["stopped"] += 1
                case "go on":
                    assert racer is not None
                    racer.process.send_signal(signal.SIGCONT)
                case _:
                    self._restart(what)

    def _agenda(self, seconds: float) -> Iterator[Item]:
        """When what happens, and that it is over."""
        for what in ("kill", "stop"):
            when = self._dice.uniform(1.0, 4.0)
            while when < seconds - STOPPED:
                yield when, 0, what, None
                when += self._dice.uniform(0.5, 3.0)
        if self._server is not None:
            times = max(2, round(seconds / 12))
            for n in range(times):
                yield seconds * (n + 1) / (times + 1), 0, ENDS[n % len(ENDS)], None
        yield seconds, 0, "go on", self._racers[0]

    def _restart(self, how: str) -> None:
        """End the server in this way; start it again a moment later."""
        assert self._server is not None
        if how == "crash":
            self._server.kill()
        else:
            self._server.stop(signal.SIGINT if how == "restart" else signal.SIGQUIT)
        time.sleep(self._dice.uniform(0.0, 0.5))
        self._server.start()
        self._counts["restarts"] += 1

    def _gone(self) -> Iterator[str]:
        for racer in self._racers:
            if racer.process.poll() is not None:
                yield f"{racer.name} ended by itself with {racer.process.returncode}"

    def _behind(self) -> Iterator[str]:
        """Readers that do not get to the end, though all is written and nothing disturbs them."""
        deadline = time.monotonic() + CATCHING_UP
        for racer in self._of_role("read"):
            try:
                racer.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                yield f"{racer.name} was not woken, or missed the end"

    def _judge(self, logs: dict[str, list[Event]], left: dict[str, list[str]]) -> Found:
        wrote = [noted(path) for path in sorted(self.place.glob("*.write"))]
        readers = [noted(path) for path in sorted(self.place.glob("*.read"))]
        found: Found = {}
        for session, log in logs.items():
            heard = told(session, wrote)
            found[session] = list(complaints(log, left[session], heard))
            for lines in readers:
                found[session] += missed(log, session, lines)
            self._count(log, heard)
        self._counts["read"] = sum(_seen(lines) for lines in readers)
        return found

    def _count(self, log: list[Event], heard: Told) -> None:
        self._counts["events"] += len(log)
        self._counts["letters"] += len(heard.letters)
        self._counts["epochs"] += len(heard.claims)
        for append in heard.appends:
            self._counts[append.fate] += 1


class Master:
    """A hand of the race itself, on a store that is open for as long as the hand is needed."""

    def __init__(self, race: Race, name: str) -> None:
        self._store = PostgresStore(race.url)
        self._journal = RaceJournal(race.place / f"{name}.write")

    async def __aenter__(self) -> Hand:
        await self._store.open()
        return Hand(self._store, self._journal, "master", "")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()
        await self._store.close()


async def _claimed(hand: Hand, session: str) -> int:
    """The epoch, as soon as the lease of whoever was killed last has run out."""
    while True:
        try:
            return await hand.claim(session, 1.0)
        except SessionHeld as held:
            await asyncio.sleep(held.seconds)


async def _everything(store: Store, session: str) -> list[Event]:
    found: list[Event] = []
    while page := await store.read(session, after=len(found), limit=10_000):
        found += page
    return found


async def _left(store: Store, session: str) -> list[str]:
    return [said_in(letter.event) for letter in await store.letters(session)]


def _seen(lines: list[Line]) -> int:
    return sum(len(line.events) for line in lines if isinstance(line, Saw))
