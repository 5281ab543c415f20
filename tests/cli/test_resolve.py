"""`holdfast resolve`, and where calls in doubt are shown."""

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.kit import ECHO, UNSET, Cli, finished, start

KILLED = Path(__file__).with_name("killed.py")


@pytest.fixture
def program(cli: Cli) -> list[str]:
    """A program that was killed in its tool and run again: its call is in doubt."""
    command = [sys.executable, str(KILLED), str(cli.db), "once"]
    assert finished(start(command, UNSET))[0] == -signal.SIGKILL
    code, _, err = finished(start(command, UNSET))
    assert code == 0, err
    return command


def doubts(cli: Cli) -> dict[str, str]:
    found: dict[str, str] = cli.json("sessions")[0]["in_doubt"]
    return found


def the_call(cli: Cli) -> dict[str, Any]:
    (found,) = [entry for entry in cli.json("show")["turns"][0]["entries"] if entry["type"] == "call"]
    assert isinstance(found, dict)
    return found


@pytest.mark.usefixtures("program")
def test_a_call_in_doubt_is_shown_where_people_look_with_the_command_that_resolves_it(cli: Cli) -> None:
    (listed,) = cli.json("sessions")
    ((call_id, name),) = listed["in_doubt"].items()
    assert name == "strike"
    command = f"holdfast resolve {listed['id']} {call_id} --result TEXT"
    assert f"strike is in doubt: {command}" in cli.ok("sessions")
    assert command in " ".join(cli.ok("show").split())
    cli.env["HOLDFAST_MODEL"] = "sim/echo"
    assert command in cli("inspect").stderr


@pytest.mark.usefixtures("program")
def test_what_became_of_a_call_is_recorded_without_its_program(cli: Cli) -> None:
    result = cli("resolve", "last", "--result", "the iron is bent", "--reason", "saw it")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "recorded" in result.stderr
    assert doubts(cli) == {}
    event = cli.lines("events", "-n", "1")[0]
    assert (event["type"], event["data"]["reason"]) == ("call.resolved", "saw it")
    assert event["data"]["by"].endswith("(holdfast)")
    call = the_call(cli)
    assert call["status"] == "in_doubt"
    assert call["resolved"].startswith("the iron is bent (says ")
    assert "RESOLVED: the iron is bent (says" in cli.ok("show")
    assert "once you know" not in cli.ok("show")
    cli.env["HOLDFAST_MODEL"] = "sim/echo"
    assert "the iron is bent" in cli.ok("inspect", "last", "And now?", "--json")


@pytest.mark.usefixtures("program")
def test_which_call_is_meant_may_be_said_by_its_end_and_is_never_guessed(cli: Cli) -> None:
    (call_id,) = doubts(cli)
    unknown = cli("resolve", "last", "call_zzz", "--result", "x")
    assert unknown.exit_code == 2
    assert call_id in unknown.stderr
    line = cli.json("resolve", "last", call_id[-8:], "--result", "bent")
    assert (line["type"], line["call_id"], line["status"]) == ("resolved", call_id, "recorded")
    again = cli("resolve", "last", "--result", "bent")
    assert again.exit_code == 2
    assert "has no call in doubt" in again.stderr


def test_a_run_again_of_a_program_s_call_waits_for_that_program(cli: Cli, program: list[str]) -> None:
    result = cli("resolve", "last", "--rerun")
    assert result.exit_code == 0
    assert "when the program that has tool strike" in result.stderr
    assert cli.json("sessions")[0]["status"] == "unfinished"
    assert finished(start(program, UNSET))[0] == 0
    _, rerun = cli.json("show")["turns"][:2]
    (call,) = [entry for entry in rerun["entries"] if entry["type"] == "call"]
    assert (call["status"], call["result"]) == ("ok", "struck iron")


@pytest.mark.parametrize("arguments", [[], ["--result", "x", "--rerun"]])
def test_one_of_both_must_be_said(cli: Cli, arguments: list[str]) -> None:
    cli.ok("run", *ECHO, "hi")
    result = cli("resolve", "last", *arguments)
    assert result.exit_code == 2
    assert "--result TEXT" in result.stderr
