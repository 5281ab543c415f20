"""Who writes: one name per runtime, from which others on the same machine can tell whether its process still lives.

A session that its writer held when it died is free at once for whoever can see that it died; for everybody else when
the lease has run out.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import datetime

from msgspec import Struct

from holdfast.errors import SessionHeld, UsageError
from holdfast.ids import new_id
from holdfast.store import FREE, Store, Terms

LEASE = 30.0
"""Seconds for which a session stays held after the last sign of life from its writer."""

READER = ""
"""The name of a writer who may only read."""


class Writer(Struct, frozen=True, kw_only=True):
    """A writer, and for how long (seconds) its sessions stay held without a sign of life."""

    name: str
    lease: float = LEASE

    def hold(self, due: datetime | None, now: datetime) -> float:
        """Seconds for which to keep others away from a session while this is due: not when it is a long time off."""
        if due is None or (due - now).total_seconds() > self.lease:
            return 0.0
        return self.lease

    def terms(self, due: datetime | None, now: Callable[[], datetime], before: Terms) -> Terms:
        """What an append says of the lease. The same object as before while nothing changes, which spares stores a
        check."""
        if due is None:
            return FREE
        if before.due == due and before.hold:
            return before
        hold = self.hold(due, now())
        return Terms(owner=self.name if hold else "", hold=hold, due=due)


def this_process(lease: float = LEASE) -> Writer:
    """A writer in this process. Every call gives another one. Raises `UsageError` for a lease that holds nothing."""
    if not lease > 0:
        raise UsageError(f"a lease of {lease} s holds nothing; give more than 0 (the default is {LEASE:g})")
    return Writer(
        name=f"{_machine()}:{os.getpid()}:{_started(os.getpid())}:{new_id('agent')[-8:]}", lease=lease
    )


async def claim(store: Store, session_id: str, writer: Writer) -> int:
    """The epoch under which this writer may write now. Raises `SessionHeld` while another, living one is at work."""
    try:
        return await store.claim(session_id, owner=writer.name, hold=writer.lease)
    except SessionHeld as held:
        if not is_gone(held.owner):
            raise
        await store.claim(session_id, owner=held.owner)  # lets go in the name of the dead
        return await store.claim(session_id, owner=writer.name, hold=writer.lease)


async def release_the_dead(store: Store) -> None:
    """Let go of what writers hold whose process is known to be dead, so that nobody waits for their leases."""
    for owner in await store.owners():
        if is_gone(owner):
            await store.renew(owner, 0.0)


def is_gone(name: str) -> bool:
    """Whether this writer's process is known to be dead. Of one on another machine, or on a system that does not
    tell, nothing is known."""
    machine, _, rest = name.partition(":")
    pid, _, rest = rest.partition(":")
    started = rest.partition(":")[0]
    return machine == _machine() and bool(started) and pid.isdigit() and _started(int(pid)) != started


def _machine() -> str:
    """This machine, and which processes can be seen on it: a container sees only its own."""
    try:
        seen = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        seen = ""
    return f"{socket.gethostname()}/{seen}"


def _started(pid: int) -> str:
    """When a process started, in the machine's ticks; empty when there is none, or the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            stat = file.read()
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]
