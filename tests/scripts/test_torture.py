"""The large run plays what it is told to, prints figures, and fails when there is something to find."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

NO_POSTGRES = ("--postgres-kills", "0")


def torture(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.torture", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


def test_it_prints_a_table_and_writes_the_figures(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = torture(
        *("--only", "kills,walks", "--kills", "8", *NO_POSTGRES, "--walks", "2", "--json", str(figures))
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^kills +[\d.]+ +0  .*\d+ kills", done.stdout, re.MULTILINE)
    assert "kills a minute" in done.stdout
    assert "kills: " in done.stderr
    written = json.loads(figures.read_text())
    assert written["parts"]["kills"]["figures"]["kills"] >= 8
    assert written["parts"]["walks"]["figures"]["walks"] == 4
    assert written["parts"]["walks"]["failures"] == []


def test_a_failure_ends_it_with_1_and_is_seen_again_by_the_command_it_prints() -> None:
    plant = ("--plant", "run again")
    done = torture("--only", "kills", "--kills", "30", *NO_POSTGRES, "--servers", "2", *plant)
    assert done.returncode == 1, done.stdout + done.stderr
    again = r"took effect 2 times.*?again: python -m scripts\.torture (--case [^\n]*)"
    found = re.search(again, done.stdout, re.DOTALL)
    assert found is not None, done.stdout
    once_more = torture(*shlex.split(found[1]), *plant)
    assert once_more.returncode == 1
    assert "took effect 2 times" in once_more.stdout
    sound = torture(*shlex.split(found[1]))
    assert sound.returncode == 0, sound.stdout + sound.stderr


def test_what_was_not_tried_is_no_success() -> None:
    done = torture("--only", "power", "--minutes", "0")
    assert done.returncode == 1
    assert "nothing was tried" in done.stdout


def test_a_part_that_there_is_not_is_refused() -> None:
    done = torture("--only", "kills,floods")
    assert done.returncode == 2
    assert "there is no floods" in done.stderr
