"""The command line on a fresh database, a directory to work on, and workers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.kit import Cli
from tests.cli.workers import Crew


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "holdfast.db")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A real directory with a file in it."""
    folder = tmp_path / "place"
    folder.mkdir()
    (folder / "note.txt").write_text("first line\nsecond line\n")
    return folder


@pytest.fixture
def ledger(cli: Cli, tmp_path: Path) -> Path:
    """Where the tools of workers note what they do."""
    cli.env["LEDGER"] = str(tmp_path / "ledger")
    (tmp_path / "ledger").touch()
    return tmp_path / "ledger"


@pytest.fixture
def crew(cli: Cli, ledger: Path, tmp_path: Path) -> Iterator[Crew]:
    crew = Crew(cli, tmp_path / "gate")
    yield crew
    for process in crew.processes:
        process.kill()
        process.communicate()
