"""What a model server said when it did not answer, as a `DriverError`: the right kind, and words fit for a log.

Every protocol's errors pass through here: an HTTP status with a body, an error object inside a stream or a 200
body, and bytes that are not the protocol at all. Whatever is quoted is short, on one line, and without the
credential that was sent.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
from msgspec import Struct

from holdfast.clock import SystemClock
from holdfast.errors import DriverError, DriverErrorKind

QUOTE = 300
"""Characters of a server's words at most."""
SHORTEST = 8
"""Characters of a credential; shorter ones cannot be told from ordinary words."""

_BY_CODE: dict[str, DriverErrorKind] = {
    "insufficient_quota": "quota",
    "usage_limit_reached": "quota",
    "billing_hard_limit_reached": "quota",
    "billing_not_active": "quota",
    "billing_error": "quota",
    "insufficient_balance": "quota",
    "insufficient_credits": "quota",
    "context_length_exceeded": "too_large",
    "string_above_max_length": "too_large",
    "request_too_large": "too_large",
    "content_filter": "content_policy",
    "content_policy_violation": "content_policy",
    "moderation_blocked": "content_policy",
    "image_content_policy_violation": "content_policy",
    "misalignment_policy_violation": "content_policy",
    "bio_policy": "content_policy",
    "cyber_policy": "content_policy",
    "invalid_api_key": "authentication",
    "authentication_error": "authentication",
    "permission_error": "authentication",
    "unauthenticated": "authentication",
    "permission_denied": "authentication",
    "rate_limit_exceeded": "rate_limit",
    "rate_limit_error": "rate_limit",
    "resource_exhausted": "rate_limit",
    "overloaded": "overloaded",
    "overloaded_error": "overloaded",
    "server_overloaded": "overloaded",
    "server_is_overloaded": "overloaded",
    "slow_down": "overloaded",
    "insufficient_system_resource": "overloaded",
    "unavailable": "overloaded",
    "timeout": "timeout",
    "timeout_error": "timeout",
    "deadline_exceeded": "timeout",
    "api_key_invalid": "authentication",
    "pup_limited_disabled": "authentication",
    "billing_disabled": "quota",
    "quota_per_day": "quota",
    "prompt_blocked": "content_policy",
    "missing_thought_signature": "invalid_request",
}
"""Codes that say more than the status they come with."""

_BY_STATUS: dict[int, DriverErrorKind] = {
    401: "authentication",
    402: "quota",
    403: "authentication",
    408: "timeout",
    413: "too_large",
    429: "rate_limit",
    498: "overloaded",
    503: "overloaded",
    504: "timeout",
    524: "timeout",
    529: "overloaded",
}

_BY_VAGUE_CODE: dict[str, DriverErrorKind] = {
    "invalid_request_error": "invalid_request",
    "invalid_argument": "invalid_request",
    "not_found_error": "invalid_request",
    "model_not_found": "invalid_request",
    "invalid_prompt": "invalid_request",
    "data_residency_mismatch": "invalid_request",
    "vector_store_timeout": "timeout",
    "invalid_image": "invalid_request",
    "invalid_image_format": "invalid_request",
    "invalid_image_mode": "invalid_request",
    "invalid_image_url": "invalid_request",
    "invalid_base64_image": "invalid_request",
    "image_too_large": "invalid_request",
    "image_file_too_large": "invalid_request",
    "image_too_small": "invalid_request",
    "image_parse_error": "invalid_request",
    "image_file_not_found": "invalid_request",
    "empty_image_file": "invalid_request",
    "unsupported_image_media_type": "invalid_request",
    "failed_to_download_image": "invalid_request",
}
"""Codes that servers put on many things: asked only where no status speaks."""

