"""Sieves: what a guard looks for in a text, found in time linear in it, also while the text is still being written.

Expressions are RE2, found anywhere. Words and phrases of a block list are found whole, whatever their case, accents,
width, look-alike letters, invisible characters and what is put between their letters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from holdfast.errors import ConfigError
from holdfast.matching.patterns import MAX_PATTERN, compiled
from holdfast.matching.widths import widest

MAX_RULES = 10_000
"""Expressions and words of one guard."""
_ENGINE_BYTES = 64 * 2**20
_LIKE = str.maketrans(
    "авекмнорстухіјѕԁһӏԛԝɡıßαβεζηικμνορτυχωøđłħ", "abekmhopctyxijsdhlqwgisabezhikmvoptuxwodlh"
)
"""Letters of other alphabets that look like those of ours."""
_SAMPLES = (b"", b"a", b" ", b"a b", b"1\n1", b"-")
_UNSEEN = "\u115f\u1160\u3164\uffa0"


class Hit(NamedTuple):
    """Where something was found, and by which rule."""

    rule: str
    start: int
    end: int


class _Folding(dict[int, str]):
    """Each character as it counts: a letter or digit without its case and accents, a blank, or nothing at all."""

    def __missing__(self, number: int) -> str:
        plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", chr(number)).casefold())
        self[number] = folded = "".join([_counted(it) for it in plain])
        return folded


def _counted(character: str) -> str:
    kind = unicodedata.category(character)
    if kind in ("Mn", "Me", "Cf") or character in _UNSEEN:
        return ""
    return character.translate(_LIKE) if kind[0] in "LN" or kind == "Mc" else " "


_FOLDING = _Folding()


def fold(text: str) -> str:
    """The text as words are looked for in it."""
    return " ".join(text.translate(_FOLDING).split())


def _folded(text: str) -> tuple[str, list[int]]:
    """The same, and for each of its characters which one of the text it comes from."""
    found: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        for one in _FOLDING[ord(character)]:
            if one != " " or (found and found[-1] != " "):
                found.append(one)
                places.append(place)
    if found and found[-1] == " ":
        found.pop()
    return "".join(found), places


class Sieve:
    """Expressions and words, compiled. Raises `ConfigError` for what can find nothing, or finds everything."""

    def __init__(self, expressions: Iterable[str] = (), words: Iterable[str] = ()) -> None:
        self.expressions, self.words = tuple(expressions), tuple(words)
        if (count := len(self.expressions) + len(self.words)) > MAX_RULES:
            raise ConfigError(f"it has {count:,} expressions and words; {MAX_RULES:,} is the most")
        for text in self.expressions:
            _check(text)
        letters = [_letters(text) for text in self.words]
        self._numbers = {text: number for number, text in reversed(list(enumerate(letters, 1)))}
        words = [_pattern(text) for text in letters]
        widths = [widest(text) for text in self.expressions]
        self.width = None if None in widths else max((it for it in widths if it is not None), default=0)
        """Characters that tell at the latest that an expression matches; None: there is no bound."""
        self.reach = max(map(len, words), default=0)
        """More folded characters than any of the words take."""
        self.texts = _either(self.expressions)
        """What finds expressions in UTF-8, if there are any."""
        self.folds = _either(words)
        """What finds words in folded UTF-8."""

    def find(self, text: str) -> Hit | None:
        """What is found in this whole text: expressions first."""
        if self.texts is not None and self.texts.search(text.encode(errors="replace")):
            return next(self._expressions(text), None)
        if self.folds is not None and self.folds.search(fold(text).encode(errors="replace")):
            return next(self._found_words(text), None)
        return None

    def redact(self, text: str, mask: str) -> tuple[str, str]:
        """The text with the mask in place of whatever is found, and the rule that found something."""
        hits = list(self._expressions(text)) if self.texts is not None else []
        if self.folds is not None:
            hits += self._found_words(text)
        if not hits:
            return text, ""
        clean, end = [], 0
        for hit in sorted(hits, key=lambda it: (it.start, -it.end)):
            if hit.start >= end:
                clean += [text[end : hit.start], mask]
            end = max(end, hit.end)
        return "".join([*clean, text[end:]]), hits[0].rule

    def _expressions(self, text: str) -> Iterator[Hit]:
        for number, rule in enumerate(self.expressions, 1):
            for start, end, _ in _spans(compiled(rule), text, 0):
                yield Hit(f"expression {number}", start, end)

    def _found_words(self, text: str) -> Iterator[Hit]:
        """Where in the text words are, without what is around them."""
        folded, places = _folded(text)
        for start, end, found in _spans(self.folds, folded, 1):
            number = self._numbers[found.replace(" ", "")]
            start, end = start + found.startswith(" "), end - found.endswith(" ")
            yield Hit(f"words {number}", places[start], places[end - 1] + 1)


def _spans(engine: Any, text: str, shared: int) -> Iterator[tuple[int, int, str]]:
    """Each match: from where, to where, and what. Two of them may share so many characters at their edges."""
    data = text.encode(errors="replace")
    at = byte = place = 0
    while at < len(data) and (found := engine.search(data, at)):
        start, end = found.start(), found.end()
        first = place + len(data[byte:start].decode(errors="replace"))
        words = data[start:end].decode(errors="replace")
        yield first, first + len(words), words
        byte, place, at = start, first, max(end - shared, start + 1)


def _check(text: str) -> None:
    if not text or len(text) > MAX_PATTERN:
        raise ConfigError(f"{text!r} is no expression; give RE2 of 1 to {MAX_PATTERN:,} characters")
    if any(found and found.start() == found.end() for found in map(compiled(text).search, _SAMPLES)):
        raise ConfigError(
            f"the expression {text!r} matches without taking anything, so it would find something everywhere"
        )


def _letters(words: str) -> str:
    """What counts of these words."""
    letters = fold(words).replace(" ", "")
    if not letters or len(words) > MAX_PATTERN:
        raise ConfigError(
            f"{words!r} has no letter or digit, or more than {MAX_PATTERN:,} characters; symbols are for expressions"
        )
    return letters


def _pattern(letters: str) -> str:
    """What finds these words in a folded text, also with blanks between their letters."""
    before = "(?:^| )" if _has_edges(letters[0]) else ""
    after = "(?: |$)" if _has_edges(letters[-1]) else ""
    return before + " ?".join(letters) + after


def _has_edges(letter: str) -> bool:
    """Whether words with this letter at their edge stand between blanks: so do those of scripts that have cases."""
    return letter.isdigit() or letter.islower()


def _either(patterns: Sequence[str]) -> Any:
    if not patterns:
        return None
    try:
        return compiled("|".join(f"(?:{it})" for it in patterns), _ENGINE_BYTES)
    except ConfigError:
        raise ConfigError("its expressions and words are too large together, or name a group twice") from None
