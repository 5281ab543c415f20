"""Redaction: values that are secret are taken out of whatever is recorded, shown or logged, however they are written.

A redactor knows the secrets in use (keys of drivers, passwords in addresses, whatever the application names) and finds
each plain and in seven disguises: base64, base64url, hex, percent-encoded, JSON-escaped, HTML-escaped and backwards.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import msgspec
from msgspec import Struct, structs

from holdfast.errors import UsageError
from holdfast.events import (
    Fact,
    FileWritten,
    OutputMessageCompleted,
    OutputMessageReplaced,
    OutputMessageShown,
    ToolCompleted,
)
from holdfast.follow import ArgumentsDelta, Signal, TextDelta, ThinkingDelta, ToolOutput
from holdfast.store import digest_of

MASK = "[secret]"
"""What stands in place of a secret."""

SHORTEST = 8
"""Characters of a secret; shorter ones cannot be told from ordinary words."""

STREAMS = 10_000
"""Streams of which an end may be kept back at once. Those that were cut off and never end go when newer ones come."""

LATE = ("holdfast.capabilities.workspace_hooks",)
"""Loggers of this package whose modules are imported only when they are needed."""

_F = TypeVar("_F", bound=Struct)
_K = TypeVar("_K")
_V = TypeVar("_V")
_Piece = TextDelta | ThinkingDelta | ArgumentsDelta | ToolOutput
_Place = tuple[type, str, str | int]
"""A stream: of what kind, of which message or call, and which part of it."""
_encoder = msgspec.json.Encoder()
_IN_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_IN_ATTRIBUTES = _IN_HTML | str.maketrans({'"': "&quot;", "'": "&#x27;"})
"""As the standard library's `html.escape`, whose table of entities takes long to import, writes them."""


class Redactor:
    """What is secret here. It can be told more at any time, and forgets nothing."""

    def __init__(self) -> None:
        self.active = False
        """Whether there is anything to look for."""
        self._values: set[str] = set()
        self._texts: tuple[str, ...] = ()
        self._bytes: tuple[bytes, ...] = ()
        self._held: dict[_Place, _Piece] = {}
        """Ends of streams that a secret may begin with."""
        self._unkept: dict[str, str] = {}
        """The same, of words that are kept on the log while their message is being written."""

    def __repr__(self) -> str:
        return f"Redactor({len(self._values)} secrets)"

    def learn(self, values: Iterable[str]) -> None:
        """These are secrets, too. Those of less than 8 characters are passed over."""
        new = {value for value in values if len(value) >= SHORTEST} - self._values
        if new:
            self.active = True
            self._values |= new
            found = {disguise for value in self._values for disguise in disguises(value)}
            self._texts = tuple(sorted(found, key=lambda text: (-len(text), text)))
            self._bytes = tuple([text.encode(errors="surrogatepass") for text in self._texts])

    def learn_from(self, thing: object) -> None:
        """What this driver, store or service says that it keeps secret (`secrets`)."""
        if secrets := getattr(thing, "secrets", ()):
            self.learn(secrets)

    def text(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._texts:
            if secret in text:
                text = text.replace(secret, MASK)
        return text

    def data(self, data: bytes) -> bytes:
        """The bytes without secrets."""
        for secret in self._bytes:
            if secret in data:
                data = data.replace(secret, MASK.encode())
        return data

    def finds(self, data: bytes) -> bool:
        """Whether any secret stands in these bytes."""
        return any(secret in data for secret in self._bytes)

    def facts(self, facts: tuple[Fact, ...]) -> tuple[Fact, ...]:
        """The facts without secrets; the same ones when they have none."""
        return tuple([self._fact(fact) for fact in facts]) if self._texts else facts

    def _fact(self, fact: Fact) -> Fact:
        if not isinstance(fact, OutputMessageShown):
            if self._unkept:
                self._unkept.pop(_stream(fact), None)
            return self.struct(fact)
        text = self.text(self._unkept.pop(fact.message_id, "") + fact.text)
        kept = self._beginning(text)
        if kept:
            _keep(self._unkept, fact.message_id, text[len(text) - kept :])
        return structs.replace(fact, text=text[: len(text) - kept])

    def struct(self, struct: _F) -> _F:
        """The struct without secrets."""
        try:
            body = _encoder.encode(struct)
        except (ValueError, TypeError, RecursionError):
            return struct  # the store refuses it
        if not self.finds(body):
            return struct
        clean: _F = self._clean(struct)
        if isinstance(clean, FileWritten) and clean.text is not None:
            data = clean.text.encode()
            return structs.replace(clean, size=len(data), digest=digest_of(data))
        return clean

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes):
            return self.data(value)
        if isinstance(value, Struct):
            return structs.replace(
                value, **{name: self._clean(getattr(value, name)) for name in value.__struct_fields__}
            )
        if isinstance(value, list | tuple):
            return type(value)([self._clean(item) for item in value])
        if isinstance(value, Mapping):
            return {self._clean(key): self._clean(item) for key, item in value.items()}
        return value

    def signals(self, signal: Signal) -> Iterator[Signal]:
        """The signal without secrets, and without its end when a secret may begin there: that comes with the next."""
        if not self._texts:
            yield signal
            return
        if not isinstance(signal, _Piece):
            yield self.struct(signal)
            return
        place = _place(signal)
        before = self._held.pop(place, None)
        text = self.text((before.text if before is not None else "") + signal.text)
        kept = self._beginning(text)
        if kept:
            _keep(self._held, place, structs.replace(signal, text=text[len(text) - kept :]))
        if shown := text[: len(text) - kept]:
            yield structs.replace(signal, text=shown)

    def rest(self, facts: Iterable[Fact]) -> list[Signal]:
        """What was kept back of the streams that end with these facts, and turned out to be nothing secret."""
        if not self._held:
            return []
        ended = {_stream(fact) for fact in facts}
        places = [place for place in self._held if place[1] in ended]
        return [self._held.pop(place) for place in places]

    def _beginning(self, text: str) -> int:
        """How many characters at the end may be the beginning of a secret."""
        longest = 0
        for secret in self._texts:
            for length in range(min(len(secret) - 1, len(text)), longest, -1):
                if text.endswith(secret[:length]):
                    longest = length
                    break
        return longest

    def filter(self, record: logging.LogRecord) -> bool:
        """Take secrets out of what a logger is about to say; as a filter of loggers."""
        if self._texts:
            said = record.getMessage()
            if record.exc_info:
                said += "\n" + logging.Formatter().formatException(record.exc_info)
            if (clean := self.text(said)) != said:
                record.msg, record.args, record.exc_info, record.exc_text = clean, (), None, None
        return True

    def watch_logs(self) -> None:
        """See to it that the loggers of this package say no secret."""
        for logger in _loggers():
            logger.addFilter(self)

    def leave_logs(self) -> None:
        """Let go of the loggers."""
        for logger in _loggers():
            logger.removeFilter(self)


