"""`holdfast run`: words and activity, JSON, exit codes, and going on with a session."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from holdfast.cli import echo
from holdfast.cli.echo import LABEL
from tests.cli.kit import ECHO, UNSET, Cli, finished, start, until

LONG = " ".join(str(number) for number in range(3_000))
"""A prompt that the simulated model takes half a minute to repeat."""


def test_the_words_go_to_standard_output_and_everything_else_to_standard_error(cli: Cli) -> None:
    result = cli("run", *ECHO, "Hello there")
    assert (result.exit_code, result.stdout) == (0, f"{LABEL} You said: Hello there\n")
    assert "completed" in result.stderr
    assert "session_" in result.stderr


def test_a_prompt_comes_from_standard_input_for_a_dash(cli: Cli) -> None:
    assert "You said: from a pipe" in cli.ok("run", *ECHO, "-", stdin="from a pipe")


def test_json_is_every_event_and_signal_and_at_last_the_result(cli: Cli) -> None:
    *lines, last = cli.lines("run", *ECHO, "one two three")
    kinds = [line["type"] for line in lines]
    assert kinds[0] == "input.message"
    assert kinds[-1] == "turn.completed"
    said = "".join(line["text"] for line in lines if line["type"] == "output.message.delta")
    assert (last["type"], last["status"], last["text"]) == ("result", "completed", said)
    numbers = [line["sequence"] for line in lines if "sequence" in line]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_session_is_continued_and_remembers_its_model(cli: Cli) -> None:
    cli.ok("run", *ECHO, "first")
    assert "You said: second" in cli.ok("run", "--session", "last", "second")
    (only,) = cli.json("sessions")
    assert only["title"] == "first"


def test_the_same_key_is_accepted_once_and_shows_the_same_answer(cli: Cli) -> None:
    cli.ok("run", *ECHO, "first")
    once = cli.ok("run", "--session", "last", "--key", "k", "second")
    events = len(cli.lines("events"))
    assert cli.ok("run", "--session", "last", "--key", "k", "second") == once
    assert len(cli.lines("events")) == events


def test_the_default_model_comes_from_the_environment(cli: Cli) -> None:
    cli.env["HOLDFAST_MODEL"] = "sim/echo"
    assert "You said: hi" in cli.ok("run", "hi")


def test_a_failed_turn_is_exit_code_1_and_says_why(cli: Cli) -> None:
    result = cli("run", "--model", "sim/other", "hi")
    assert result.exit_code == 1
    assert "the simulated model is sim/echo" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "say what to do"),
        (["run", "hi"], "no model is set"),
        (["run", "--model", "nobody/x", "hi"], "no driver for vendor 'nobody'"),
        (["run", "--model", "sim/echo", "--capability", "fiels", "hi"], "did you mean 'files'?"),
        (["run", "--model", "sim/echo", "--write", "hi"], "--write needs --dir"),
        (["run", "--model", "sim/echo", "--key", "k", "hi"], "--key needs --session"),
        (["run", "--model", "sim/echo", "  "], "the input is empty"),
        (["run", "--session", "last", "hi"], "no session"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_the_reason(cli: Cli, arguments: list[str], said: str) -> None:
    result = cli(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_directory_is_only_read_unless_writing_is_allowed(cli: Cli, place: Path) -> None:
    read = 'call read_file {"path": "note.txt"}\ncall write_file {"path": "new.txt", "content": "x"}'
    said = cli.ok("run", *ECHO, "--dir", str(place), read)
    assert "read_file (ok): first line" in said
    assert "there is no tool 'write_file'" in said
    assert sorted(path.name for path in place.iterdir()) == ["note.txt"]
    assert "write_file (ok)" in cli.ok("run", *ECHO, "--dir", str(place), "--write", read)
    assert (place / "new.txt").read_text() == "x"


def test_a_session_is_continued_in_its_directory_from_anywhere(
    cli: Cli, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.parent)
    cli.ok("run", *ECHO, "--dir", "place", "hi")
    monkeypatch.chdir("/")
    assert "first line" in cli.ok("run", "--session", "last", 'call read_file {"path": "note.txt"}')
    (place / "note.txt").unlink()
    place.rmdir()
    result = cli("run", "--session", "last", "hi")
    assert result.exit_code == 2
    assert f"works on {place}, which is not there" in result.stderr


def test_flags_stand_on_top_of_an_agent_file(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "helper.md"
    file.write_text("---\nmodel: sim/other\ncapabilities: [files]\n---\nBe brief.")
    cli.ok("run", "--agent", str(file), *ECHO, "-i", "Be kind.", "hi")
    (only,) = cli.json("sessions")
    assert only["agent"] == "helper"
    body = cli.json("inspect")
    assert body["instructions"].startswith("Be brief.\n\nBe kind.")
    assert "read_file" in body["tools"]


def test_activity_shows_name_arguments_duration_and_outcome_of_each_call(cli: Cli, place: Path) -> None:
    prompt = 'call read_file {"path": "note.txt"}\ncall read_file {"path": "no"}'
    result = cli("run", *ECHO, "--dir", str(place), prompt)
    assert result.exit_code == 0
    assert 'read_file {"path": "note.txt"}' in result.stderr
    assert " ms · 2 lines" in result.stderr
    assert "failed" in result.stderr
    assert "not-found" in result.stderr


def test_a_call_that_needs_an_answer_is_exit_code_3_and_says_how_to_give_it(cli: Cli, place: Path) -> None:
    prompt = 'call write_file {"path": "new.txt", "content": "x"}'
    result = cli("run", *ECHO, "--dir", str(place), "--write", "--ask", prompt)
    assert result.exit_code == 3
    assert "holdfast approve ask_" in result.stderr
    assert not (place / "new.txt").exists()
    again = cli("run", "--session", "last", "something else")
    assert again.exit_code == 3, "the question stands before anything new"


def test_ctrl_c_cancels_the_turn_and_the_session_goes_on(cli: Cli) -> None:
    process = cli.start("run", *ECHO, "--json", LONG)
    until(process, "output.message.delta")
    process.send_signal(signal.SIGINT)
    code, out, err = finished(process)
    assert code == 1
    assert json.loads(out.splitlines()[-1])["status"] == "cancelled"
    assert "Traceback" not in err
    assert cli.json("sessions")[0]["status"] == "cancelled"
    assert "You said: again" in cli.ok("run", "--session", "last", "again")


STUBBORN = """
import threading, time
from holdfast.cli.watch import CtrlC
with CtrlC(lambda: print("asked to stop", flush=True)):
    print("ready", flush=True)
    while True:
        time.sleep(0.05)
