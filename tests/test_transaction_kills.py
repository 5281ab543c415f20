"""A process killed with SIGKILL anywhere around a tool's transaction leaves effect and outcome, or neither."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from holdfast import Event
from holdfast.events import ToolCompleted
from tests.bank import Bank, balances
from tests.conftest import ROOT
from tests.moving_process import MOVES, bank_at

ALL = sum(range(1, MOVES + 1))


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    if request.param == "sqlite":
        return str(tmp_path / "bank.db"), "-"
    return request.getfixturevalue("postgres_url"), request.getfixturevalue("schema")


def run(
    place: tuple[str, str], where: str = "nowhere", number: int = 0, *, seconds: float | None = None
) -> int:
    """How a process ended that is killed after these seconds of work, or kills itself, or comes to its end."""
    command = [sys.executable, "-m", "tests.moving_process", *place, where, str(number)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        if child.stdout.readline() and seconds is not None:
            time.sleep(seconds)
            child.kill()
        return child.wait(60)


async def check(bank: Bank, *, over: bool) -> None:
    """What each recorded outcome says was done is done, once, and nothing else is."""
    await bank.store.open()
    events: list[Event] = []
    for head in await bank.store.sessions():
        events += await bank.store.read(head.session_id)
    await bank.store.close()
    done = [event.data.result for event in events if isinstance(event.data, ToolCompleted)]
    assert {it.status for it in done} <= {"ok"}
    assert max(Counter(it.call_id for it in done).values(), default=0) <= 1
    moved = sum(int(it.text.removeprefix("moved ")) for it in done)
    assert await balances(bank) == {"ana": 100 - moved, "ben": moved}
    assert not over or moved == ALL


@pytest.mark.parametrize("where", ["inside", "after", "before", "committed"])
async def test_a_process_killed_around_a_commit_leaves_both_or_neither(
    place: tuple[str, str], where: str
) -> None:
    assert run(place, where, 3) == -signal.SIGKILL
    await check(bank_at(*place), over=False)
    assert run(place) == 0
    await check(bank_at(*place), over=True)


async def test_a_process_killed_at_any_moment_leaves_both_or_neither(place: tuple[str, str]) -> None:
    luck, killed = random.Random(7), 0
    for _ in range(6):
        killed += run(place, seconds=luck.uniform(0.0, 0.03)) == -signal.SIGKILL
        await check(bank_at(*place), over=False)
    assert killed, "no process was killed while it was at work"
    assert run(place) == 0
    await check(bank_at(*place), over=True)
