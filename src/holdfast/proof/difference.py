"""Difference: what one manifest says that another does not, field by field.

    for change in diff(before, after):
        print(change)               "tools.refund.effect: 'once' -> 'idempotent'"

It compares the documents that digests are made of, so that equal digests mean no changes, and different ones at least
one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec
from msgspec import Struct

from holdfast.errors import UsageError
from holdfast.manifest import Manifest

_NAMES = ("name", "id", "path")
"""What the entries of a list are known by."""

_SHOWN = 60
"""Characters of a value that are shown in a line."""

_AROUND = 3
"""Words that are shown around a change in a text."""

_TEXT = 40
"""Characters from which on two values that are texts are compared by words."""


class Change(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One difference between two manifests."""

    field: str
    """Where, with dots: `tools.refund.parameters.properties.cents.type`."""
    kind: Literal["added", "removed", "changed", "moved"]
    """`moved`: the same entries in another order."""
    before: Any = None
    after: Any = None

    @property
    def words(self) -> str:
        """A changed text by its words: `Be [-brief-] {+exact+} and kind.` Empty for anything else."""
        old, new = self.before, self.after
        if not (isinstance(old, str) and isinstance(new, str)) or max(len(old), len(new)) < _TEXT:
            return ""
        return _words(old, new)

    def __str__(self) -> str:
        if self.kind in ("added", "removed"):
            value = self.after if self.kind == "added" else self.before
            return f"{self.field}: {self.kind} ({_short(value)})"
        if self.kind == "moved":
            return f"{self.field}: in another order ({_short(self.after)})"
        return f"{self.field}: {self.words or f'{_short(self.before)} -> {_short(self.after)}'}"


Side = Manifest | bytes
"""A manifest, or the document of one, as a store keeps it under its digest."""


def diff(before: Side, after: Side) -> list[Change]:
    """What has changed from one manifest to the other, by field; empty when their digests are equal.

    Raises `UsageError` for bytes that are no manifest's document.
    """
    return list(_between(document(before), document(after), ""))


def document(side: Side) -> dict[str, Any]:
    """What a manifest says, as plain data. Raises `UsageError` for bytes that are none."""
    body = side.document if isinstance(side, Manifest) else side
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"these bytes are no manifest's document: {error}") from error
    if not isinstance(found, dict) or not {"model", "instructions", "tools", "limits"} <= found.keys():
        raise UsageError(
            "this JSON is no manifest's document: it names no model, instructions, tools and limits"
        )
    return found


def _between(old: Any, new: Any, field: str) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _entries(old, new, field)
    elif (one := _keyed(old)) is not None and (other := _keyed(new)) is not None:
        yield from _entries(one, other, field)
        both = [name for name in one if name in other]
        if both != [name for name in other if name in one]:
            yield Change(field=field, kind="moved", before=list(one), after=list(other))
    elif _said(old) != _said(new):
        yield Change(field=field, kind="changed", before=old, after=new)


def _said(value: Any) -> bytes:
    """The value as digests tell it apart: for Python, 1, 1.0 and True are equal."""
    return msgspec.json.encode(value, order="sorted")


def _entries(old: dict[str, Any], new: dict[str, Any], field: str) -> Iterator[Change]:
    for name in dict.fromkeys([*old, *new]):
        path = f"{field}.{name}" if field else name
        if name not in new:
            yield from _alone(old[name], path, "removed")
        elif name not in old:
            yield from _alone(new[name], path, "added")
        else:
            yield from _between(old[name], new[name], path)


def _alone(value: Any, field: str, kind: Literal["added", "removed"]) -> Iterator[Change]:
    """What only one side has; the entries of a list by themselves."""
    entries = _keyed(value) if value else None
    for path, one in [(f"{field}.{name}", it) for name, it in (entries or {}).items()] or [(field, value)]:
        known = {"before": one} if kind == "removed" else {"after": one}
        yield Change(field=path, kind=kind, **known)


def _keyed(value: Any) -> dict[str, Any] | None:
    """The entries of a list by what they are known by; None where they are not, or two share a name."""
    if not isinstance(value, list):
        return None
    found = {}
    for entry in value:
        name = next((entry[key] for key in _NAMES if key in entry), None) if isinstance(entry, dict) else None
        if not isinstance(name, str) or name in found:
            return None
        found[name] = entry
    return found


def _words(old: str, new: str) -> str:
    one, other = _split(old), _split(new)
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    return "".join(_piece(code, one[a:b], other[c:d]) for code, a, b, c, d in matcher.get_opcodes())


def _split(text: str) -> list[str]:
    """Words with the space behind them; of a very long text, lines: words would take too long."""
    return re.findall(r"\S+\s*|\s+", text) if len(text) < 40_000 else text.splitlines(keepends=True)


def _piece(code: str, old: list[str], new: list[str]) -> str:
    if code == "equal":
        return _kept(old)
    gone, come = "".join(old), "".join(new)
    space = re.search(r"\s*\Z", come or gone)
    marked = [f"[-{gone.rstrip()}-]" if gone else "", f"{{+{come.rstrip()}+}}" if come else ""]
    return " ".join(it for it in marked if it) + (space[0] if space else "")


def _kept(words: list[str]) -> str:
    if len(words) <= 2 * _AROUND + 1:
        return "".join(words)
    return "".join([*words[:_AROUND], "… ", *words[-_AROUND:]])


def _short(value: Any) -> str:
    text = value if isinstance(value, str) and not value.isspace() else msgspec.json.encode(value).decode()
    text = " ".join(text.split())
    return (text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…") or '""'


def in_short(changes: Iterable[Change], most: int = 20) -> tuple[str, ...]:
    """Which fields changed, and how, without what they hold: fit for a log. At most so many."""
    found = [f"{it.field} {it.kind}" for it in changes]
    return tuple(found if len(found) <= most else [*found[: most - 1], f"and {len(found) - most + 1} more"])
