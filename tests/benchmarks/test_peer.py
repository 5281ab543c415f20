"""Our side of the comparison, under the other side's own harness. Skipped where that is not beside the checkout."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.side_by_side import OURS, PEERS

pytestmark = pytest.mark.skipif(
    not (PEERS / "workload.py").is_file(), reason="the other libraries' harness is not beside this checkout"
)


def peer(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(OURS), *arguments],
        env={**os.environ, "PYTHONPATH": str(PEERS), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def result(*arguments: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(peer(*arguments).stdout)
    assert "error" not in told, told
    found: dict[str, Any] = told["result"]
    return found


@pytest.mark.parametrize("variant", ["mem", "sqlite", "sqlite_pure"])
def test_turns_run_on_every_variant(variant: str) -> None:
    assert result("turns", "--turns", "3", "--variant", variant) == {"turns": 3}


def test_the_stream_reaches_their_consumer_whole() -> None:
    found = result("w3", "--repeats", "1")
    assert found["events_seen"] == found["deltas_sent"] == 2_000


@pytest.mark.parametrize(
    ("variant", "mode", "effects"),
    [
        ("sqlite", "in_tool", 1),  # in doubt: never again by itself
        ("sqlite", "after_record", 1),
        ("sqlite_pure", "in_tool", 2),
        ("sqlite_pure", "after_record", 1),
    ],
)
def test_a_killed_turn_is_finished_by_the_next_process(
    variant: str, mode: str, effects: int, tmp_path: Path
) -> None:
    told = tmp_path / "told.log"
    common = ("--variant", variant, "--workdir", str(tmp_path), "--crash-log", str(told))
    assert peer("crash", *common, "--crash-mode", mode).returncode == -9
    assert result("resume", *common)["text"] == "The sum is 5."
    assert told.read_text().count("tool ") == effects
