"""`import holdfast` costs little and does nothing, since it happens in other people's programs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LATE = {
    "providers": ["openai", "anthropic", "google", "httpx2", "httpcore2", "httpx", "mcp"],
    "stores": ["apsw", "sqlite3", "asyncpg", "psycopg", "sqlalchemy", "cryptography"],
    "web and terminal": ["starlette", "uvicorn", "click", "rich", "h11"],
    "engines": ["dbos", "restate"],
    "other parts": ["pydantic", "re2", "bashkit", "opentelemetry", "genai_prices"],
    "standard library": ["email", "http", "pathlib", "shlex", "tempfile", "xml", "zoneinfo"],
}
"""What is loaded only by a session that uses it."""

# Runs in a fresh interpreter; the report goes to a file so that anything printed was printed by the import.
PROBE = """
import json, os, sys, threading
doings = []
watched = ("socket.", "subprocess.", "os.system", "os.fork", "os.mkdir", "os.remove", "os.rename", "sqlite3.")
def watch(event, args):
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes or event.startswith(watched):
        doings.append(f"{event} {args[:1]}")
sys.addaudithook(watch)
start = threading.Thread.start
threading.Thread.start = lambda self: (doings.append(f"thread {self.name}"), start(self))
before = set(sys.modules)
import holdfast
report = {"modules": sorted(set(sys.modules) - before), "doings": list(doings), "file": holdfast.__file__}
with open(sys.argv[1], "w") as file:
    json.dump(report, file)
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a fresh interpreter in an empty folder reports after `import holdfast`."""
    place, report = tmp_path_factory.mktemp("empty"), tmp_path_factory.mktemp("report") / "report.json"
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", PROBE, str(report)],
        cwd=place,
        env=os.environ | {"HOME": str(place)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    left = [path.name for path in Path(place).iterdir()]
    found = json.loads(report.read_text())
    assert found["file"], "holdfast has no __init__.py: nothing was measured"
    return {**found, "output": done.stdout + done.stderr, "left": left}


@pytest.mark.parametrize("kind", LATE)
def test_import_holdfast_does_not_load(kind: str, imported: dict[str, Any]) -> None:
    loaded = {name.partition(".")[0] for name in imported["modules"]}
    assert not loaded.intersection(LATE[kind])


def test_what_is_there_for_tests_needs_no_pytest() -> None:
    """A plain install has none, and virtual time and the servers of the README work there."""
    source = "import sys; sys.modules['pytest'] = None; import holdfast.testing, holdfast.testing.providers"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_import_holdfast_does_nothing(imported: dict[str, Any]) -> None:
    """No file, folder, socket, process or thread, and not a word on the terminal."""
    assert imported["doings"] == []
    assert imported["left"] == []
    assert imported["output"] == ""
