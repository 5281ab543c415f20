"""A process killed with SIGKILL at every append boundary of five canonical turns loses nothing and doubles nothing."""

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from holdfast import Event, Runtime
from holdfast.events import TURN_ENDS, InputMessage, OutputMessageCompleted, ToolCompleted
from holdfast.turn import retry
from tests.conftest import ROOT
from tests.crash.scenarios import NAMES, PROMPT, lines, scenario


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("name", NAMES)
async def test_a_turn_killed_at_any_append_ends_once_with_every_call_answered_once(
    name: str, side: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.02)
    number = 0
    killed = True
    while killed:
        number += 1
        place = tmp_path / f"{number}"
        place.mkdir()
        killed = run_child(place, name, number, side)
        accepted = (number, side) != (1, "before")
        await reopen(place, name, accepted=accepted)
        events = await read_back(place)
        check_log(events)
        check_effects(events, lines(place / "ledger"))
    assert number > APPENDS_AT_LEAST[name], (
        "the scenario has fewer appends than it should: the kills missed some"
    )


APPENDS_AT_LEAST = {
    "plain answer": 2,
    "one tool": 4,
    "parallel tools": 6,
    "model failure": 3,
    "tool failure": 4,
}


def run_child(place: Path, name: str, number: int, side: str) -> bool:
    """Run the scenario in a process of its own; whether it was killed."""
    command = [sys.executable, "-m", "tests.crash.child", str(place / "log.db"), str(place / "ledger"), name]
    child = subprocess.run([*command, str(number), side], cwd=ROOT, timeout=60, check=False)
    assert child.returncode in (0, -signal.SIGKILL)
    return child.returncode != 0


async def reopen(place: Path, name: str, *, accepted: bool) -> None:
    """Go on with what the dead process left, and send the same input again as its caller would."""
    agent = scenario(name, place / "ledger")
    async with Runtime(place / "log.db", agents=[agent]) as runtime:
        heads = await runtime.sessions()
        assert len(heads) == (1 if accepted else 0)
        session = await runtime.open(heads[0].session_id) if accepted else await runtime.session(agent)
        result = await session.run(PROMPT, key="the one input")
        assert result.status == "completed", result.error


async def read_back(place: Path) -> list[Event]:
    async with Runtime(place / "log.db") as runtime:
        (head,) = await runtime.sessions()
        return await runtime.store.read(head.session_id)


def check_log(events: list[Event]) -> None:
    """Numbered 1..n; the one input has exactly one turn with one end; each call has exactly one outcome."""
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    (accepted,) = [event for event in events if isinstance(event.data, InputMessage)]
    (end,) = [event for event in events if event.type in TURN_ENDS]
    assert end.context.turn_id == accepted.context.turn_id
    assert end.type == "turn.completed"
    asked = [
        call.id
        for event in events
        if isinstance(event.data, OutputMessageCompleted)
        for call in event.data.message.calls
    ]
    outcomes = Counter(event.data.result.call_id for event in events if isinstance(event.data, ToolCompleted))
    assert outcomes == Counter(asked)


def check_effects(events: list[Event], ledger: list[str]) -> None:
    """No effect happened twice; each that did not is told as in doubt, and none that is told as done is missing."""
    assert max(Counter(ledger).values(), default=0) <= 1
    for event in events:
        if isinstance(event.data, ToolCompleted):
            result = event.data.result
            assert result.call_id in ledger or result.status == "in_doubt"
