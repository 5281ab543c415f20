"""A process that moves money ten times, and may kill itself with SIGKILL at a place of the n-th move.

    python -m tests.moving_process DATABASE [SCHEMA] PLACE NUMBER

DATABASE is a file, or the URL of a Postgres server, which needs SCHEMA (else -). The places: `inside` the transaction,
`after` its block, `before` its append, once it is `committed` and nobody was told; or `nowhere`. Run again it goes on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio import Future
from collections.abc import Callable
from pathlib import Path
from typing import Any

from holdfast import Context, Runtime
from holdfast.drivers.sim import call
from tests.bank import FileBank, ServerBank, mover, open_accounts, teller

MOVES = 10
KEY = "the one input"


def die() -> None:
    """As when the power fails, but for this process only."""
    os.kill(os.getpid(), signal.SIGKILL)


class DyingTransaction:
    """A real transaction of a store, whose process dies at its append."""

    def __init__(self, transaction: Any, place: str) -> None:
        self._transaction = transaction
        self._place = place

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)

    def append(self, *arguments: Any, **options: Any) -> Future[None]:
        """Die before it, or after it."""
        if self._place == "before":
            die()
        written: Future[None] = self._transaction.append(*arguments, **options)
        if self._place == "committed":
            written.add_done_callback(lambda _: die())
        return written


def bank_at(database: str, schema: str) -> FileBank | ServerBank:
    """The bank that parent and child have in common."""
    return FileBank(Path(database)) if schema == "-" else ServerBank(database, schema)


async def main(database: str, schema: str, place: str, number: str) -> None:
    """Do all moves that are still to be done."""
    bank, left = bank_at(database, schema), int(number)
    lend: Callable[[], Any] = bank.store.transaction

    def lend_a_dying_one() -> Any:
        nonlocal left
        left -= 1
        return DyingTransaction(lend(), place if left == 0 else "nowhere")

    async def inside(_: Context) -> None:
        if place == "inside" and left == 0:
            die()

    async def after(_: Context) -> None:
        if place == "after" and left == 0:
            die()

    bank.store.transaction = lend_a_dying_one  # type: ignore[method-assign]
    steps = [call("move", cents=cents) for cents in range(1, MOVES + 1)]
    agent = teller(*steps, tools=[mover(bank, inside=inside, after=after)])
    async with Runtime(bank.store, agents=[agent], lease=1.0) as runtime:
        await open_accounts(bank)
        heads = await runtime.sessions()
        session = await (runtime.open(heads[0].session_id) if heads else runtime.session(agent))
        sys.stdout.write("at work\n")
        sys.stdout.flush()
        result = await session.run("Move it all.", key=KEY)
        assert result.status == "completed", result.error


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
