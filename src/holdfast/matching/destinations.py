"""Destinations: where the arguments of a call point to, so that rules can be about that.

    host   of every URL, also inside a longer text, and of an argument whose name ends in url, uri, host, hostname,
           endpoint or server, or in the plural of these
    mail   every mail address
    path   of every file: URL; a text that begins with / ./ ../ or ~, if it is one line or goes up with ..; and an
           argument whose name ends in path, file, filename, directory, folder or dir, or in the plural of these, if it
           is no URL or goes up

A host and the domain of an address are brought to the one spelling that `holdfast.network` reads. What looks like a URL
and cannot be read is a destination that nobody knows: a rule that denies or asks counts as matching it, one that allows
does not. The time is linear in the text.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import unquote

from msgspec import Struct

from holdfast.network import Url, read_url

MAX_DESTINATIONS = 64
"""Of one call; one with more is not judged but refused."""
MAX_MENTIONS = 1_024
"""Of any destinations, each as often as it is there."""
MAX_DEPTH = 64
MOUNT = "/workspace"
"""Where the files of a session are, for the tools that work on them."""
_LOCAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.!#$%&'*+-/=?^_`{|}~")
_SCHEME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-")
_ENDS = frozenset(" \t\r\n\v\f\"'<>`|^{}\x00")
_TRAILING = ".,;:!?)]"
_HOSTED = (
    *("url", "uri", "host", "hostname", "endpoint", "server"),
    *("urls", "uris", "hosts", "hostnames", "endpoints", "servers"),
)
_PATHED = (
    *("path", "file", "filename", "directory", "folder", "dir"),
    *("paths", "files", "filenames", "directories", "folders", "dirs"),
)
# compiled when they are first used, for few programs have rules; `re` keeps them
_URL = r"\s*[A-Za-z][A-Za-z0-9+.-]*://"
_FILE = r"(?i)\s*file:(?://[^/\\]*)?([^?#]*)"
_BEFORE_HOST = r"(?i)\s*(?:(?:https?|wss?|ftp):(?!\d{1,5}(?:[/?#]|$)))?[/\\]*"
_USER = r"[^/\\?#]*@(?:([^/\\?#:@\[]+):(?!\d*(?:[/?#]|$)))?"
"""Who logs in; with the host where a path follows it, as in `git@example.com:house/repo`."""
_QUOTED = r'(?<![\w"])"[^"\r\n]{1,64}"\Z'
_DOMAIN = frozenset(".-[]:_\u3002\uff0e\uff61")
"""What is in the domain of an address besides letters and digits. The last three may be read as dots elsewhere; a host
with one of them cannot be read here."""

DestinationKind = Literal["host", "mail", "path"]


class Destination(Struct, frozen=True):
    """One place that a call points to."""

    kind: DestinationKind
    text: str
    """As rules see it: a host name, `name@host`, or a path without dot segments."""
    url: Url | None = None
    known: bool = True
    """False for something that cannot be read."""
    rooted: bool = True
    """Whether a path was written from the root."""
    also: tuple[str, ...] = ()
    """What else the same path is called."""

    @property
    def spellings(self) -> tuple[str, ...]:
        """All that it is called."""
        return (self.text, *self.also)


class TooMany(Exception):
    """More destinations than are looked at."""


def destinations_in(arguments: Any) -> tuple[Destination, ...]:
    """Where these arguments (decoded JSON) point to, each once. Raises `TooMany`."""
    found: dict[tuple[str, str, bool], Destination] = {}
    mentions = 0
    for key, text in leaves(arguments):
        for destination in _in_text(key.rpartition(".")[2].lower(), text):
            text_of = str(destination.url or destination.text)
            found.setdefault((destination.kind, text_of, destination.rooted), destination)
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
        if text[start : start + 5].lower() == "file:":
            yield from _file_of(text[start:end])
        at = text.find("://", end)
    yield from _mails(text, end, len(text))
    if not text:
        return
    hosted, pathed = name.endswith(_HOSTED), name.endswith(_PATHED)
    if not end and (hosted or pathed):
        yield from _file_of(text)
    if hosted:
        if not end and not text.lstrip().lower().startswith("mailto:"):
            yield _host_of("https://" + _host_named(text))
    elif _is_path(text, pathed):
        yield Destination("path", clean_path(text), rooted=text.lstrip()[:1] in ("/", "\\"))


def _is_path(text: str, named: bool) -> bool:
    """Whether the text is a path, for all that can be told; `named`: the argument is called so."""
    if named:
        return "://" not in text or not re.match(_URL, text) or _goes_up(text)
    begins = text.lstrip().startswith(("/", "\\", "~", "./", "../"))
    return begins and ("\n" not in text.strip() or _goes_up(text))


def _goes_up(text: str) -> bool:
    return ".." in text.replace("\\", "/").split("/")


def _host_named(text: str) -> str:
    """The text, which is where a host is expected, from its host on."""
    before = re.match(_BEFORE_HOST, text)
    rest = text[before.end() if before else 0 :].rstrip()
    user = re.match(_USER, rest)
    return (user[1] or rest[user.end() :]) if user else rest


def _file_of(url: str) -> Iterator[Destination]:
    """The path in this URL, where it is that of a file."""
    if found := re.match(_FILE, url):
        yield Destination("path", clean_path(unquote(found[1])))


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
        while end < min(stop, at + 254) and (text[end].isalnum() or text[end] in _DOMAIN):
            end += 1
        if begin == at and text.endswith('"', start, at):
            quoted = re.compile(_QUOTED).search(text, max(start, at - 66), at)
            begin = quoted.start() if quoted else at
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


def in_workspace(to: Destination, root: str = "") -> Destination:
    """A path as a tool on the session's files takes it: `a`, `/a` and `/workspace/a` are one file, and so is `a` below
    `root`, the host's directory, where there is one. A directory is meant together with what is in it."""
    if to.kind != "path":
        return to
    inner = to.text
    for base in (MOUNT, root):
        if to.rooted and base and f"{inner}/".startswith(f"{base}/"):
            inner = inner[len(base) :] or "/"
            break
    below = inner if inner != "/" else ""
    named = [MOUNT + below, *([root + below] if root else [])]
    if not f"{inner}/".startswith(f"{MOUNT}/"):
        named.append(inner)
    return Destination("path", named[0], also=(*named[1:], *[f"{name.rstrip('/')}/" for name in named]))
