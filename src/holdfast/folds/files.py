"""How facts about files change the state of their session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.events import Event, Fact, FileDeleted, FileWritten
from holdfast.state import State


def written(state: State, event: Event, fact: FileWritten) -> None:
    """The session has this file."""
    state.files[fact.path] = fact


def deleted(state: State, event: Event, fact: FileDeleted) -> None:
    """The file is gone."""
    state.files.pop(fact.path, None)


RULES: dict[type[Fact], Callable[[State, Event, Any], None]] = {FileWritten: written, FileDeleted: deleted}
