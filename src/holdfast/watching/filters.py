"""What to watch, and up to where somebody did: filters and cursors.

A filter is data and matches what an event's envelope says, and what the first event of its session says of the session:
never the content. A cursor says how far a reader came in each session; it belongs to the filter it was made with.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Sequence
from typing import Protocol, get_args, runtime_checkable

import msgspec
from msgspec import Struct, structs

from holdfast.errors import CursorRefused, UsageError
from holdfast.events import KINDS, Event, SessionCreated
from holdfast.follow import Lagged, Signal
from holdfast.ids import check_id

NOW = "now"
"""In place of a cursor: only what happens from now on."""

SIGNAL_KINDS: dict[type, str] = {kind: str(kind.__struct_config__.tag) for kind in get_args(Signal)}
"""Kinds of signals, as filters name them."""

LARGEST = 64 << 20
"""Bytes that a cursor may unfold to."""

_START = "hc1."
_CHECK = 6


class Filter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which items to be given: those that match every field that is set; a field matches when any of its values does.

    `kinds` are those of facts and signals (`turn.completed`), or a beginning of them (`turn.*`). `agents`,
    `harnesses`, `principals` and `organisations` are those that the session was made with.
    """

    sessions: tuple[str, ...] | None = None
    turns: tuple[str, ...] | None = None
    kinds: tuple[str, ...] | None = None
    agents: tuple[str, ...] | None = None
    harnesses: tuple[str, ...] | None = None
    principals: tuple[str, ...] | None = None
    organisations: tuple[str, ...] | None = None


@runtime_checkable
class Watched(Protocol):
    """Something that stands for a filter: a session, a turn, an agent."""

    def as_filter(self) -> Filter:
        """What a subscription to it is given."""
        ...


class Compiled:
    """A filter that was checked and made ready. Raises `UsageError` for one that can match nothing."""

    __slots__ = ("_kinds", "_made_with", "_turns", "digest", "sessions", "turn")

    def __init__(self, given: Filter) -> None:
        for name in given.__struct_fields__:
            _check(name, getattr(given, name))
        self.digest = hashlib.sha256(msgspec.json.encode(_sorted(given), order="sorted")).hexdigest()[:24]
        """The same for filters that say the same."""
        self.sessions = frozenset(given.sessions) if given.sessions is not None else None
        self.turn = given.turns[0] if given.turns is not None and len(given.turns) == 1 else ""
        """The turn with whose end nothing more can come."""
        self._turns = frozenset(given.turns) if given.turns is not None else None
        self._kinds = _kinds(given.kinds) if given.kinds is not None else None
        names = {
            "agent": given.agents,
            "harness": given.harnesses,
            "principal": given.principals,
            "organisation": given.organisations,
        }
        self._made_with = {name: frozenset(values) for name, values in names.items() if values is not None}

    @property
    def asks_origin(self) -> bool:
        """Whether the first event of a session must be known to say whether the session is wanted."""
        return bool(self._made_with)

    def of_session(self, session_id: str) -> bool:
        """Whether this session is among those that are named, if any are."""
        return self.sessions is None or session_id in self.sessions

    def made_with(self, first: Event) -> bool:
        """Whether the session that begins with this event is wanted."""
        fact = first.data
        return isinstance(fact, SessionCreated) and all(
            getattr(fact, name, "") in values for name, values in self._made_with.items()
        )

    def event(self, event: Event) -> bool:
        """Whether an event of a session that is wanted is."""
        if self._turns is not None and event.context.turn_id not in self._turns:
            return False
        return self._kinds is None or event.type in self._kinds

    def signal(self, signal: Signal) -> bool:
        """Whether a signal of a session that is wanted is. A word that some were missed always is."""
        if isinstance(signal, Lagged):
            return True
        if self._turns is not None and signal.turn_id not in self._turns:
            return False
        return self._kinds is None or SIGNAL_KINDS[type(signal)] in self._kinds


class Cursor(Struct, frozen=True, kw_only=True, omit_defaults=True, array_like=True):
    """How far a reader came: in each session the last event that it was given or that was not for it."""

    digest: str
    """Of the filter."""
    places: dict[str, int] = {}
    last: str = ""
    """The id of the last event, where there is one session."""
    over: bool = False
    """Nothing more can come."""


def written(cursor: Cursor) -> str:
    """The cursor as a string."""
    return _armoured(zlib.compress(_packed(cursor), 6))


def _packed(cursor: Cursor) -> bytes:
    return msgspec.msgpack.encode(cursor, order="sorted")


def _armoured(packed: bytes) -> str:
    """As text, with a sum at its end that tells whether a character was changed."""
    whole = packed + hashlib.sha256(packed).digest()[:_CHECK]
    return _START + base64.urlsafe_b64encode(whole).rstrip(b"=").decode()


def read(text: str, scope: Compiled) -> Cursor:
    """The cursor in this string. Raises `CursorRefused` when it is none, or was made with another filter."""
    try:
        if not text.startswith(_START):
            raise ValueError("it does not begin as one")
        body = text[len(_START) :]
        packed = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)[:-_CHECK]
        if _armoured(packed) != text:
            raise ValueError("it was changed")
        unfolding = zlib.decompressobj()
        data = unfolding.decompress(packed, LARGEST)
        if not unfolding.eof:
            raise ValueError("it is cut short, or too large")
        cursor = msgspec.msgpack.decode(data, type=Cursor)
        if unfolding.unused_data or _packed(cursor) != data:
            raise ValueError("it was not written here")
    except (ValueError, binascii.Error, zlib.error, msgspec.MsgspecError) as error:
        raise CursorRefused(
            f"this is not a cursor of a subscription ({error}); start again without one", why="damaged"
        ) from None
    if cursor.digest != scope.digest:
        raise CursorRefused(
            "this cursor was made with another filter, and says nothing about what this one would have matched; "
            "use the same filter, or start again without a cursor",
            why="scope",
        )
    return cursor


def _check(name: str, values: object) -> None:
    if values is None:
        return
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise UsageError(f"{name} of a filter is a tuple of strings, not {values!r}")
    if not values:
        raise UsageError(f"{name} of a filter is empty, so it matches nothing; leave it out to match all")
    for value in values:
        if name in ("sessions", "turns"):
            check_id("session" if name == "sessions" else "turn", value)
        elif not value:
            raise UsageError(f"{name} of a filter holds an empty string, which names nothing")


def _kinds(patterns: Sequence[str]) -> frozenset[str]:
    """The kinds that these name. Raises `UsageError` for one that names none."""
    known, found = (*KINDS, *SIGNAL_KINDS.values()), set[str]()
    for pattern in patterns:
        start = pattern[:-1] if pattern.endswith(".*") else None
        matching = [kind for kind in known if (kind.startswith(start) if start else kind == pattern)]
        if not matching:
            raise UsageError(
                f"no event or signal is called {pattern!r}; there are {', '.join(sorted(known))}"
            )
        found.update(matching)
    return frozenset(found)


def _sorted(given: Filter) -> dict[str, list[str]]:
    fields = structs.asdict(given).items()
    return {name: sorted(set(values)) for name, values in fields if values is not None}
