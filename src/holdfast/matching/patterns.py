"""Patterns of rules: what a text must look like, matched in time linear in the text.

send_mail     exactly this text
send_*        a * stands for any run of characters, also none
re:[0-9]{4}   an RE2 expression for the whole text (no lookahead, no backreference)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from msgspec import Struct

from holdfast.errors import ConfigError

MAX_PATTERN = 1_000
"""Characters of a pattern."""
MAX_TEXT = 65_536
"""Characters of a text that an expression is tried on."""
_ENGINE_BYTES = 1_048_576
_SPECIAL = frozenset("\\.+*?()|[]{}^$")

Shape = Literal["literal", "prefix", "glob", "expression", "any"]

RANKS: dict[Shape, int] = {"literal": 3, "prefix": 2, "glob": 2, "expression": 1, "any": 0}
"""How specific a shape is: an exact text most, then one with a *, then an expression, then a lone *."""


class TooLong(Exception):
    """A text that is too long to be matched: whoever asks decides on the safe side."""


class Pattern(Struct, frozen=True):
    """A pattern that was read."""

    text: str
    shape: Shape
    literal: str
    """The whole text, or what it begins with."""
    weight: int
    """How many characters of it stand for themselves."""
    matches: Callable[[str], bool]
    """Raises `TooLong` for a text that an expression is not tried on."""


def read_pattern(text: str) -> Pattern:
    """The pattern in this text. Raises `ConfigError` saying what is wrong with it."""
    if not text or text == "re:":
        raise ConfigError("an empty pattern matches nothing; write * for anything")
    if len(text) > MAX_PATTERN:
        raise ConfigError(f"a pattern has at most {MAX_PATTERN:,} characters, and this one {len(text):,}")
    if text.startswith("re:"):
        return Pattern(text, "expression", "", 0, _expression(text[3:]))
    if not text.strip("*"):
        return Pattern(text, "any", "", 0, _anything)
    head, *rest = text.split("*")
    if not rest:
        return Pattern(text, "literal", text, len(text), text.__eq__)
    if rest == [""]:
        return Pattern(text, "prefix", head, len(head), lambda given: given.startswith(head))
    return Pattern(text, "glob", head, len(text) - text.count("*"), _glob(head, rest))


def _anything(given: str) -> bool:
    return True


def _glob(head: str, rest: list[str]) -> Callable[[str], bool]:
    middle, tail = [piece for piece in rest[:-1] if piece], rest[-1]
    least = len(head) + len(tail)

    def matches(given: str) -> bool:
        if len(given) < least or not given.startswith(head) or not given.endswith(tail):
            return False
        at, end = len(head), len(given) - len(tail)
        for piece in middle:
            found = given.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True

    return matches


def _expression(text: str) -> Callable[[str], bool]:
    fits = _engine(text)

    def matches(given: str) -> bool:
        if len(given) > MAX_TEXT:
            raise TooLong
        return fits(given)

    return matches


def _engine(text: str, space: int = _ENGINE_BYTES) -> Callable[[str], bool]:
    """Whether the whole of a text is one that this RE2 expression describes. Raises `ConfigError`."""
    expression = compiled(text, space)

    def matches(given: str) -> bool:
        return expression.fullmatch(given.encode(errors="replace").decode()) is not None

    return matches


def compiled(text: str, space: int = _ENGINE_BYTES) -> Any:
    """The RE2 expression, ready to be tried on text or UTF-8. Raises `ConfigError`."""
    import re2

    options = re2.Options()
    options.max_mem = space
    options.log_errors = False
    options.dot_nl = True
    options.never_capture = True
    try:
        return re2.compile(text, options)
    except re2.error as error:
        shown = error.args[0] if error.args else error
        said = shown.decode(errors="replace") if isinstance(shown, bytes) else str(shown)
        raise ConfigError(
            f"the expression {text!r} cannot be used: {said} (RE2 has no lookahead, lookbehind or backreference)"
        ) from error


class Alternatives:
    """Many patterns, of which those that match a text are found without trying each: halves of them are tried as one
    expression, and only a half that matches is looked into."""

    _FEW = 8

    def __init__(self, patterns: Sequence[tuple[int, Pattern]]) -> None:
        self._patterns = patterns
        self._either: Callable[[str], bool] | None = None
        self._halves: tuple[Alternatives, Alternatives] | None = None

    def find(self, text: str) -> list[int]:
        """The numbers of the patterns that match. Of a text that is too long for some, the numbers of all."""
        if len(text) > MAX_TEXT:
            return [number for number, _ in self._patterns]
        if len(self._patterns) <= self._FEW:
            return [number for number, pattern in self._patterns if pattern.matches(text)]
        if self._either is None:
            self._either = self._as_one()
        if not self._either(text):
            return []
        if self._halves is None:
            middle = len(self._patterns) // 2
            self._halves = Alternatives(self._patterns[:middle]), Alternatives(self._patterns[middle:])
        return [*self._halves[0].find(text), *self._halves[1].find(text)]

    def _as_one(self) -> Callable[[str], bool]:
        try:
            return _engine("|".join(f"(?:{_source(it)})" for _, it in self._patterns), 16 * _ENGINE_BYTES)
        except ConfigError:  # too large as one
            return _anything


def _source(pattern: Pattern) -> str:
    """The pattern as an RE2 expression."""
    if pattern.shape == "expression":
        return pattern.text[3:]
    return ".*".join("".join(_escaped(it) for it in piece) for piece in pattern.text.split("*"))


def _escaped(character: str) -> str:
    return f"\\{character}" if character in _SPECIAL else character
