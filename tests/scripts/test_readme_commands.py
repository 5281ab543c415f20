"""The script that proves the README runs what it should, and notices a lie."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / "scripts" / "readme_commands.py"


def prove(tmp_path: Path, page: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    readme = tmp_path / "README.md"
    readme.write_text(page)
    command = [sys.executable, str(SCRIPT), str(readme), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_every_sh_block_is_run_in_order(tmp_path: Path) -> None:
    page = "# A\n\n```sh\necho o''ne  # first\n```\n\ntext\n\n1. item\n\n   ```sh\n   echo t''wo\n   ```\n"
    done = prove(tmp_path, page)
    assert done.returncode == 0, done.stderr
    assert "== README.md:4\n" in done.stdout
    assert done.stdout.index("\none\n") < done.stdout.index("\ntwo\n")


def test_the_first_failing_command_ends_the_run(tmp_path: Path) -> None:
    done = prove(tmp_path, "```sh\nfalse\necho b''lock\n```\n```sh\necho n''ext\n```\n")
    assert done.returncode == 1
    assert "exit 1" in done.stdout
    assert "block\n" not in done.stdout
    assert "next\n" not in done.stdout


@pytest.mark.parametrize("command", ["false | true", 'echo "$no_such_variable"', "no-such-command"])
def test_a_failure_is_not_swallowed(command: str, tmp_path: Path) -> None:
    assert prove(tmp_path, f"```sh\n{command}\n```\n").returncode == 1


def test_blocks_that_are_only_shown_are_not_run(tmp_path: Path) -> None:
    done = prove(
        tmp_path, "```sh no-run\nfalse\n```\n```python\nraise\n```\n```\nfalse\n```\n```sh\ntrue\n```\n"
    )
    assert done.returncode == 0
    assert "false" not in done.stdout


def test_a_skipped_command_is_left_out_and_the_rest_of_its_block_is_run(tmp_path: Path) -> None:
    done = prove(tmp_path, "```sh\nfalse   # takes long\necho r''est\n```\n", "--skip", "false")
    assert done.returncode == 0
    assert "rest\n" in done.stdout


@pytest.mark.parametrize("name", ["bash", "console", "shell"])
def test_a_shell_block_under_another_name_is_refused(name: str, tmp_path: Path) -> None:
    done = prove(tmp_path, f"```sh\ntrue\n```\n\n```{name}\ntrue\n```\n")
    assert done.returncode == 1
    assert "line 5: write ```sh" in done.stderr


def test_a_page_that_shows_no_command_proves_nothing(tmp_path: Path) -> None:
    assert prove(tmp_path, "# Nothing\n").returncode == 1


def test_the_commands_find_the_installed_holdfast_first(tmp_path: Path) -> None:
    done = prove(tmp_path, "```sh\ncommand -v python\n```\n")
    assert f"{ROOT}/.venv/bin/python" in done.stdout or not (ROOT / ".venv").exists()
