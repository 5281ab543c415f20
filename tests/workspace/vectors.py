"""The path vectors, as the tests read them.

Only the surfaces `store` and `disk` belong to this room. `bash`, `http` and `archive` describe a shell view, a server
and an extractor; their tests come with them. Of the scenarios, `move-*` wait for an operation that moves, and `cross-3`
has nothing to test here: no operation takes a session.
"""

import base64
import json
from pathlib import Path
from typing import Any

DATA: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "paths.json").read_text("utf-8"))


def of_surface(surface: str) -> list[dict[str, Any]]:
    """The vectors of one surface."""
    return [vector for vector in DATA["vectors"] if vector["surface"] == surface]


def input_of(vector: dict[str, Any]) -> str | bytes:
    """The path as it comes in."""
    if "input_b64" in vector:
        return base64.b64decode(vector["input_b64"])
    if "repeat" in vector:
        parts = vector["repeat"]
        return str(parts.get("prefix", "") + parts["unit"] * parts["count"] + parts.get("suffix", ""))
    return str(vector["input"])


def expected(vector: dict[str, Any], name: str) -> str:
    """`session_path` or `display_path`, which may be told by reference to the input."""
    value = vector[name]
    if isinstance(value, dict):
        given = input_of(vector)
        assert isinstance(given, str)
        return str(value.get("prefix", "")) + given
    return str(value)


def by_id(vector: dict[str, Any]) -> str:
    """A vector's name in a test report."""
    return str(vector["id"])
