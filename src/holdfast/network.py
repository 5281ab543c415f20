"""Which URLs a session may reach: a list that each configuration layer can only narrow.

A rule is one of three things; no other form is accepted:

    example.com               this host: any scheme, port and path. Addresses are hosts: 8.8.8.8, [2606:4700::1111]
    *.example.com             this host and every host below it
    https://example.com/v1/   URLs that begin so, in whole path segments, on this scheme, host and port

One strict reader serves rules and URLs. What it refuses is never permitted. Send what it returns: another reader may
find another host in the same text. Which addresses may be connected to is not decided here.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Literal
from urllib.parse import quote, unquote_to_bytes

from msgspec import Struct

from holdfast.errors import ConfigError

UrlFault = Literal[
    "url-too-long", "bad-url", "no-scheme", "scheme", "userinfo", "bad-host", "bad-port", "bad-encoding"
]
"""Why a text is not a URL we would request."""

Refusal = UrlFault | Literal["blocked", "not-allowed"]
"""Why a request is not permitted. The strings are stable."""

MAX_URL_BYTES = 8192
_HOW = "Write a host (example.com), a host and all below it (*.example.com) or a prefix (https://example.com/api/)"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PARTS = r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#.*)?"
_AUTHORITY = r"(\[[^\]]*\][^:]*|[^:]*)(?::(?:0*([1-9][0-9]{0,4}))?)?"
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NUMBER = r"0x([0-9a-f]*)|0([0-7]*)|([1-9][0-9]*)"
_SAFE = "/:@!$&'()*+,;=%[]"  # stays as it is in a path or query
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"})
_BLANK = "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]"
_IN_LABELS = frozenset({"Ll", "Lm", "Lo", "Mn", "Mc", "Nd"})


class NetworkAccess(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What may be reached. A rule that cannot be read allows nothing, and as a block blocks everything."""

    allowed: tuple[str, ...] | None = None
    """Rules of which one must match. None allows anything; empty allows nothing."""
    blocked: tuple[str, ...] = ()
    """Rules of which none may match, whatever is allowed."""


class Url(Struct, frozen=True, kw_only=True, gc=False):
    """A URL as `read_url` makes it: in its one spelling, without its fragment. `str()` gives what to send."""

    scheme: str
    host: str
    """A lower-case ASCII name without the last dot, a dotted IPv4 address, or an IPv6 address in brackets."""
    port: int
    path: str
    """Begins with `/`; no dot segments, and nothing escaped that need not be."""
    query: str | None = None

    def __str__(self) -> str:
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        base = f"{self.scheme}://{self.host}{port}{self.path}"
        return base if self.query is None else f"{base}?{self.query}"


class _Rule(Struct, frozen=True, kw_only=True):
    host: str
    below: bool = False
    prefix: Url | None = None


def permits(access: NetworkAccess, url: str | Url) -> bool:
    """Whether `access` lets this URL be requested. A text that is not an http or https URL is never permitted."""
    return refusal(access, url) is None


def refusal(access: NetworkAccess, url: str | Url) -> Refusal | None:
    """Why `access` does not let this URL be requested, or None when it does."""
    target = read_url(url) if isinstance(url, str) else url
    if isinstance(target, str):
        return target
    if any(any(_matches(rule, target)) for rule in access.blocked):
        return "blocked"
    if access.allowed is not None and not any(all(_matches(rule, target)) for rule in access.allowed):
        return "not-allowed"
    return None


def narrow(parent: NetworkAccess, child: NetworkAccess) -> NetworkAccess:
    """What both let through: allowed rules intersected, blocked rules united. Associative.

    Two rules are nested or have nothing in common, so the rules that lie inside both lists are the intersection.
    """
    sides = [side for side in (child.allowed, parent.allowed) if side is not None]
    every = dict.fromkeys(rule for side in sides for rule in side)
    both = tuple(r for r in every if all(any(_within(r, bound) for bound in side) for side in sides))
    blocked = tuple(dict.fromkeys((*parent.blocked, *child.blocked)))
    return NetworkAccess(allowed=both if sides else None, blocked=blocked)


def check_rule(text: str) -> None:
    """Raises `ConfigError`, saying what is wrong and how to write it, unless `text` is a rule."""
    rule = _read_rule(text)
    if isinstance(rule, str):
        shown = text.rpartition("@")[2].partition("?")[0][:100]  # neither password nor token
        raise ConfigError(f"{shown!r} is not a network rule: {rule}. {_HOW}.")


