"""Partial: what of an answer that is still being written is complete already, and valid."""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.schema import InvalidArguments, Parameters, foreign
from holdfast.shape import Shape


class Prefix:
    """The beginning of a JSON object, as it comes in. Every character is looked at once.

    `feed` says whether more of it is complete than before: another property, or with `items` another item of the list
    that is its first property. `complete` is that much of it, as JSON.
    """

    __slots__ = ("_closers", "_depth", "_escaped", "_quoted", "_seen", "_text", "complete")

    def __init__(self, *, items: bool = False) -> None:
        self.complete = ""
        self._text = ""
        self._seen = 0
        self._closers: list[str] = []
        self._quoted = self._escaped = False
        self._depth = 2 if items else 1

    def feed(self, piece: str) -> bool:
        """Take in what follows. Words before the object, and behind it, are passed over."""
        before = self.complete
        if self._seen and not self._closers:
            return False  # it is whole
        self._text += piece
        if not self._seen:
            _, brace, rest = self._text.partition("{")
            self._text = brace + rest
        for place in range(self._seen, len(self._text)):
            self._look(self._text[place], place)
            self._seen = place + 1
            if not self._closers:
                break
        return self.complete != before

    def _look(self, mark: str, place: int) -> None:
        if self._escaped:
            self._escaped = False
        elif self._quoted:
            self._escaped, self._quoted = mark == "\\", mark != '"'
        elif mark == '"':
            self._quoted = True
        elif mark in "{[":
            self._closers.append("}" if mark == "{" else "]")
        elif mark in "}]":
            self._closers.pop()
            if len(self._closers) < self._depth:
                self._cut(place + 1)
        elif mark == "," and len(self._closers) == self._depth:
            self._cut(place)

    def _cut(self, place: int) -> None:
        self.complete = self._text[:place] + "".join(reversed(self._closers))


class Partial:
    """An answer while it comes: `feed` gives what is complete of it and valid, whenever that is more than before.

    Of an object that is a dict of the properties that are there, each of its type; of a list, the items that are there.
    """

    def __init__(self, shape: Shape) -> None:
        self._wrapped = shape.contract.wrapped
        schema = shape.contract.schema
        listed = self._wrapped and schema["properties"]["value"].get("type") == "array"
        self._prefix = Prefix(items=listed)
        self._parameters = Parameters({**schema, "required": []}, what="answer")
        self._types = shape.types

    def feed(self, piece: str) -> Any | None:
        """What there is now, or None when nothing was added that fits."""
        if not self._prefix.feed(piece):
            return None
        try:
            found = self._parameters.read(self._prefix.complete)
            typed = {name: self._typed(name, value) for name, value in found.items()}
        except (InvalidArguments, msgspec.ValidationError, ValueError):
            return None
        return typed.get("value") if self._wrapped else typed

    def _typed(self, name: str, value: Any) -> Any:
        kind = self._types.get(name)
        return value if kind is None else msgspec.convert(value, kind, dec_hook=foreign)
