"""`holdfast chat`: from a pipe, and at a terminal."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.kit import ECHO, Cli, start

WRITE = 'call write_file {"path": "new.txt", "content": "x"}'


def test_lines_from_a_pipe_are_turns_of_one_session(cli: Cli) -> None:
    said = cli.ok("chat", *ECHO, stdin="one\n\ntwo\n")
    assert "You said: one" in said
    assert "You said: two" in said
    assert len(cli.json("show")["turns"]) == 2


def test_a_chat_is_continued(cli: Cli) -> None:
    cli.ok("chat", *ECHO, stdin="one\n")
    assert "You said: two" in cli.ok("chat", "--session", "last", stdin="two\n/exit\nthree\n")
    assert len(cli.json("show")["turns"]) == 2


def test_slash_commands_look_and_send_nothing(cli: Cli, place: Path) -> None:
    said = cli.ok("chat", *ECHO, "--dir", str(place), stdin="/help\n/files\n/inspect\n/nothing\n")
    assert "/exit" in said
    assert "/note.txt" in said
    assert "sim/echo" in said
    assert "there is no /nothing" in said
    assert cli("show").exit_code == 2, "no input, no session"


def test_questions_are_put_with_their_whole_arguments_and_answered_inline(cli: Cli, place: Path) -> None:
    answers = f"{WRITE}\nperhaps\ny\n{WRITE}\nn not again\n"
    said = cli.ok("chat", *ECHO, "--dir", str(place), "--write", "--ask", stdin=answers)
    assert '"content": "x"' in said
    assert "write_file (ok)" in said
    assert "write_file (denied): Denied: not again" in said


def test_a_question_without_an_answer_stays_open(cli: Cli, place: Path) -> None:
    result = cli("chat", *ECHO, "--dir", str(place), "--write", "--ask", stdin=f"{WRITE}\n")
    assert result.exit_code == 3
    assert "holdfast approve ask_" in result.stdout
    assert cli("approve", "last").exit_code == 0
    assert (place / "new.txt").exists()


def test_an_error_does_not_end_the_chat(cli: Cli) -> None:
    said = cli.ok("chat", *ECHO, stdin=f"{'x' * 4_200_000}\nfine\n")
    assert "error: the input is 4,2" in said
    assert "You said: fine" in said


def test_bytes_that_are_no_text_do_not_end_the_chat(cli: Cli) -> None:
    process = cli.start("chat", *ECHO, stdin=subprocess.PIPE, text=False)
    out, err = process.communicate(b"bad \xff byte\nfine\n", timeout=60)
    assert process.returncode == 0, err
    assert "You said: bad \ufffd byte" in out.decode()
    assert "You said: fine" in out.decode()


SPAWN = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
"""Gives a command a terminal whose keys are our pipe."""


class Terminal:
    """A chat on a terminal of its own."""

    def __init__(self, cli: Cli, *arguments: str) -> None:
        command = [sys.executable, "-c", SPAWN, sys.executable, "-m", "holdfast.cli", "chat", *arguments]
        self._process = start(command, cli.env, stdin=subprocess.PIPE, text=False, bufsize=0)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._keys, self._screen = self._process.stdin, self._process.stdout

    def until(self, text: str, *, pressing: str = "", seconds: float = 30) -> str:
        """What it writes, up to this text. `pressing` is typed now and after each second of silence: readline may
        miss a signal that comes just before it waits."""
        seen, end = "", time.monotonic() + seconds
        self.type(pressing)
        while text not in seen:
            if select.select([self._screen], [], [], 1.0)[0]:
                seen += os.read(self._screen.fileno(), 65_536).decode(errors="replace")
            else:
                self.type(pressing)
            assert time.monotonic() < end, f"{text!r} did not come; it wrote {seen!r}"
        return seen

    def type(self, text: str) -> None:
        self._keys.write(text.encode())

    def end(self) -> int:
        """Its exit code."""
        self._process.communicate(timeout=30)
        return self._process.returncode


@pytest.fixture
def terminal(cli: Cli, place: Path) -> Iterator[Terminal]:
    it = Terminal(cli, *ECHO, "--dir", str(place), "--write", "--ask")
    it.until("you> ")
    yield it
    assert it.end() == 0


def test_at_a_terminal_words_stream_from_the_first_one_and_only_once(terminal: Terminal) -> None:
    terminal.type("hello there\n")
    said = terminal.until("you> ")
    assert said.count("[SIMULATED MODEL] You said: hello there") == 1
    terminal.type("/exit\n")
    terminal.until("to go on")


def test_at_a_terminal_ctrl_c_stops_the_turn_and_then_the_chat(terminal: Terminal, cli: Cli) -> None:
    terminal.type(" ".join(["word"] * 600) + "\n")
    terminal.until("[SIMULATED MODEL] You said: word")
    terminal.type("\x03")
    assert "cancelled" in terminal.until("you> ")
    terminal.until("to go on", pressing="\x03")
    assert cli.json("sessions")[0]["status"] == "cancelled"


def test_at_a_terminal_a_question_waits_for_y_or_n(terminal: Terminal, place: Path) -> None:
    terminal.type(f"{WRITE}\n")
    terminal.until("may write_file run? [y / n REASON] ")
    assert not (place / "new.txt").exists()
    terminal.type("y\n")
    terminal.until("you> ")
    assert (place / "new.txt").read_text() == "x"
    terminal.type("\x04")
    terminal.until("to go on")
