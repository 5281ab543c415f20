"""What is said to a session that a worker is at work on in another process: it reaches it there."""

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast import Runtime
from tests.cli.crew import agents, clerk, smith, toiler
from tests.cli.kit import ECHO, Cli, finished, until
from tests.cli.workers import CREW, Crew, noted, owing

STUCK = " ".join(str(number) for number in range(3_000))
"""Words that `sim/echo` takes half a minute to repeat."""


def until_there(cli: Cli, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until the log has an event like this."""
    end = time.monotonic() + 60
    while not any(wanted(event) for event in cli.lines("events")):
        assert time.monotonic() < end, "it was never recorded"
        time.sleep(0.05)


def turns(cli: Cli) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli.json("show")["turns"]
    return found


def said(turn: dict[str, Any]) -> list[str]:
    return [
        entry["text"] for entry in turn["entries"] if entry["type"] == "message" and entry["who"] == "user"
    ]


@pytest.fixture
def held(cli: Cli, crew: Crew, ledger: Path) -> str:
    """A session that a worker is at work on: its tool has begun and does not end."""
    (session_id,) = asyncio.run(owing(cli.db, agent=toiler))
    crew.start(gated=True, toil="0")
    asyncio.run(noted(ledger, "begin"))
    return session_id


@pytest.mark.parametrize("known", [True, False])
def test_cancel_ends_the_turn_that_a_worker_is_at_work_on_and_waits_for_that(
    cli: Cli, held: str, known: bool
) -> None:
    result = cli("cancel", held, "--reason", "it rains", *(CREW if known else ()))
    assert result.exit_code == 0, result.stderr
    assert "cancelled" in result.stderr
    (turn,) = turns(cli)
    assert (turn["status"], turn["stop"]) == ("cancelled", "it rains")
    (call,) = [entry for entry in turn["entries"] if entry["type"] == "call"]
    assert call["status"] == "in_doubt"
    again = cli("cancel", held)
    assert again.exit_code == 2
    assert "no turn to cancel" in again.stderr


def test_cancel_need_not_wait_and_tells_as_json(cli: Cli, held: str) -> None:
    result = cli("cancel", "last", "--no-wait")
    assert result.exit_code == 0
    assert "in the process that is at work on it" in result.stderr
    until_there(cli, lambda event: event["type"] == "turn.cancelled")


def test_a_turn_in_line_is_cancelled_by_its_name(cli: Cli, crew: Crew, held: str) -> None:
    async def add() -> str:
        async with Runtime(cli.db, agents=agents) as runtime:
            return (await (await runtime.open(held, drive=False)).send("Not this.")).id

    turn_id = asyncio.run(add())
    until_there(cli, lambda event: event["type"] == "input.message" and event["data"]["turn_id"] == turn_id)
    result = cli("cancel", "last", turn_id[-10:], "--json")
    assert result.exit_code == 0, result.output
    assert '"status":"cancelled"' in result.stdout.splitlines()[-1]
    crew.let_go()
    until_there(cli, lambda event: event["type"] == "turn.completed")
    assert [turn["status"] for turn in turns(cli)] == ["completed", "cancelled"]


def test_steer_is_heard_by_the_turn_that_a_worker_is_at_work_on(
    cli: Cli, crew: Crew, ledger: Path, held: str
) -> None:
    result = cli("steer", "last", "Once more.")
    assert result.exit_code == 0, result.stderr
    assert "the process that is at work on this session hears it" in result.stderr
    until_there(cli, lambda event: event["data"].get("steer") is True)
    crew.let_go()
    assert asyncio.run(noted(ledger, "end", 2)) == [held, held]
    until_there(cli, lambda event: event["type"] == "turn.completed")
    (turn,) = turns(cli)
    assert said(turn) == ["Begin.", "Once more."]


def test_an_input_waits_in_line_and_its_answer_is_shown_where_it_was_said(
    cli: Cli, crew: Crew, held: str
) -> None:
    process = cli.start("run", "--session", held, "And again.")
    until_there(cli, lambda event: "And again." in str(event["data"]))
    crew.let_go()
    code, out, err = finished(process)
    assert (code, out) == (0, "Done.\n"), err
    assert "not known here: tool toil" in err
    assert [said(turn) for turn in turns(cli)] == [["Begin."], ["And again."]]


def test_ctrl_c_cancels_an_input_that_waits_in_line_elsewhere(cli: Cli, held: str) -> None:
    process = cli.start("run", "--session", held, "And again.")
    assert process.stderr is not None
    while "not known here" not in process.stderr.readline():
        assert process.poll() is None
    until_there(cli, lambda event: "And again." in str(event["data"]))
    process.send_signal(signal.SIGINT)
    code, _, err = finished(process)
    assert code == 1, err
    assert "Traceback" not in err
    assert [turn["status"] for turn in turns(cli)] == ["unfinished", "cancelled"]


def test_a_chat_shows_what_another_process_is_at_work_on_and_then_goes_on(cli: Cli) -> None:
    process = cli.start("run", *ECHO, "--json", " ".join(STUCK.split()[:200]))
    until(process, "output.message.delta")
    process.send_signal(signal.SIGSTOP)  # it is at work until the chat has seen that
    chat = cli.start("chat", "--session", "last", stdin=subprocess.PIPE)
    assert chat.stdin is not None
    chat.stdin.write("me too\n")
    chat.stdin.flush()
    until(chat, "another process is at work on this turn")
    process.send_signal(signal.SIGCONT)
    code, said, err = finished(chat)
    assert code == 0, err
    assert finished(process)[0] == 0
    assert "198 199" in said
    assert "You said: me too" in said


def test_an_input_for_a_program_that_is_not_there_waits_for_it_and_runs_as_that_program_says(
    cli: Cli, crew: Crew, ledger: Path
) -> None:
    (session_id,) = asyncio.run(owing(cli.db, agent=toiler))
    cli.env["TOIL"] = "0"
    cli.ok("recover", *CREW)
    result = cli("run", "--session", session_id, "And again.")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "when the program that has tool toil" in result.stderr
    assert turns(cli)[1].get("status", "queued") == "queued"
    crew.start(toil="0")
    until_there(cli, lambda event: event["type"] == "turn.completed" and event["sequence"] > 12)
    first, second = turns(cli)
    assert second["status"] == "completed"
    assert second["manifest"] == first["manifest"]


def test_an_answer_reaches_a_worker_that_is_still_at_work(cli: Cli, crew: Crew, ledger: Path) -> None:
    (session_id,) = asyncio.run(owing(cli.db, agent=clerk))
    crew.start(gated=True, toil="0")
    asyncio.run(noted(ledger, "begin"))
    until_there(cli, lambda event: event["type"] == "ask.opened")
    assert cli("approve", "last").exit_code == 0
    until_there(cli, lambda event: event["type"] == "ask.answered")
    assert asyncio.run(noted(ledger, "end", 0)) == []
    crew.let_go()
    assert asyncio.run(noted(ledger, "paid")) == [session_id]
    until_there(cli, lambda event: event["type"] == "turn.completed")


def test_a_call_that_a_worker_left_in_doubt_is_run_again_by_whoever_has_its_tool(
    cli: Cli, crew: Crew, ledger: Path
) -> None:
    (session_id,) = asyncio.run(owing(cli.db, agent=smith))
    crew.start(gated=True, toil="0")
    asyncio.run(noted(ledger, "begin"))
    result = cli("cancel", "last")
    assert "in doubt: strike" in result.stderr
    assert f"holdfast resolve {session_id} call_" in result.stderr
    cli.env["TOIL"] = "0"
    again = cli("resolve", "last", "--rerun", "--reason", "the anvil is cold", *CREW)
    assert again.exit_code == 0, again.output
    assert asyncio.run(noted(ledger, "end")) == [session_id]
    cancelled, rerun = turns(cli)
    (before,) = [entry for entry in cancelled["entries"] if entry["type"] == "call"]
    assert before["status"] == "in_doubt"
    assert "the anvil is cold" in before["resolved"]
    note, after = rerun["entries"]
    assert "strike is run again, says " in note["text"]
    assert (after["status"], after["result"], after["attempts"]) == ("ok", "struck", 2)
    assert cli.json("sessions")[0]["in_doubt"] == {}


def test_a_run_again_without_the_tool_is_left_to_a_worker(cli: Cli, crew: Crew, ledger: Path) -> None:
    (session_id,) = asyncio.run(owing(cli.db, agent=smith))
    crew.start(gated=True, toil="0")
    asyncio.run(noted(ledger, "begin"))
    cli.ok("cancel", "last")
    crew.let_go()
    result = cli("resolve", "last", "--rerun")
    assert result.exit_code == 0
    assert "when the program that has" in result.stderr
    assert asyncio.run(noted(ledger, "end")) == [session_id]


def test_what_nobody_is_at_work_on_is_cancelled_here(cli: Cli) -> None:
    process = cli.start("run", *ECHO, "--json", STUCK)
    until(process, "output.message.delta")
    process.kill()
    finished(process)
    assert cli.ok("cancel", "last") == ""
    (turn,) = turns(cli)
    assert turn["status"] == "cancelled"


def test_without_its_program_a_turn_that_nobody_is_at_work_on_ends_when_that_comes(
    cli: Cli, crew: Crew, ledger: Path, held: str
) -> None:
    crew.processes[0].kill()
    crew.processes[0].communicate()
    result = cli("cancel", "last")
    assert result.exit_code == 0
    assert "when the program that has" in result.stderr
    assert turns(cli)[0]["status"] == "unfinished"
    assert cli.ok("recover", *CREW).split() == [held, "cancelled"]
    assert len(asyncio.run(noted(ledger, "begin"))) == 1


def test_steer_without_a_turn_under_way_is_an_input(cli: Cli) -> None:
    cli.ok("run", *ECHO, "hi")
    assert "You said: more" in cli.ok("steer", "last", "more")
    assert len(turns(cli)) == 2
    nothing = cli("cancel", "last")
    assert nothing.exit_code == 2
    assert "no turn to cancel" in nothing.stderr


def test_words_that_were_shown_are_told_live_from_the_log_and_marked_when_they_are_all_there_is(
    cli: Cli,
) -> None:
    process = cli.start("run", *ECHO, "--json", STUCK)
    until_there_is_a_session(cli, process)
    until_there(cli, lambda event: event["type"] == "output.message.shown")
    (partial,) = [entry for entry in turns(cli)[0]["entries"] if entry.get("stop") == "unfinished"]
    assert partial["text"].startswith("[SIMULATED MODEL]")
    assert "these words were shown so far" in cli.ok("show")
    assert cli("cancel", "last").exit_code == 0
    assert finished(process)[0] == 1
    entry = turns(cli)[0]["entries"][-1]
    assert entry["stop"] == "cut_off"
    assert "cut off here" in cli.ok("show")


def until_there_is_a_session(cli: Cli, process: Any) -> None:
    until(process, "output.message.delta")
    assert cli.json("sessions")
