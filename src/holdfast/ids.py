"""Identifiers: a prefix, an underscore, and the 32 hex digits of a UUIDv7 (so that they sort by creation)."""

from __future__ import annotations

import re
from typing import Literal

from uuid_utils import uuid7

from holdfast.errors import UsageError

Prefix = Literal["session", "turn", "message", "event", "agent", "harness", "ask"]

_HEX = re.compile(r"[0-9a-f]{32}\Z")


def new_id(prefix: Prefix) -> str:
    """A new identifier such as `turn_0199…`; later ones sort after earlier ones."""
    return f"{prefix}_{uuid7().hex}"


def check_id(prefix: Prefix, text: str) -> str:
    """Return `text` when it is a well-formed identifier of this kind; raise `UsageError` when it is not."""
    head, _, tail = text.partition("_")
    if head != prefix or not _HEX.match(tail):
        raise UsageError(f"{text!r} is not a {prefix} id; one looks like {prefix}_ and 32 hex digits")
    return text


def call_id(turn_id: str, iteration: int, index: int) -> str:
    """The internal id of a tool call: its place in its turn. Providers repeat their ids; a place cannot repeat.

    It is also the call's idempotency key: the same after a crash, a retry and a replay.
    """
    return f"call_{turn_id.removeprefix('turn_')}_{iteration}_{index}"
