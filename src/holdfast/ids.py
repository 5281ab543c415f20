"""Identifiers: a prefix, an underscore, and the 32 hex digits of a UUID, version 7 (so that they sort by creation)."""

from __future__ import annotations

import hashlib
import re
from typing import Literal

from uuid_utils import uuid7

from holdfast.errors import UsageError

Prefix = Literal["session", "turn", "message", "event", "agent", "harness", "ask", "grant"]

_HEX = re.compile(r"[0-9a-f]{32}\Z")


def new_id(prefix: Prefix) -> str:
    """A new identifier such as `turn_0199…`; later ones sort after earlier ones."""
    return f"{prefix}_{uuid7().hex}"


def derived_id(prefix: Prefix, *parts: str) -> str:
    """The identifier that follows from these texts, in any process: a UUIDv8 made of their SHA-256."""
    digits = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"{prefix}_{digits[:12]}8{digits[13:16]}8{digits[17:32]}"


def check_id(prefix: Prefix, text: object) -> str:
    """Return `text` when it is a well-formed identifier of this kind; raise `UsageError` when it is not."""
    head, _, tail = text.partition("_") if isinstance(text, str) else ("", "", "")
    if not isinstance(text, str) or head != prefix or not _HEX.match(tail):
        raise UsageError(f"{text!r} is not a {prefix} id; one looks like {prefix}_ and 32 hex digits")
    return text


def call_id(turn_id: str, iteration: int, index: int) -> str:
    """The internal id of a tool call: its place in its turn. Providers repeat their ids; a place cannot repeat.

    It is also the call's idempotency key: the same after a crash, a retry and a replay.
    """
    return f"call_{turn_id.removeprefix('turn_')}_{iteration}_{index}"
