"""A workspace on a disk, and something beside it that nobody in it may reach."""

from pathlib import Path

import pytest

from holdfast.workspace.disk_files import DiskFiles


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The workspace; what lies beside it is outside."""
    place = tmp_path / "root"
    place.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").write_text("secret")
    return place


@pytest.fixture
def files(root: Path) -> DiskFiles:
    return DiskFiles(root, writable=True)