def read_url(text: str) -> Url | UrlFault:
    """The URL in this text, or what is wrong with it. Stricter than a browser: no character is skipped or guessed."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_URL_BYTES:
        return "url-too-long"
    parts = re.fullmatch(_PARTS, text)
    if parts is None or "\\" in text or not _UNSEEN.isdisjoint(map(unicodedata.category, text)):
        return "bad-url"
    scheme, authority = (parts[1] or "").lower(), parts[2]
    if scheme not in _DEFAULT_PORTS:
        return "scheme" if scheme else "no-scheme"
    if authority is None or "@" in authority:
        return "bad-url" if authority is None else "userinfo"
    place = re.fullmatch(_AUTHORITY, authority)
    port = int(place[2] or _DEFAULT_PORTS[scheme]) if place else 65536
    if place is None or port > 65535:
        return "bad-port"
    host, path = _host(place[1]), _path(parts[3])
    if not host or path is None:
        return "bad-encoding" if host else "bad-host"
    query = parts[4] and quote(parts[4], safe=_SAFE + "?")
    return Url(scheme=scheme, host=host, port=port, path=path, query=query)


def _host(text: str) -> str:
    """The host in its one spelling; empty when it is none."""
    if text.startswith("[") and text.endswith("]"):
        return _ipv6(text[1:-1])
    if len(text) > 254 or not unicodedata.is_normalized("NFKC", text):  # resolvers take ① for 1
        return ""
    labels = [_label("".join(map(str.lower, label))) for label in text.removesuffix(".").split(".")]
    host = ".".join(labels)
    if "" in labels or len(host) > 253:
        return ""
    return _ipv4(labels) if re.fullmatch("[0-9]+|0x[0-9a-f]*", labels[-1]) else host


def _label(label: str) -> str:
    """One label as the DNS writes it; empty when it cannot be one."""
    if not label.isascii():
        kinds = [unicodedata.category(character) for character in label if character != "-"]
        plain = _IN_LABELS.issuperset(kinds) and not kinds[0].startswith("M") and not re.search(_BLANK, label)
        rest = re.sub("[ßς]", "", label)  # the two that fold and yet are letters of their own
        if not plain or unicodedata.normalize("NFKC", rest.casefold()) != rest:
            return ""
        label = "xn--" + label.encode("punycode").decode("ascii")
    elif label.startswith("xn--") and _label(label[4:].encode().decode("punycode", "replace")) != label:
        return ""
    return label if re.fullmatch(_LABEL, label) else ""


def _ipv4(labels: list[str]) -> str:
    """The address in any spelling that a resolver takes, such as `0x7f.1` for 127.0.0.1."""
    found = [re.fullmatch(_NUMBER, label) for label in labels]
    numbers = [int(m[m.lastindex] or "0", (16, 8, 10)[m.lastindex - 1]) for m in found if m and m.lastindex]
    if len(labels) > 4 or len(numbers) < len(labels):
        return ""
    *heads, tail = numbers
    fits = all(head < 256 for head in heads) and tail < 256 ** (4 - len(heads))
    return str(IPv4Address(sum(n << (24 - 8 * i) for i, n in enumerate(heads)) + tail)) if fits else ""


def _ipv6(text: str) -> str:
    """The address, in brackets; one that only wraps an IPv4 address is that address."""
    try:
        address = IPv6Address("" if "%" in text else text)  # no scope: it would name one of our interfaces
    except ValueError:
        return ""
    return f"[{address}]" if address.ipv4_mapped is None else str(address.ipv4_mapped)


def _path(text: str) -> str | None:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        return None
    return _resolve(quote(re.sub("%..", lambda m: quote(unquote_to_bytes(m[0]), safe=""), text), safe=_SAFE))


def _resolve(path: str) -> str:
    """The path without dot segments, which cannot climb above the root."""
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept) + ("/" if kept and path.endswith(("/.", "/..")) else "")


def _decoded(path: str) -> str:
    """The path as a server sees it that decodes before it splits, and takes `//` and a backslash for `/`."""
    return _resolve(re.sub(r"[/\\]+", "/", unquote_to_bytes(path).decode("latin-1")))


@lru_cache(maxsize=1024)
def _read_rule(text: str) -> _Rule | str:
    """The rule in this text, or what is wrong with it."""
    name = text.removeprefix("*.")
    if "*" in name or ("://" in name and name != text):
        return "a * stands only before a host, as *. does; a prefix covers all below its path without one"
    if "://" in name:
        url = read_url(name)
        if isinstance(url, str):
            return f"it is no http or https URL that can be requested ({url})"
        if re.search("[?#]", name) or re.search("//|%2F|%5C", url.path):
            return "a prefix has no query, no fragment, no empty segment and no escaped slash"
        return _Rule(host=url.host, prefix=url)
    if any(mark in name for mark in "/@?#") or (":" in name and not name.startswith("[")):
        return "a path or port needs https:// before the host, an IPv6 address needs [], a user is refused"
    host = _host(name)
    is_name = not host.endswith("]") and not host.rpartition(".")[2].isdigit()
    if not host or (name != text and not (is_name and "." in host)):
        return "*. goes before a name of two parts or more" if host else "it is no valid host name or address"
    return _Rule(host=host, below=name != text)


def _matches(text: str, url: Url) -> tuple[bool, ...]:
    """One answer for each way that a server may read the path: all must hold to allow, one is enough to block."""
    rule = _read_rule(text)
    if isinstance(rule, str):
        return True, False  # as a block it blocks, as an allowance it does not allow
    if (prefix := rule.prefix) is None:
        return (url.host == rule.host or (rule.below and url.host.endswith("." + rule.host)),)
    if (prefix.scheme, prefix.host, prefix.port) != (url.scheme, url.host, url.port):
        return (False,)
    ways = (url.path, prefix.path), (_decoded(url.path), _decoded(prefix.path))
    return tuple(path == start or path.startswith(start.removesuffix("/") + "/") for path, start in ways)


def _within(inner: str, outer: str) -> bool:
    """Whether every URL that `inner` matches is one that `outer` matches."""
    rule, bound = _read_rule(inner), _read_rule(outer)
    if isinstance(rule, str) or isinstance(bound, str):
        return False
    some = rule.prefix or Url(scheme="", host=rule.host, port=0, path="/")  # a scheme that no prefix covers
    return all(_matches(outer, some)) and (bound.below or not rule.below)
