"""Many sessions at work side by side on one store, whose commits they share: on a file, and on Postgres."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from uuid import uuid4

from benchmarks.calculator import ANSWER, QUESTION, Calculator, calculator
from benchmarks.commits import counted
from benchmarks.figures import Effort, Figure
from benchmarks.timing import Took, folder, rate_of, timed
from holdfast import Agent, Runtime, Session
from tests.stores.postgres.server import NoServer, Server

UNIT = "turns/s"
LONGER = 4
"""How much longer a repeat takes here than one of short turns: the sessions' start and end are part of it."""


async def many(effort: Effort) -> list[Figure]:
    """Sessions on a file, each with one turn after another: turns with a tool in a second, commits for each."""
    with folder() as place, counted() as commits:
        async with Runtime(place / "many.db") as runtime:
            took, number = await _fleets(runtime, effort.many, effort)
            before = commits.number
            await _fleet(await _sessions(runtime, effort.many), number)
            a_turn = (commits.number - before) / number / effort.many
    name = f"{effort.many:,} sessions at once, file"
    return [
        rate_of("many", name, UNIT, number * effort.many, took),
        Figure(workload="many", name="commits a turn", unit="", values=(round(a_turn, 3),)),
    ]


async def postgres(effort: Effort) -> list[Figure]:
    """The same on a Postgres on this machine, which syncs every commit."""
    name = f"{effort.postgres:,} sessions at once"
    if find_spec("asyncpg") is None:
        reason = "asyncpg is not installed: pip install 'holdfast[postgres]'"
        return [Figure(workload="postgres", name=name, unit=UNIT, values=(), skipped=reason)]
    try:
        with _url() as url:
            return [await _on_postgres(name, url, effort)]
    except NoServer as error:
        reason = f"{error}; install it, or set TEST_POSTGRES_URL"
        return [Figure(workload="postgres", name=name, unit=UNIT, values=(), skipped=reason)]


@contextmanager
def _url() -> Iterator[str]:
    """Of the Postgres that is given, or of a new one from the wheel, as the tests start it. Raises `NoServer`."""
    if given := os.environ.get("TEST_POSTGRES_URL"):
        yield given
        return
    server = Server(fsync=True)
    try:
        server.start()
        yield server.url
    finally:
        server.remove()


async def _on_postgres(name: str, url: str, effort: Effort) -> Figure:
    import asyncpg  # the extra `postgres`, which the other workloads do without

    from holdfast.stores.postgres import PostgresStore

    schema = f"bench_{uuid4().hex}"
    try:
        async with Runtime(PostgresStore(url, schema=schema)) as runtime:
            took, number = await _fleets(runtime, effort.postgres, effort)
    finally:
        connection = await asyncpg.connect(url)
        await connection.execute(f"SET client_min_messages = error; DROP SCHEMA IF EXISTS {schema} CASCADE")
        await connection.close()
    return rate_of("postgres", name, UNIT, number * effort.postgres, took)


async def _fleets(runtime: Runtime, size: int, effort: Effort) -> tuple[list[Took], int]:
    """How long each fleet took, and how many turns each of its sessions had."""
    await _fleet(await _sessions(runtime, size), 1)
    warm = await _sessions(runtime, size)
    guess = (await timed(lambda: _fleet(warm, 2))).wall / 2
    number = max(2, min(100, round(LONGER * effort.slice / guess)))
    took = []
    for _ in range(effort.repeats):
        sessions = await _sessions(runtime, size)
        took.append(await timed(lambda some=sessions: _fleet(some, number)))  # type: ignore[misc]
    return took, number


async def _sessions(runtime: Runtime, size: int) -> list[Session]:
    agent: Agent = calculator(Calculator())
    return [await runtime.session(agent) for _ in range(size)]


async def _fleet(sessions: list[Session], turns: int) -> None:
    async with asyncio.TaskGroup() as group:
        for session in sessions:
            group.create_task(_turns(session, turns))


async def _turns(session: Session, turns: int) -> None:
    for _ in range(turns):
        result = await session.run(QUESTION)
        if result.text != ANSWER:
            raise AssertionError(f"a turn ended {result.status} on {result.text!r}: {result.error}")
