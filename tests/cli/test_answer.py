"""`holdfast approve` and `deny`."""

import sys
from pathlib import Path

import pytest

from tests.cli.kit import ECHO, UNSET, Cli, finished, start

TWO = 'call write_file {"path": "a.txt", "content": "a"}\ncall write_file {"path": "b.txt", "content": "b"}'
ASKING = Path(__file__).with_name("asking.py")


@pytest.fixture
def asks(cli: Cli, place: Path) -> list[str]:
    """The asks of a session that wants to write two files."""
    assert cli("run", *ECHO, "--dir", str(place), "--write", "--ask", TWO).exit_code == 3
    return [event["data"]["ask_id"] for event in cli.lines("events") if event["type"] == "ask.opened"]


def test_an_approved_call_runs_and_a_denied_one_tells_the_model_why(
    cli: Cli, place: Path, asks: list[str]
) -> None:
    first = cli("approve", "last", asks[0])
    assert first.exit_code == 3, "the second is still open"
    assert (place / "a.txt").read_text() == "a"
    last = cli("deny", "last", "--reason", "one is enough")
    assert last.exit_code == 0
    assert "write_file (denied): Denied: one is enough" in last.stdout
    assert not (place / "b.txt").exists()


def test_the_answer_and_who_gave_it_are_shown_in_the_turn(cli: Cli, asks: list[str]) -> None:
    cli("approve", "last", asks[0])
    turn = cli.json("show")["turns"][0]
    assert turn["status"] == "waiting"
    assert [entry["status"] for entry in turn["entries"] if entry["type"] == "call"] == ["ok", "waiting"]
    (answered,) = [entry["text"] for entry in turn["entries"] if entry.get("what") == "answered"]
    assert f"{asks[0]}: approved by " in answered
    cli("deny", "last", asks[1])
    assert cli.json("show")["turns"][0]["status"] == "completed"


def test_which_ask_is_meant_may_be_said_by_its_end_but_never_guessed(cli: Cli, asks: list[str]) -> None:
    vague = cli("approve", "last")
    assert vague.exit_code == 2
    assert asks[0] in vague.stderr
    assert asks[1] in vague.stderr
    unknown = cli("approve", "last", "ask_0")
    assert unknown.exit_code == 2
    assert "no open ask 'ask_0'" in unknown.stderr
    assert cli("approve", "last", asks[1][-8:]).exit_code == 3


def test_an_ask_is_answered_once(cli: Cli, asks: list[str]) -> None:
    cli("approve", "last", asks[0])
    assert cli("deny", "last", asks[0]).exit_code == 2


def test_the_answer_for_a_session_of_a_program_waits_for_that_program(cli: Cli) -> None:
    program = [sys.executable, str(ASKING), str(cli.db)]
    code, out, err = finished(start(program, UNSET))
    assert (code, out.split()[0]) == (0, "waiting"), err
    result = cli("approve", "last")
    assert result.exit_code == 0
    assert "tool pay" in result.stderr
    assert cli.json("sessions")[0]["status"] == "unfinished"
    code, out, err = finished(start(program, UNSET))
    assert (code, out.split()[0]) == (0, "completed"), err
    assert "paid 5" in out
