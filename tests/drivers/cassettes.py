"""The recordings of real traffic: the files of a protocol, their exchanges, and a stream as a network cuts it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import shared_fixtures
from tests.drivers.wire_server import Script, streams

PIECE = 97
"""Bytes of each write: no divisor of anything, so that lines, characters and numbers are cut."""


def files_of(protocol: str) -> list[Path]:
    """The recordings of this protocol."""
    return sorted((shared_fixtures() / "cassettes" / protocol).glob("*.json"))


def exchanges_of(files: Sequence[Path]) -> list[Any]:
    """A parameter set for each exchange: the file, and the place in it."""
    return [
        pytest.param(path, place, id=f"{path.stem}-{place}")
        for path in files
        for place in range(len(json.loads(path.read_bytes())["interactions"]))
    ]


def in_pieces(body: bytes) -> Script:
    """This body as a stream, cut anywhere."""
    return streams(*(body[at : at + PIECE] for at in range(0, len(body), PIECE)))
