"""Words for a terminal: made safe, made short."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal

from holdfast import Usage

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """The text with every character made visible that could move the cursor, change colours or reorder a line."""
    return _UNSAFE.sub(lambda found: chr(0x2400 + ord(found[0])) if found[0] < " " else "\ufffd", text)


def one_line(text: str, width: int = 80) -> str:
    """The text on one line of at most `width` characters."""
    line = clean(" ".join(text[: width * 8].split()))
    return line if len(line) <= width and len(text) <= width * 8 else line[: width - 1] + "…"


def size_of(text: str) -> str:
    """How much text this is, when it is more than one line."""
    lines = text.count("\n") + bool(text and not text.endswith("\n"))
    return f"{lines:,} lines" if lines > 1 else ""


def duration(milliseconds: float) -> str:
    """`3 ms`, `1.2 s`, `2 m 05 s`."""
    if milliseconds < 1_000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1_000
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} m {int(seconds % 60):02d} s"


def between(start: datetime, end: datetime) -> str:
    """How long it was from `start` to `end`."""
    return duration((end - start).total_seconds() * 1_000)


def clock(moment: datetime) -> str:
    """The time of day here."""
    return f"{moment.astimezone():%H:%M:%S}"


def day(moment: datetime) -> str:
    """The day and time here."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 call`, `3 calls`, `2 replies`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def tokens(usage: Usage) -> str:
    """`1,204 tokens in, 88 out`, or nothing when none were reported."""
    if not usage.input_tokens and not usage.output_tokens:
        return ""
    return f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out"


def dollars(cost: Decimal | None) -> str:
    """`$1.23`, `$0.0042`, or nothing where it is not known, or nothing was spent."""
    if not cost:
        return ""
    digits = 2 if cost >= 1 else 1 - cost.adjusted()
    return f"${cost:,.{digits}f}"


def joined(*parts: str) -> str:
    """The parts that are not empty, with dots between."""
    return " · ".join(part for part in parts if part)


def to_resolve(session_id: str, call_id: str) -> str:
    """What to type for a call in doubt."""
    return f"holdfast resolve {clean(session_id)} {clean(call_id)} --result TEXT   (or --rerun)"
