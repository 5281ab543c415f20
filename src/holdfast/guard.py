"""Guards: what looks at everything a model says and a tool is given or gives, and can keep it back.

    Guard(id="cards", expressions=(r"\\b[0-9]{4}(?: ?[0-9]{4}){3}",))
    Guard(id="tone", words=("darn it",), where=("stream", "tool_input"), retries=1)
    Guard(id="no-wipe", where="tool_input", tools="wipe*")
    Guard(id="keys", where="tool_output", expressions=("sk-[A-Za-z0-9]{20,}",), action="redact")
    Guard(id="judge", where="output", check=is_harmful)

What a guard blocks or redacts is nowhere on the log. A guard that fails blocks, if it blocks at all.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cached_property
from typing import Any, get_args

from msgspec import Struct, structs

from holdfast.errors import ConfigError
from holdfast.facts.guards import GuardAction, Place
from holdfast.matching.patterns import Pattern, read_pattern
from holdfast.matching.sieve import Sieve

MAX_WINDOW = 65_536
"""Characters of a window."""
MAX_RETRIES = 10
"""How often a model is asked again, at most."""
REFUSAL = "I cannot show the answer to this."

CODES: dict[str, str] = {
    "guard.expression": "an expression matched",
    "guard.words": "words of a block list were found",
    "guard.tool": "the tool is one that must not be called",
    "guard.check": "a guard's function found something",
    "guard.failed": "a guard's function raised, or answered what is no finding: a guard that blocks has blocked",
    "guard.timeout": "a guard's function did not answer in time: a guard that blocks has blocked",
}
"""The stable codes of what guards find. A guard's own `code`, or that of its function, takes the place of the first
four."""

CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
"""What a code, or an id, may look like."""


class Seen(Struct, frozen=True, kw_only=True):
    """What a guard's function is shown."""

    where: Place
    text: str
    """What the model said, its thinking included; arguments as JSON text; or a result in words."""
    session_id: str
    turn_id: str
    tool: str = ""
    call_id: str = ""


class Found(Struct, frozen=True, kw_only=True):
    """That a guard's function found something."""

    code: str = ""
    """Stable; it is recorded, so it must not tell what was found."""
    clean: str | None = None
    """The text without it, for a guard that redacts. Without one it blocks."""


Check = Callable[[Seen], Awaitable[Found | bool | None]]
"""Looks at something. True is `Found()`; None and False are nothing."""


class Guard(Struct, frozen=True, kw_only=True, dict=True):
    """One guard: where it looks, what for, and what it does then.

    Raises `ConfigError` for one that could not work as it is written.
    """

    id: str
    """Unique in a manifest; recorded with everything it decides."""
    where: Place | tuple[Place, ...] = "stream"
    expressions: tuple[str, ...] = ()
    """RE2 (no lookahead, no backreference), found anywhere; `(?i)` in front ignores case."""
    words: tuple[str, ...] = ()
    """Words and phrases, found whole, in any disguise of case, accents, look-alikes and blanks."""
    check: Check | None = None
    """An async function. On a `stream` it is asked about all that was said so far, again and again, before more of it
    is shown; at `output` once about the whole."""
    tools: str = "*"
    """A pattern: the tools whose arguments and results it looks at. A guard on `tool_input` without expressions, words
    and function is against every call of them."""
    action: GuardAction = "block"
    """Whether what it finds does not pass, passes without it (tools only), or passes and is noted."""
    code: str = ""
    """Stable, for programs: what its findings are recorded under, in place of those in `CODES`."""
    reason: str = ""
    """In words, for the model and the record."""
    answer: str = REFUSAL
    """What the user reads in place of a reply that was withheld for good. The turn then stops with `refusal`."""
    retries: int = 0
    """How often in a turn the model is asked again, and told why, before that."""
    window: int | None = None
    """Characters of a stream that are held back at least. Only to be given where expressions have no longest match:
    without it such a guard holds whole messages back."""
    timeout: float = 5.0
    """Seconds that the function may take."""

    def __post_init__(self) -> None:
        try:
            where = (self.where,) if isinstance(self.where, str) else tuple(self.where)
            structs.force_setattr(self, "where", where)
            structs.force_setattr(self, "expressions", tuple(self.expressions))
            structs.force_setattr(self, "words", tuple(self.words))
            _ = self.pattern, self.sieve  # both raise for what cannot be read
            _check(self)
        except ConfigError as error:
            raise ConfigError(f"guard {self.id!r}: {error}") from None

    @cached_property
    def sieve(self) -> Sieve:
        """What finds its expressions and words."""
        return Sieve(self.expressions, self.words)

    @cached_property
    def pattern(self) -> Pattern:
        """The tools it looks at."""
        return read_pattern(self.tools)

    @property
    def has_rules(self) -> bool:
        """Whether it has expressions or words."""
        return bool(self.expressions or self.words)

    def at(self, place: Place, tool: str = "") -> bool:
        """Whether it looks there."""
        return place in self.where and (not tool or self.pattern.matches(tool))

    def written(self) -> dict[str, Any]:
        """What it is made of, as plain data; without its function."""
        return {name: getattr(self, name) for name in _FIELDS}

    def describe(self) -> dict[str, object]:
        """What of this guard changes behaviour, as plain data."""
        return {
            **self.written(),
            **({"check": True, "timeout": self.timeout} if self.check is not None else {}),
        }


