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


def test_what_waits_in_any_session_is_listed_the_oldest_first(cli: Cli, place: Path, asks: list[str]) -> None:
    cli("run", *ECHO, "--dir", str(place), "--write", "--ask", TWO)
    listed = cli.json("asks")
    assert len(listed) == 4
    assert [it["ask"]["ask_id"] for it in listed][:2] == asks
    assert len({it["session_id"] for it in listed}) == 2
    text = cli.ok("asks")
    assert text.index(asks[0]) < text.index(asks[1])
    assert '{"path": "a.txt", "content": "a"}' in text
    assert "asked by confirm" in text
    for it in listed:
        cli("deny", it["ask"]["ask_id"])
    assert cli("asks").stderr == "nothing waits for an answer\n"
    assert cli.json("asks") == []


def test_an_ask_is_found_in_whatever_session_it_is(cli: Cli, place: Path, asks: list[str]) -> None:
    cli("run", *ECHO, "hello")
    assert cli("approve", asks[0], "--by", "ann@example.com").exit_code == 3
    assert cli("approve", asks[1][-10:], "--by", "bob").exit_code == 0
    assert (place / "b.txt").exists()
    late = cli("deny", asks[1])
    assert (late.exit_code, "approved by bob" in late.stderr) == (2, True)
    unknown = cli("approve", "ask_0000")
    assert (unknown.exit_code, "holdfast asks" in unknown.stderr) == (2, True)


def test_an_answer_may_change_the_arguments_and_hold_for_more(cli: Cli, place: Path, asks: list[str]) -> None:
    edited = '{"path": "c.txt", "content": "c"}'
    wrong = cli("approve", asks[0], "--arguments", '{"path": 5}')
    assert (wrong.exit_code, "cannot be taken" in wrong.stderr) == (2, True)
    assert cli("approve", asks[0], "--arguments", edited).exit_code == 3
    assert (place / "c.txt").read_text() == "c"
    assert cli("approve", asks[1], "--for", "path=b.*", "--until", "2h").exit_code == 0
    entries = cli.json("show")["turns"][0]["entries"]
    (granted,) = [it["text"] for it in entries if it.get("what") == "granted"]
    assert "approved for write_file path=b.*" in granted
    for flags in (("--for", "all"), ("--until", "soon"), ("--until", "1h")):
        assert cli("approve", asks[1], *flags).exit_code == 2


def test_the_agent_s_own_name_answers_nothing(cli: Cli, asks: list[str]) -> None:
    for by in ("agent:x", "write_file", "sim/echo", ""):
        refused = cli("approve", asks[0], "--by", by)
        assert refused.exit_code == 2, by
        assert "person" in refused.stderr or "by=" in refused.stderr


def test_a_question_is_answered_from_the_command_line(cli: Cli) -> None:
    text = 'call ask_user {"question": "Red or blue?", "options": ["red", "blue"], "free_text": false}'
    assert cli("run", *ECHO, "--capability", "questions", text).exit_code == 3
    (it,) = cli.json("asks")
    assert "Red or blue?" in cli.ok("asks")
    assert "red | blue" in cli.ok("asks")
    assert cli("answer", it["ask"]["ask_id"], "green").exit_code == 2
    assert cli("approve", it["ask"]["ask_id"]).exit_code == 2
    done = cli("answer", it["ask"]["ask_id"], "blue")
    assert done.exit_code == 0
    assert "blue" in done.stdout
