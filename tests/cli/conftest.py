"""The command line on a fresh database."""

from pathlib import Path

import pytest

from tests.cli.kit import Cli


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
