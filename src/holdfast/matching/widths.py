"""Widths: how many characters it takes at most to tell that an RE2 expression matches.

A loop at the very end counts with what it needs at least, for more of the same changes nothing. Where there is no
bound, or what is written is not understood here, the answer is None.
"""

from __future__ import annotations

import re

# compiled when they are first used, for few programs have guards with expressions; `re` keeps them
_REPEAT = r"\{(\d+)(,(\d*))?\}"
_GROUP = r"\(\?(?:P?<\w+>|[a-zA-Z-]*:)"
_FLAGS = r"\(\?[a-zA-Z-]+\)"
_ONE = r"\\(?:x\{[0-9A-Fa-f]+\}|x[0-9A-Fa-f]{2}|[pP]\{\^?\w+\}|[pP]\w|[0-7]{1,3}|[dDsSwWnrtfva]|[^\w\s])"
_CLASS = r"(?s)\[\^?\]?(?:\[:\^?\w+:\]|\\[pP]\{\^?\w+\}|\\x\{[0-9A-Fa-f]+\}|\\.|[^\]\\])*\]"
_EMPTY = ("\\b", "\\B", "\\A", "\\z")

Width = tuple[int | None, int | None]
"""At most, and at most where nothing follows; None: without bound."""


class _Strange(Exception):
    """Something that is not understood."""


def widest(expression: str) -> int | None:
    """Characters of text that show at the latest that this expression matches; None: there is no bound."""
    try:
        reader = _Reader(expression)
        width = reader.either()[1]
    except (_Strange, RecursionError):
        return None
    return width if reader.at == len(expression) else None


class _Reader:
    """Reads an expression from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.at = 0

    def either(self) -> Width:
        """Alternatives, up to a closing parenthesis or the end."""
        found = [self._row()]
        while self._next() == "|":
            self.at += 1
            found.append(self._row())
        return _most([whole for whole, _ in found]), _most([last for _, last in found])

    def _row(self) -> Width:
        whole: int | None = 0
        before: int | None = 0
        last: int | None = 0
        while self._next() not in ("", "|", ")"):
            before = whole
            width, last = self._repeated()
            whole = _sum(whole, width)
        return whole, _sum(before, last)

    def _repeated(self) -> Width:
        width = self._atom()
        while self._next() and self._next() in "*+?{":
            if self._next() == "{":
                found = self._match(_REPEAT)
                if found is None:
                    break
                self.at = found.end()
                least = int(found[1])
                most = least if found[2] is None else int(found[3]) if found[3] else None
            else:
                mark = self._next()
                self.at += 1
                least, most = (1 if mark == "+" else 0), (1 if mark == "?" else None)
            width = _times(width, least, most)
        return width

    def _atom(self) -> Width:
        mark = self._next()
        if mark == "(":
            return self._group()
        if mark in "^$":
            self.at += 1
            return 0, 0
        if mark == "[":
            return self._taken(_CLASS)
        if mark == "\\":
            return self._escape()
        self.at += 1
        return 1, 1

    def _escape(self) -> Width:
        two = self._text[self.at : self.at + 2]
        if two in _EMPTY:
            self.at += 2
            return 0, 0
        if two == "\\Q":
            end = self._text.find("\\E", self.at)
            end = len(self._text) if end < 0 else end
            length, self.at = end - self.at - 2, min(end + 2, len(self._text))
            return length, length
        return self._taken(_ONE)

    def _group(self) -> Width:
        if found := self._match(_FLAGS):
            self.at = found.end()
            return 0, 0
        found = self._match(_GROUP)
        if found is None and self._text.startswith("(?", self.at):
            raise _Strange
        self.at = found.end() if found else self.at + 1
        width = self.either()
        if self._next() != ")":
            raise _Strange
        self.at += 1
        return width

    def _match(self, pattern: str) -> re.Match[str] | None:
        return re.compile(pattern).match(self._text, self.at)

    def _taken(self, pattern: str) -> Width:
        found = self._match(pattern)
        if found is None:
            raise _Strange
        self.at = found.end()
        return 1, 1

    def _next(self) -> str:
        return self._text[self.at : self.at + 1]


def _times(width: Width, least: int, most: int | None) -> Width:
    """So many of these in a row, the last of which may be cut to what it needs."""
    whole, last = width
    if whole == 0:
        return 0, 0
    least_of_it = None if whole is None and least > 1 else (whole or 0) * (least - 1) if least > 1 else 0
    shortest = _sum(least_of_it, last) if least else 0
    return (None if whole is None or most is None else whole * most), shortest


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _most(widths: list[int | None]) -> int | None:
    return None if None in widths else max(width for width in widths if width is not None)
