"""Leases between processes that share one SQLite file, and the clock they run on."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from holdfast.errors import SessionHeld
from holdfast.store import Terms
from holdfast.stores import sqlite_threads
from holdfast.stores.boot_clock import NANOSECONDS, BootClock
from holdfast.stores.sqlite import SQLiteStore
from holdfast.testing.lease_contract import claim_refused, taken_over
from holdfast.testing.said import START, said, texts
from tests.timing import Stopwatch

PROGRAM = str(Path(__file__).with_name("claiming_process.py"))

WALL_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *found) {
    static int (*really)(clockid_t, struct timespec *);
    if (!really) really = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
    int result = really(clock, found);
    if (clock == CLOCK_REALTIME) found->tv_sec += atol(getenv("AHEAD"));
    return result;
}
"""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """An open store with one event in `session_a`, which has been due since `START`."""
    store = SQLiteStore(tmp_path / "log.db")
    await store.open()
    events = said("session_a", 1, "one")
    await store.append("session_a", events, expected=0, epoch=1, terms=Terms(due=START))
    yield store
    await store.close()


def started(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, PROGRAM, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **environment},
        text=True,
    )


class SetClock(BootClock):
    """A machine whose time is set by the test."""

    def __init__(self, boot: str = "first", seconds: float = 1_000.0) -> None:
        self.boot = boot
        self.seconds = seconds

    def now(self) -> int:
        return int(self.seconds * NANOSECONDS)


def row(store: SQLiteStore) -> tuple[str | None, int | None, str | None]:
    connection = sqlite3.connect(store.path)
    (found,) = connection.execute("SELECT held_by, held_until, held_boot FROM sessions").fetchall()
    connection.close()
    return found  # type: ignore[no-any-return]


async def test_a_lease_ends_by_the_time_since_the_machine_started(store: SQLiteStore) -> None:
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    before = time.clock_gettime_ns(clock)
    await store.claim("session_a", owner="ann", hold=60)
    after = time.clock_gettime_ns(clock)
    owner, until, boot = row(store)
    assert owner == "ann"
    assert until is not None
    assert before <= until - 60 * NANOSECONDS <= after
    if Path("/proc/sys/kernel/random/boot_id").exists():
        assert boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip() != ""


async def test_a_lease_runs_for_exactly_its_time_and_a_row_without_one_says_nothing(
    store: SQLiteStore,
) -> None:
    clock = store._clock = SetClock()
    await store.claim("session_a", owner="ann", hold=30)
    clock.seconds += 29.999
    assert await store.due(START) == []
    assert (await claim_refused(store, "session_a", owner="bob")).seconds == pytest.approx(0.001)
    clock.seconds += 0.001
    assert await store.due(START) == ["session_a"]
    await store.claim("session_a", owner="bob", hold=30)
    clock.seconds += 20
    await store.renew("bob", 30)
    clock.seconds += 29
    await claim_refused(store, "session_a", owner="ann")
    await store.append("session_a", said("session_a", 2, "2"), expected=1, epoch=3)
    assert row(store) == (None, None, None)


@pytest.mark.parametrize("seconds", [0.0, 1_001.0, 90_000.0], ids=["less", "about the same", "more"])
async def test_a_lease_from_before_the_machine_started_anew_is_over(
    seconds: float, store: SQLiteStore
) -> None:
    store._clock = SetClock()
    await store.claim("session_a", owner="ann", hold=30)
    store._clock = SetClock("second", seconds)
    assert await store.due(START) == ["session_a"]
    await store.renew("ann", 30)
    assert await store.due(START) == ["session_a"]
    assert await store.claim("session_a", owner="bob", hold=30) == 3
    await claim_refused(store, "session_a", owner="ann")


@pytest.mark.parametrize("hours", [1, -1, 24 * 365])
async def test_cp56_a_process_with_another_wall_clock_sees_the_same_leases(
    hours: int, store: SQLiteStore, tmp_path: Path
) -> None:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and Linux, to give a process another wall clock")
    (tmp_path / "clock.c").write_text(WALL_CLOCK)
    shim = str(tmp_path / "clock.so")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, str(tmp_path / "clock.c"), "-ldl"], check=True)

    async def asked() -> str:
        other = started("ask", store.path, "bob", LD_PRELOAD=shim, AHEAD=str(hours * 3600))
        wall, answer = (await asyncio.to_thread(other.communicate))[0].splitlines()
        assert abs(float(wall) - time.time() - hours * 3600) < 60, "the other process has another wall clock"
        return answer

    await store.claim("session_a", owner="ann", hold=600)
    owner, seconds = (await asked()).split()
    assert owner == "ann"
    assert 540 < float(seconds) <= 600
    await store.renew("ann", 0.01)
    await asyncio.sleep(0.02)
    assert await asked() == "free"


async def test_cp10_cp28_of_two_processes_one_holds_the_session_at_a_time(store: SQLiteStore) -> None:
    told = await raced(store, hold="60")
    holdings = sorted((int(begun), int(ended)) for _, what, _, *(begun, ended) in told if what == "claimed")
    assert len(holdings) == len(told)
    assert all(earlier[1] < later[0] for earlier, later in pairwise(holdings))