_FIELDS = (
    "id",
    "where",
    "expressions",
    "words",
    "tools",
    "action",
    "code",
    "reason",
    "answer",
    "retries",
    "window",
)


def _check(guard: Guard) -> None:
    """Raise `ConfigError` for what cannot work."""
    speaks = [it for it in guard.where if it in ("stream", "output")]
    if not all(CODE.fullmatch(str(name)) for name in (guard.id, guard.code or guard.id)):
        raise ConfigError(
            "its id, and its code if it has one, have to be 1 to 64 letters, digits, _ . : and -, and begin with a "
            "letter or digit"
        )
    if not guard.where or not set(guard.where) <= set(get_args(Place)):
        raise ConfigError(f"where={guard.where!r}; choose from {', '.join(get_args(Place))}")
    if guard.action not in get_args(GuardAction):
        raise ConfigError(f"action={guard.action!r}; choose from {', '.join(get_args(GuardAction))}")
    if guard.action == "redact" and speaks:
        raise ConfigError(f"{speaks[0]} cannot be redacted, only blocked or logged")
    if (
        not guard.has_rules
        and guard.check is None
        and (guard.where != ("tool_input",) or guard.action == "redact")
    ):
        raise ConfigError("it looks for nothing; give expressions, words or check")
    if guard.check is not None and not callable(guard.check):
        raise ConfigError(f"check={guard.check!r} is no async function")
    _check_numbers(guard)


def _check_numbers(guard: Guard) -> None:
    if guard.window is not None and not 0 < guard.window <= MAX_WINDOW:
        raise ConfigError(f"window={guard.window!r}; it is between 1 and {MAX_WINDOW:,}")
    if not 0 <= guard.retries <= MAX_RETRIES:
        raise ConfigError(f"retries={guard.retries!r}; it is between 0 and {MAX_RETRIES}")
    if not guard.timeout > 0:
        raise ConfigError(f"timeout={guard.timeout!r}; give seconds above 0")
    if not guard.answer.strip():
        raise ConfigError("answer is empty; say what the user reads in place of the reply")
    try:
        f"{guard.answer}{guard.reason}".encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"answer and reason have to be text that can be written: {error.reason}") from None


class Guards:
    """The guards of one manifest, sorted by where they look. What they look for in a stream is one sieve."""

    def __init__(self, guards: tuple[Guard, ...]) -> None:
        self.every = guards
        self._parts = {it.id: _apart(it) for it in guards}
        self.speech = tuple(it for it in guards if it.at("stream") or it.at("output"))
        """Those that look at what the model says."""
        blocking = [it for it in self.speech if it.action == "block"]
        self.streaming = tuple(it for it in blocking if it.at("stream"))
        self.blocking = bool(blocking)
        """Whether any of them blocks."""
        self.hold = any(it.at("output") for it in blocking)
        """Whether whole messages are held back."""
        self.checking = tuple(it for it in self.streaming if it.check is not None)
        """Those with a function."""
        widths = [max(it.window or 0, it.sieve.width or 0) if _bounded(it) else None for it in self.streaming]
        self.width = max((it for it in widths if it is not None), default=0)
        """Characters that a match of an expression may take, at most."""
        self.reach = max((it.sieve.reach for it in self.streaming), default=0)
        """Folded characters that words may take."""
        self.sieve: Sieve | None = None
        ruled = any(it.has_rules for it in self.streaming)
        if ruled and None not in widths:
            with suppress(ConfigError):  # too large as one
                self.sieve = Sieve(*_joined(self.streaming))
        self.hold = self.hold or (ruled and self.sieve is None)

    def over(self, place: Place, tool: str) -> tuple[Guard, ...]:
        """Those that look at this tool's arguments, or results."""
        return tuple(part for it in self.every if it.at(place, tool) for part in self._parts[it.id])


_SORTED: dict[tuple[int, ...], Guards] = {}
_SORTED_MOST = 64


def guards_of(guards: tuple[Guard, ...]) -> Guards:
    """These guards, sorted; the same again for the same objects, since their expressions are compiled for it."""
    key = tuple(map(id, guards))
    found = _SORTED.get(key)
    if found is None:
        if len(_SORTED) >= _SORTED_MOST:
            _SORTED.clear()
        found = _SORTED[key] = Guards(guards)  # it holds them, so that their ids stay theirs
    return found


def _apart(guard: Guard) -> tuple[Guard, ...]:
    """The guard; as two where its function is to be asked about what its rules, which redact, leave."""
    if guard.action != "redact" or guard.check is None or not guard.has_rules:
        return (guard,)
    return structs.replace(guard, check=None), structs.replace(guard, expressions=(), words=())


def _bounded(guard: Guard) -> bool:
    return guard.window is not None or guard.sieve.width is not None


def _joined(guards: tuple[Guard, ...]) -> tuple[list[str], list[str]]:
    return [it for guard in guards for it in guard.expressions], [
        it for guard in guards for it in guard.words
    ]