_BY_WORDS: tuple[tuple[str, DriverErrorKind], ...] = (
    (
        r"context (length|window|limit)|too many tokens|prompt is too long|^request too large"
        r"|token count .{0,40}exceeds|request payload size exceeds",
        "too_large",
    ),
    (r"credit balance is too low|specified API usage limits", "quota"),
    (r"\bwas flagged\b|content (management|filtering) policy", "content_policy"),
)
"""For servers that put the reason into the sentence only. Compiled by the first failure, not by an import."""

_ADVICE: dict[DriverErrorKind, str] = {
    "authentication": "check the API key and what it may use",
    "quota": "check the account's plan and billing",
    "too_large": "shorten the history or the input",
}
_SECRET_LIKE = r"\b(?:sk-|gsk_|xai-|AIza)[\w*-]{6,}"


class Complaint(Struct, frozen=True, kw_only=True):
    """A server's error, whatever shape it came in."""

    message: str = ""
    codes: tuple[str, ...] = ()
    """Its machine-readable words (code, type, status), in lower case, the most specific first."""
    status: int | None = None
    """The HTTP status it names itself, as errors inside a stream do."""
    retry_after: float | None = None
    """Seconds to wait, where the body says so."""


class Peer:
    """The server at the other end of one request, as errors name it.

    `host` is shown; `secret` is what must never be, however the server echoes it. A word that stands for a key where
    none is wanted, such as `any`, is no secret.
    """

    __slots__ = ("_secret", "host")

    def __init__(self, host: str, secret: str = "") -> None:
        self.host = host
        self._secret = secret if len(secret) >= SHORTEST else ""

    def quote(self, text: str) -> str:
        """The beginning of `text` on one line, without the credential."""
        if self._secret:
            text = text.replace(self._secret, "[key]")
        text = " ".join(re.sub(_SECRET_LIKE, "[key]", text[: QUOTE * 20]).split())
        shown = "".join([char if char.isprintable() else "?" for char in text[: QUOTE + 1]])
        return shown if len(shown) <= QUOTE else shown[: QUOTE - 1] + "…"

    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> DriverError:
        """The error behind a response whose status is not 2xx. `body` may be cut short."""
        said = read_complaint(body) or Complaint(message=_page_text(body))
        kind = kind_of(said, status)
        hint = _ADVICE.get(kind, "")
        if 300 <= status < 400:
            hint = (
                f"it redirects to {self.quote(headers.get('location', 'nowhere'))}; use that as the base URL"
            )
        elif status == 404:
            hint = "check the model's name and the base URL"
        error = self._error(kind, f"answered {status}", said, hint)
        error.status = status
        waiting = retry_after(headers, SystemClock().now())
        error.retry_after = said.retry_after if waiting is None else waiting
        return error

    def complained(self, data: object) -> DriverError:
        """The error behind an error object that came inside a response that had begun well."""
        said = describe(data)
        kind = kind_of(said, said.status)
        error = self._error(kind, "reported an error inside its answer", said, _ADVICE.get(kind, ""))
        error.status = said.status
        error.retry_after = said.retry_after
        return error

    def unreadable(self, body: bytes, content_type: str) -> DriverError:
        """The error behind a complete 2xx body that is not this protocol's."""
        what = content_type or "something without a content type"
        text = _page_text(body)
        shown = f": {self.quote(text)}" if text else ", and it is empty"
        return DriverError(
            "server_error", f"{self.host} sent {self.quote(what)} that is not an answer{shown}"
        )

    def broken(self, what: str, excerpt: bytes = b"") -> DriverError:
        """The error behind a response that broke off or fell apart on the way."""
        shown = f": {self.quote(excerpt[: QUOTE * 20].decode(errors='replace'))}" if excerpt else ""
        return DriverError("broken_stream", f"the answer of {self.host} {what}{shown}")

    def _error(self, kind: DriverErrorKind, happened: str, said: Complaint, hint: str) -> DriverError:
        code = f" ({self.quote(said.codes[0])})" if said.codes else ""
        words = f": {self.quote(said.message)}" if said.message else ""
        return DriverError(kind, f"{self.host} {happened}{code}{words}" + (f"; {hint}" if hint else ""))


