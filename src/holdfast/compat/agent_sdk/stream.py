"""Pieces of a stream, and rules that watch for words in them. Neither what streams nor what matched is ever written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from msgspec import Struct

from holdfast.compat.agent_sdk.canonical import Wire
from holdfast.errors import UsageError
from holdfast.store import digest_of

Channel = Literal[
    "assistant_text", "reasoning_summary", "provider_exposed_reasoning", "tool_call_arguments", "tool_result_text",
    "realtime_transcript", "realtime_media", "hidden_chain_of_thought",
]  # fmt: skip
Action = Literal["stop_run", "abort_and_retry", "pause_for_approval", "mask_and_continue", "emit_only"]

MAX_WINDOW = 65_536
"""Bytes of a stream that a rule can look back on."""


class DeltaRecord(Wire, frozen=True, kw_only=True):
    """A piece of a stream, as it is written."""

    channel: Channel
    cursor: str
    privacy: str
    byte_length: int


class Delta(Struct, frozen=True, kw_only=True):
    """A piece of a stream. Its text is for matching only; its repr does not show it."""

    channel: Channel
    cursor: str
    text: str
    secret: bool = False

    def record(self) -> DeltaRecord:
        """What is written of it."""
        privacy = "secret" if self.secret else "content_refs_only"
        size = len(self.text.encode())
        return DeltaRecord(channel=self.channel, cursor=self.cursor, privacy=privacy, byte_length=size)

    def __repr__(self) -> str:
        return f"Delta({self.channel}, redacted)"


class Intervention(Wire, frozen=True, kw_only=True):
    """A rule matched: where, how much, and what is to be done. Not what."""

    rule_id: str
    action: Action
    channel: Channel
    cursor: str
    match_sha256: str
    match_byte_length: int
    redacted_summary: str


@dataclass
class LiteralRule:
    """Watches for a text, also when it comes in pieces. Hidden thoughts and secrets cannot be watched.

    Raises `UsageError` for a text or a window that cannot match.
    """

    rule_id: str
    text: str
    action: Action
    channels: tuple[Channel, ...]
    window: int = 4_096
    case_sensitive: bool = True
    _buffers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.text or not self.channels:
            raise UsageError(f"stream rule {self.rule_id!r} needs a text and a channel")
        if not len(self.text.encode()) <= self.window <= MAX_WINDOW:
            raise UsageError(
                f"stream rule {self.rule_id!r}: the window has 1 to {MAX_WINDOW} bytes, and room for its text"
            )

    def feed(self, delta: Delta) -> list[Intervention]:
        """Look at one more piece; what is to be done, once for each time that the text has come."""
        if delta.secret or delta.channel == "hidden_chain_of_thought" or delta.channel not in self.channels:
            return []
        seen, found = self._buffers.get(delta.channel, "") + delta.text, []
        while (at := self._find(seen)) >= 0:
            found.append(self._matched(delta, seen[at : at + len(self.text)]))
            seen = seen[at + len(self.text) :]
        self._buffers[delta.channel] = _last_bytes(seen, self.window)
        return found

    def _find(self, seen: str) -> int:
        if self.case_sensitive:
            return seen.find(self.text)
        return _lower(seen).find(_lower(self.text))

    def _matched(self, delta: Delta, words: str) -> Intervention:
        body = words.encode()
        return Intervention(
            rule_id=self.rule_id,
            action=self.action,
            channel=delta.channel,
            cursor=delta.cursor,
            match_sha256=digest_of(body),
            match_byte_length=len(body),
            redacted_summary=f"stream rule matched {len(body)} bytes",
        )


def _lower(text: str) -> str:
    """In small letters, each in its place: a letter that would become two stays as it is."""
    return "".join(small if len(small := it.lower()) == 1 else it for it in text)


def _last_bytes(text: str, limit: int) -> str:
    """The end of a text, of at most so many bytes, cut between characters."""
    return text.encode()[-limit:].decode(errors="ignore")
