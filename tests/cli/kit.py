"""What the tests of the command line share: the command itself, in this process or in one of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from click.testing import CliRunner, Result

from holdfast.cli import main

ECHO = ("--model", "sim/echo")
UNSET = {"HOLDFAST_MODEL": None, "HOLDFAST_DB": None, "OPENAI_API_KEY": None}
"""What a developer may have set, and no test may see."""


class Cli:
    """`holdfast` on one database."""

    def __init__(self, db: Path, env: dict[str, str | None] | None = None) -> None:
        self.db = db
        self.env: dict[str, str | None] = {**UNSET, **(env or {}), "HOLDFAST_DB": str(db)}

    def __call__(self, *arguments: str, stdin: str | None = None) -> Result:
        """Run it here."""
        return CliRunner(env=self.env).invoke(main, arguments, input=stdin)

    def ok(self, *arguments: str, stdin: str | None = None) -> str:
        """Run it here and expect success; what it wrote to standard output."""
        result = self(*arguments, stdin=stdin)
        assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
        return result.stdout

    def json(self, *arguments: str) -> Any:
        """The one JSON value it writes."""
        return json.loads(self.ok(*arguments, "--json"))

    def lines(self, *arguments: str) -> list[Any]:
        """The JSON lines it writes."""
        return [json.loads(line) for line in self.ok(*arguments, "--json").splitlines()]

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start it in a process of its own."""
        return start([sys.executable, "-m", "holdfast.cli", *arguments], env=self.env, **options)


def start(command: list[str], env: dict[str, str | None], **options: Any) -> subprocess.Popen[str]:
    """Start a process with pipes, and with some variables set or (None) unset."""
    given = {name: value for name, value in (os.environ | env).items() if value is not None}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=given, **({"text": True} | pipes | options))


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for it: its exit code, and what it wrote."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def until(process: subprocess.Popen[str], text: str, output: IO[str] | None = None) -> str:
    """Read its standard output, or another one, line by line until one holds this text."""
    lines = output or process.stdout
    assert lines is not None
    read = []
    for line in lines:
        if text in line:
            return line
        read.append(line)
    raise AssertionError(f"{text!r} was never written; it ended with {process.wait(60)} and wrote {read}")