def _keep(ends: dict[_K, _V], stream: _K, end: _V) -> None:
    ends[stream] = end
    if len(ends) > STREAMS:
        del ends[next(iter(ends))]


def _place(piece: _Piece) -> _Place:
    match piece:
        case ToolOutput():
            return ToolOutput, piece.call_id, piece.stream
        case ArgumentsDelta():
            return ArgumentsDelta, piece.message_id, piece.index
    return type(piece), piece.message_id, ""


def _stream(fact: Fact) -> str:
    """The message or call whose stream ends with this fact."""
    match fact:
        case OutputMessageCompleted(message=message):
            return message.id
        case ToolCompleted(result=result):
            return result.call_id
        case OutputMessageReplaced(message_id=message_id):
            return message_id
    return ""


def disguises(secret: str) -> set[str]:
    """The secret as it is, and encoded in the ways in which secrets get into texts."""
    data = secret.encode(errors="surrogatepass")
    found = {secret, secret[::-1], secret.translate(_IN_ATTRIBUTES), secret.translate(_IN_HTML)}
    for safe in ("", "/"):
        found |= {quote(data, safe=safe), _lower_escapes(quote(data, safe=safe))}
    found |= {"".join(f"%{byte:02X}" for byte in data), data.hex(), data.hex().upper()}
    for text in (json.dumps(secret), json.dumps(secret, ensure_ascii=False)):
        found |= {text[1:-1], json.dumps(text)[3:-3]}
    for encoded in _base64(data):
        found |= {encoded, encoded.replace("+", "-").replace("/", "_")}
    found |= {json.dumps(text, ensure_ascii=False)[1:-1] for text in found}  # each in what is written as JSON
    found.add(repr(secret)[1:-1])
    return {text for text in found if len(text) >= SHORTEST}


def _base64(data: bytes) -> Iterator[str]:
    """What base64 makes of these bytes at each of the three places where they can stand in what is encoded."""
    for ahead in range(3):
        encoded = base64.b64encode(b"\0" * ahead + data).decode().rstrip("=")
        first = (0, 2, 3)[ahead]
        last = len(encoded) if (ahead + len(data)) % 3 == 0 else len(encoded) - 1
        yield encoded[first:last]


def _lower_escapes(text: str) -> str:
    parts = text.split("%")
    return "%".join([parts[0], *[part[:2].lower() + part[2:] for part in parts[1:]]])


def check_secret(value: object) -> str:
    """The value, when it can be looked for. Raises `UsageError` (which does not show it)."""
    if not isinstance(value, str) or len(value) < SHORTEST:
        raise UsageError(
            f"a secret is text of {SHORTEST} characters or more; shorter ones cannot be told from words"
        )
    return value


def passwords_in(address: object) -> tuple[str, ...]:
    """The password in an address such as `postgresql://user:password@host/database`, as it is written and as it is."""
    if not isinstance(address, str) or "://" not in address:
        return ()
    try:
        written = urlsplit(address).password or ""
    except ValueError:
        return ()
    return (written, unquote(written)) if written else ()


def _loggers() -> list[logging.Logger]:
    for name in LATE:
        logging.getLogger(name)
    known = logging.root.manager.loggerDict.items()
    return [
        logger
        for name, logger in known
        if isinstance(logger, logging.Logger) and (name == "holdfast" or name.startswith("holdfast."))
    ]
