"""One scenario, played once: an application that is killed where it is told to be, and started again."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from holdfast.events import Event
from holdfast.runtime import Runtime, Services
from holdfast.stores.memory import MemoryStore
from holdfast.testing.client import Client, MakeAgent
from holdfast.testing.clock import VirtualClock
from holdfast.testing.faults import Boundaries, BoundedStore
from holdfast.testing.simulation import Crash, Simulation
from holdfast.testing.watched import Watch, WatchedRegistry

PATIENCE = 86_400.0
"""Virtual seconds within which a session must come to rest."""

_processes = itertools.count(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Play:
    """What stays the same every time the scenario is played."""

    make_agent: MakeAgent
    make_client: Callable[[], Client]
    make_watch: Callable[[], Watch]
    services: Services | None
    seed: int


class Scene:
    """The scenario, played with these kills: the n-th process dies at the n-th of these boundaries, the last lives."""

    def __init__(self, play: Play, kills: Sequence[int] = ()) -> None:
        self._play = play
        self.disk = MemoryStore()
        self.client = play.make_client()
        self.watch = play.make_watch()
        self.simulation = Simulation(play.seed)
        self.killed: list[str] = []
        """Where each process died, in order."""
        self.crossed = 0
        """Boundaries that the last process crossed."""
        self.stuck = ""
        """Why the last process did not come to rest, if it did not."""
        self.logs: dict[str, list[Event]] = {}
        """What is on the disk at the end, by session."""
        for at in (*kills, 0):
            if not self._live(at):
                break
        self.simulation.run(self._look())

    def _live(self, at: int) -> bool:
        """One process; whether it was killed."""
        boundaries = Boundaries(at, first=not self.killed)
        try:
            self.simulation.run(self._process(boundaries))
        except Crash as crash:
            self.killed.append(crash.where)
            return True
        except TimeoutError:
            self.stuck = f"the session did not come to rest within {PATIENCE:,.0f} virtual seconds"
        except Exception as error:
            if not self.killed:
                raise
            self.stuck = f"it could not be recovered: {type(error).__name__}: {error}"
        finally:
            self.watch.ledger.admit(0)
            self.crossed = boundaries.crossed
        return False

    async def _process(self, boundaries: Boundaries) -> None:
        with self.watch.process(next(_processes), boundaries):
            agent = self.watch.agent(self._play.make_agent())
            runtime = Runtime(
                BoundedStore(self.disk, boundaries),
                clock=VirtualClock(),
                services=self._play.services,
                registry=WatchedRegistry(self.watch),
            )
            async with runtime, asyncio.timeout(PATIENCE):
                await self.client.work(runtime, agent)

    async def _look(self) -> None:
        await self.disk.open()
        for head in await self.disk.sessions():
            self.logs[head.session_id] = await self.disk.read(head.session_id, limit=head.sequence)