async def test_cp10_cp28_no_two_processes_hold_one_epoch_though_leases_run_out_at_any_moment(
    store: SQLiteStore,
) -> None:
    told = await raced(store, hold="0.0001")
    assert {what for _, what, *_ in told} <= {"claimed", "fenced"}


async def raced(store: SQLiteStore, hold: str) -> list[list[str]]:
    """What two processes said that claimed a session as often as they could. Every claim is checked with the log."""
    rivals = {owner: started("race", store.path, owner, "150", hold) for owner in ("ann", "bob")}
    for rival in rivals.values():
        assert rival.stdout is not None
        assert await asyncio.to_thread(rival.stdout.readline) == "ready\n"
    for rival in rivals.values():
        assert rival.stdin is not None
        rival.stdin.write("go\n")
        rival.stdin.flush()
    told = []
    for owner, rival in rivals.items():
        output = (await asyncio.to_thread(rival.communicate))[0]
        told += [[owner, *line.split()] for line in output.splitlines()]
    epochs = [int(epoch) for _, _, epoch, *_ in told]
    assert len(set(epochs)) == len(epochs), "an epoch was given twice"
    assert Counter(owner for owner, *_ in told) == {"ann": 150, "bob": 150}
    written = [word.split() for word in (await texts(store, "session_a", limit=100_000))[1:]]
    claimed = {int(epoch): owner for owner, what, epoch, *_ in told if what == "claimed"}
    assert {int(epoch): owner for owner, epoch in written} == claimed
    order = [int(epoch) for _, epoch in written]
    assert order == sorted(order), "an older epoch wrote after a newer one"
    return told


async def test_cp32_cp78_a_process_that_slept_through_its_lease_cannot_write_any_more(
    store: SQLiteStore,
) -> None:
    holder = started("hold", store.path, "ann", "600")
    assert holder.stdin is not None
    assert holder.stdout is not None
    told = (await asyncio.to_thread(holder.stdout.readline)).split()
    assert told == ["held", "2"]
    holder.send_signal(signal.SIGSTOP)
    assert (await claim_refused(store, "session_a", owner="bob")).owner == "ann"
    assert await store.due(START) == []
    await store.renew("ann", 0.2)  # the last that is heard of it
    epoch = await taken_over(store, "session_a", owner="bob", hold=60)
    assert epoch == 3
    holder.send_signal(signal.SIGCONT)
    output = (await asyncio.to_thread(holder.communicate, "\n"))[0]
    assert output.startswith("StaleEpoch epoch 2 of session_a is over: a writer with epoch 3 took over")
    await store.append("session_a", said("session_a", 2, "mine"), expected=1, epoch=epoch)
    assert await texts(store, "session_a") == ["one", "mine"]


async def test_cp77_a_process_that_is_killed_keeps_others_away_no_longer_than_its_lease(
    store: SQLiteStore,
) -> None:
    with started("hold", store.path, "ann", "3.0") as holder:
        assert holder.stdout is not None
        await asyncio.to_thread(holder.stdout.readline)
        holder.kill()
    with pytest.raises(SessionHeld):
        await store.claim("session_a", owner="bob")
    with Stopwatch() as watch:
        assert await taken_over(store, "session_a", owner="bob") == 3
    assert watch.seconds < 3.5
    assert await store.due(START) == []


async def test_looking_for_work_and_renewing_touch_only_sessions_that_are_busy(store: SQLiteStore) -> None:
    connection = sqlite3.connect(store.path)
    with connection:
        connection.execute(
            "WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 20000) "
            "INSERT INTO sessions (id, sequence, epoch, created_at, updated_at) SELECT n, 1, 1, 1, 1 FROM many"
        )
    assert connection.execute(
        "SELECT count(*) FROM sessions INDEXED BY busy WHERE due_at > 0"
    ).fetchone() == (1,)
    connection.close()
    assert await store.due(START) == ["session_a"]


async def test_a_write_of_this_store_wakes_without_asking_the_file(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_threads, "SOONEST", 60.0)
    monkeypatch.setattr(sqlite_threads, "LATEST", 60.0)
    await store.woken(0)
    waiting = asyncio.ensure_future(store.woken(60))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await store.append("session_a", said("session_a", 2, "2"), expected=1, epoch=1)
    async with asyncio.timeout(20):
        await waiting


async def test_waiting_for_a_write_costs_next_to_nothing(store: SQLiteStore) -> None:
    await store.woken(0)
    begun, used = time.monotonic(), time.process_time()
    await store.woken(3)
    assert time.monotonic() - begun >= 3
    assert (time.process_time() - used) / 3 < 0.01


async def test_who_stops_waiting_leaves_nothing_behind(store: SQLiteStore) -> None:
    await store.woken(0)
    before = asyncio.all_tasks()
    for pause in (0, 0.001, 0.06):
        waiting = asyncio.ensure_future(store.woken(60))
        await asyncio.sleep(pause)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert asyncio.all_tasks() == before
    await store.append("session_a", said("session_a", 2, "2"), expected=1, epoch=1)
