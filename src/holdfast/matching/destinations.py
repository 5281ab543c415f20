"""Destinations: where the arguments of a call point to, so that rules can be about that.

    host   of every URL, also inside a longer text, and of an argument whose name ends in url, uri, host, hostname,
           endpoint or server
    mail   every mail address
    path   a text that begins with / ./ ../ or ~, and an argument whose name ends in path, file, filename, directory,
           folder or dir

A host and the domain of an address are brought to the one spelling that `holdfast.network` reads. What looks like a URL
and cannot be read is a destination that nobody knows: a rule that denies or asks counts as matching it, one that allows
does not. The time is linear in the text.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any, Literal

from msgspec import Struct

from holdfast.network import Url, read_url

MAX_DESTINATIONS = 64
"""Of one call; one with more is not judged but refused."""
MAX_MENTIONS = 1_024
"""Of any destinations, each as often as it is there."""
MAX_DEPTH = 64
_LOCAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.!#$%&'*+-/=?^_`{|}~")
_SCHEME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-")
_ENDS = frozenset(" \t\r\n\v\f\"'<>`|^{}\x00")
_TRAILING = ".,;:!?)]"
_HOSTED = ("url", "uri", "host", "hostname", "endpoint", "server")
_PATHED = ("path", "file", "filename", "directory", "folder", "dir")

DestinationKind = Literal["host", "mail", "path"]


class Destination(Struct, frozen=True):
    """One place that a call points to."""

    kind: DestinationKind
    text: str
    """As rules see it: a host name, `name@host`, or a path without dot segments."""
    url: Url | None = None
    known: bool = True
    """False for something that cannot be read."""


class TooMany(Exception):
    """More destinations than are looked at."""


def destinations_in(arguments: Any) -> tuple[Destination, ...]:
    """Where these arguments (decoded JSON) point to, each once. Raises `TooMany`."""
    found: dict[tuple[str, str], Destination] = {}
    mentions = 0
    for key, text in leaves(arguments):
        for destination in _in_text(key.rpartition(".")[2].lower(), text):
            found.setdefault((destination.kind, str(destination.url or destination.text)), destination)
            mentions += 1
            if len(found) > MAX_DESTINATIONS or mentions > MAX_MENTIONS:
                raise TooMany
    return tuple(found.values())


def leaves(value: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Every text in the arguments with the names that lead to it, joined by dots; lists are passed through. Keys of
    objects are texts too. Raises `TooMany` for what is nested too deep."""
    if depth > MAX_DEPTH:
        raise TooMany
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            if "://" in name or "@" in name:
                yield key, name
            yield from leaves(inner, f"{key}.{name}" if key else name, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, key, depth + 1)


def _in_text(name: str, text: str) -> Iterator[Destination]:
    end = 0
    at = text.find("://")
    while at >= 0:
        before, start = end, _scheme_start(text, at, end)
        end = _until_end(text, at + 3)
        yield from _mails(text, before, start)
        yield _host_of(text[start:end].rstrip(_TRAILING))
        at = text.find("://", end)
    yield from _mails(text, end, len(text))
    if end or not text:
        return
    if name.endswith(_HOSTED) and "@" not in text:
        yield _host_of("https://" + text.strip().lstrip("/"))
    elif "\n" not in text and (text.startswith(("/", "./", "../", "~", "\\")) or name.endswith(_PATHED)):
        yield Destination("path", clean_path(text))


def _scheme_start(text: str, at: int, least: int) -> int:
    start = at
    while start > max(least, at - 32) and text[start - 1] in _SCHEME:
        start -= 1
    return start


def _until_end(text: str, at: int) -> int:
    stop = min(len(text), at + 8_193)
    while at < stop and text[at] not in _ENDS:
        at += 1
    return at


def _host_of(text: str) -> Destination:
    """The destination of one URL. Other schemes are read as if they were https."""
    scheme, _, rest = text.partition("://")
    url = read_url(text if scheme.lower() in ("http", "https") else f"https://{rest}")
    if isinstance(url, str):
        return Destination("host", text[:200], known=False)
    return Destination("host", url.host, url)


def _mails(text: str, start: int, stop: int) -> Iterator[Destination]:
    """The mail addresses in this part of the text."""
    at = text.find("@", start, stop)
    while at >= 0:
        begin = at
        while begin > max(start, at - 64) and text[begin - 1] in _LOCAL:
            begin -= 1
        end = at + 1
        while end < min(stop, at + 254) and (text[end].isalnum() or text[end] in ".-[]:_"):
            end += 1
        if begin < at and end > at + 1:
            yield _mail(text[begin:at], text[at + 1 : end].rstrip(".:]-"))
        at = text.find("@", at + 1, stop)


def _mail(local: str, domain: str) -> Destination:
    url = read_url(f"https://{domain}")
    if isinstance(url, str):
        return Destination("mail", f"{local}@{domain}"[:200], known=False)
    return Destination("mail", f"{local.lower()}@{url.host}")


def clean_path(text: str) -> str:
    """The path without dot segments, from the root; a backslash counts as a slash."""
    path = posixpath.normpath("/" + text.strip().replace("\\", "/"))
    return "/" + path.lstrip("/")