"""


def test_a_second_ctrl_c_leaves_at_once(cli: Cli) -> None:
    process = start([sys.executable, "-c", STUBBORN], UNSET)
    until(process, "ready")
    process.send_signal(signal.SIGINT)
    until(process, "asked to stop")
    process.send_signal(signal.SIGINT)
    code, _, err = finished(process)
    assert code == 130
    assert "what was recorded is kept" in err


def test_a_turn_that_was_killed_is_unfinished_until_its_session_is_run_again(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = cli.start("run", *ECHO, "--json", LONG)
    until(process, "output.message.delta")
    process.kill()
    assert finished(process)[0] == -signal.SIGKILL
    assert cli.json("sessions")[0]["status"] == "unfinished"
    assert "A process is at work on this turn, or was cut off" in cli.ok("show")
    monkeypatch.setattr(echo, "PACE", 0.0)
    result = cli("run", "--session", "last")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{LABEL} You said: 0 1 2 ")
    assert "going on" in result.stderr
    assert "owes nothing" in cli("run", "--session", "last").stderr


def test_what_another_process_is_at_work_on_is_left_to_it_and_an_input_waits_in_line(cli: Cli) -> None:
    process = cli.start("run", *ECHO, "--json", " ".join(LONG.split()[:200]))
    until(process, "output.message.delta")
    process.send_signal(signal.SIGSTOP)  # it is at work for as long as we need
    owed = cli("run", "--session", "last")
    assert owed.exit_code == 2
    assert "another process is at work" in owed.stderr
    process.send_signal(signal.SIGCONT)
    result = cli("run", "--session", "last", "me too")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{LABEL} You said: me too\n"
    assert finished(process)[0] == 0
    turns = cli.json("show")["turns"]
    assert [turn["status"] for turn in turns] == ["completed", "completed"]


def test_a_reader_that_goes_away_costs_no_work(cli: Cli) -> None:
    read, write = os.pipe()
    os.close(read)
    process = cli.start("run", *ECHO, "hello", stdout=write)
    os.close(write)
    code, _, err = finished(process)
    assert code == 1
    assert "Traceback" not in err
    assert cli.json("sessions")[0]["status"] == "completed"
