"""The demo keeps its promise, and the sample agents can be run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.cli.agentfile import read_agent
from tests.conftest import ROOT

AGENTS = sorted((ROOT / "examples" / "agents").glob("*.md"))
PRIVATE = ("OPENAI_API_KEY", "HOLDFAST_MODEL", "HOLDFAST_DB")
"""What a newcomer has not set."""


def python(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it in an empty folder, without a key."""
    env = {name: value for name, value in os.environ.items() if name not in PRIVATE}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_demo_shows_a_killed_call_as_what_it_is_and_its_effect_once(tmp_path: Path) -> None:
    done = python("-W", "error", str(ROOT / "examples" / "demo.py"), folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(tmp_path.iterdir())
    assert "The model of this demo is SIMULATED" in done.stdout
    assert "OPENAI_API_KEY" in done.stdout
    killed, resumed = done.stdout.split("3. This process opens the same file")
    assert '"name":"note_in_ledger","attempt":1' in killed
    assert "ended    note_in_ledger" not in killed
    assert "started  note_in_ledger" not in resumed
    assert "IN DOUBT · cut off before its outcome was recorded" in resumed
    assert "Turn 1 · completed" in resumed
    assert "The ledger has 1 line" in resumed


def test_the_demo_says_so_when_its_model_cannot_be_used(tmp_path: Path) -> None:
    demo = str(ROOT / "examples" / "demo.py")
    for model, said in (("nobody/x", "no driver for vendor 'nobody'"), ("openai-chat/x", "OPENAI_API_KEY")):
        done = python(demo, model, folder=tmp_path)
        assert done.returncode == 1
        assert said in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("file", AGENTS, ids=lambda path: path.name)
def test_a_sample_agent_can_be_run(file: Path, tmp_path: Path) -> None:
    assert read_agent(file).name == file.stem
    command = ("-m", "holdfast.cli", "run", "--agent", str(file), "--model", "sim/echo", "hello")
    done = python(*command, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "You said: hello" in done.stdout