def kind_of(said: Complaint, status: int | None) -> DriverErrorKind:
    """The kind of failure that a status and a server's own words amount to."""
    if status == 413:
        return "too_large"
    for pattern, kind in _BY_WORDS:
        if (
            re.search(pattern, said.message, re.I)
            and status not in {401, 402}
            and not (status and status >= 500)
        ):
            return kind
    for code in said.codes:
        if code in _BY_CODE:
            return _BY_CODE[code]
    if status is not None:
        return _BY_STATUS.get(status) or ("server_error" if status >= 500 else "invalid_request")
    return next((_BY_VAGUE_CODE[code] for code in said.codes if code in _BY_VAGUE_CODE), "server_error")


def read_complaint(body: bytes) -> Complaint | None:
    """The error in this JSON body; None when it is not JSON, or not an error."""
    try:
        return complaint(msgspec.json.decode(body))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def complaint(data: Any) -> Complaint | None:
    """The error in decoded JSON: `{"error": {...}}`, `{"error": "..."}`, `{"message": ...}`, `{"detail": ...}`
    or a list around one of them. None when there is none."""
    if isinstance(data, list) and data:
        data = data[0]
    if not isinstance(data, dict):
        return None
    error = data.get("error")
    if error:
        return describe(error)
    return describe(data) if data.get("message") or data.get("detail") else None


def describe(error: Any) -> Complaint:
    """An error object, read for what it says."""
    if not isinstance(error, dict):
        return Complaint(message=_text(error))
    message = error.get("message") or error.get("detail") or ""
    return Complaint(
        message=_words(message, error),
        codes=tuple(_codes(error)),
        status=_status(error),
        retry_after=_retry_delay(error),
    )


def _words(message: Any, data: dict[str, Any]) -> str:
    text = _text(message)
    metadata = data.get("metadata")
    upstream = metadata.get("raw") if isinstance(metadata, dict) else None
    return f"{text}: {upstream}" if isinstance(upstream, str) else text


def _text(value: Any) -> str:
    try:
        return (
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        )
    except RecursionError:
        return "nested too deeply to be shown"


def _codes(data: dict[str, Any]) -> Iterator[str]:
    for detail in _details(data):
        if "PerDay" in _text(detail.get("violations")):
            yield "quota_per_day"
    for part, name in (
        (data, "code"),
        (data, "type"),
        *[(detail, "reason") for detail in _details(data)],
        (data, "status"),
    ):
        value = part.get(name)
        if isinstance(value, str) and value and not value.isdigit() and value != "error":
            yield value.lower()


def _details(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Google's particulars of an error: each a typed object."""
    details = data.get("details")
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _retry_delay(data: dict[str, Any]) -> float | None:
    """The wait in a `google.rpc.RetryInfo`, such as `34.07s`."""
    for detail in _details(data):
        found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s", _text(detail.get("retryDelay", "")))
        if found:
            return float(found.group(1))
    return None


def _status(data: dict[str, Any]) -> int | None:
    for name in ("status_code", "code", "status"):
        value = data.get(name)
        if isinstance(value, str) and re.fullmatch(r"[45][0-9][0-9]", value):
            value = int(value)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    return None


def _page_text(body: bytes) -> str:
    """What a body that is not JSON says: its text, or its title when it is a web page."""
    text = body[: QUOTE * 20].decode(errors="replace")
    title = re.search(r"<title[^>]*>([^<]*)</title", text, re.I)
    return title.group(1) if title else text


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds that the server asks to wait, from `retry-after-ms` or `retry-after` (seconds or a date).

    A date is read against the server's own `date` header where it sent one, else against `now`. None without a
    usable header; never negative.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(seconds, 0.0)
    due = _http_date(headers.get("retry-after", ""))
    if due is None:
        return None
    return max((due - (_http_date(headers.get("date", "")) or now)).total_seconds(), 0.0)


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
