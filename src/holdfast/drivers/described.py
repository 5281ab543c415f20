"""A driver in plain data, for the digest of a manifest: what changes behaviour, and no secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx2
import msgspec
from msgspec import Struct

_PLAIN_HEADERS = frozenset(
    {"anthropic-beta", "anthropic-version", "openai-beta", "openai-organization", "openai-project"}
)
"""Headers whose values change behaviour and are no secret."""
_PLAIN_QUERY = frozenset({"api-version", "beta"})
_SECRET = (
    r"auth|credential|cookie|passw|secret|signature|(^|[-_])(access|bearer|refresh|session|id)?[-_]?token$"
    r"|(^|[-_])(api|access|private)?[-_]?key$|^headers$"
)
"""What a field is called that may hold a secret. Compiled when a driver is first described, not by an import."""
_ADDRESS = r"(?i)^[a-z][a-z0-9+.-]*://"
_SECRET_LIKE = r"\b(?:sk-|gsk_|xai-|AIza|gh[pousr]_|eyJ)[\w.*-]{6,}"
_HIDDEN = "(secret)"


def told(
    wire: str,
    vendor: str,
    url: httpx2.URL,
    headers: Mapping[str, str],
    timeouts: Mapping[str, float],
    options: Struct,
) -> dict[str, Any]:
    """Where a driver goes, as whom, and with what options."""
    query = {name: value if name in _PLAIN_QUERY else _HIDDEN for name, value in url.params.multi_items()}
    described: dict[str, Any] = {
        "wire": wire,
        "vendor": vendor,
        "url": _place(str(url)),
        "query": query,
        "headers": {name: value if name in _PLAIN_HEADERS else _HIDDEN for name, value in headers.items()},
        "timeouts": dict(timeouts),
        "options": _open(msgspec.to_builtins(options)),
    }
    return {name: value for name, value in described.items() if value not in ({}, ())}


def _open(value: Any) -> Any:
    """The value without what is, or looks like, a secret."""
    if isinstance(value, dict):
        return {
            name: _hidden(it) if re.search(_SECRET, name, re.I) else _open(it) for name, it in value.items()
        }
    if isinstance(value, list | tuple):
        return [_open(it) for it in value]
    if isinstance(value, str):
        text = _place(value) if re.match(_ADDRESS, value) else value
        return re.sub(_SECRET_LIKE, _HIDDEN, text)
    return value


def _hidden(value: Any) -> Any:
    """Names stay, and so do switches; words and numbers may be a secret."""
    if isinstance(value, dict):
        return {name: _hidden(it) for name, it in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(it) for it in value]
    return value if value is None or isinstance(value, bool) else _HIDDEN


def _place(address: str) -> str:
    """An address up to its path: without user, password, query or fragment."""
    place = re.split(r"[?#]", address, maxsplit=1)[0]
    scheme, _, rest = place.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
