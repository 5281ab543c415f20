"""Identifiers of the other system: strings under one rule, and those of a run, which follow from its name."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from holdfast.errors import UsageError

MAX_BYTES = 512
"""Of an identifier, in UTF-8."""

Privacy = Literal["public", "internal", "content_refs_only", "sensitive", "secret"]
Retention = Literal["ephemeral", "run_scoped", "session_scoped", "durable", "persistent", "host_policy"]
Trust = Literal["trusted", "sdk_generated", "host_provided", "user_provided", "external", "untrusted"]

CLASSES: dict[str, tuple[str, ...]] = {
    "privacy": get_args(Privacy),
    "retention": get_args(Retention),
    "trust": get_args(Trust),
}
"""The classes that data may have, by what they are about, the most open first."""


def check_id(text: str) -> str:
    """Return the text when it may be an identifier: not empty, at most 512 bytes, no control characters.

    Raises `UsageError`, which never repeats the text.
    """
    if not text:
        raise UsageError("an identifier is empty")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise UsageError("an identifier is not valid Unicode") from error
    if size > MAX_BYTES:
        raise UsageError(f"an identifier has {size} bytes; at most {MAX_BYTES} are allowed")
    for place, character in enumerate(text):
        if unicodedata.category(character) == "Cc":
            raise UsageError(f"an identifier has a control character at byte {len(text[:place].encode())}")
    return text


def pascal(name: str) -> str:
    """`run_started` as `RunStarted`: how some traces spell what is snake case on the wire."""
    return "".join(word.capitalize() for word in name.split("_"))


def journal_cursor(number: int) -> str:
    """The place of a record in a journal."""
    return f"journal.{number}"


def cursor_number(cursor: str) -> int:
    """The number in a journal cursor, after its last dot; 0 where there is none."""
    tail = cursor.rpartition(".")[2]
    return int(tail) if tail.isascii() and tail.isdecimal() else 0


@dataclass(frozen=True)
class RunIds:
    """What belongs to a run is named after the first 12 digits of the SHA-256 of its id."""

    run_id: str

    @cached_property
    def fragment(self) -> str:
        """What the names of one run share."""
        return hashlib.sha256(self.run_id.encode()).hexdigest()[:12]

    def name(self, what: str, tail: str | int = "", phase: str = "p0") -> str:
        """Such as `event.p0.0123456789ab.1`; `phase` tells text runs, typed outputs (p1) and tools (p2) apart."""
        return f"{what}.{phase}.{self.fragment}" + (f".{tail}" if tail != "" else "")


_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def safe_name(text: str) -> str:
    """A name that may be part of an identifier: the text itself, or a digest of one that may hold anything."""
    return text if _NAME.fullmatch(text) else hidden_name(text)


def hidden_name(text: str) -> str:
    """What stands for a name that must not be shown."""
    return f"name.{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:12]}"
