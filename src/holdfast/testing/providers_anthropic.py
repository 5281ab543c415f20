"""The fake's side of Anthropic Messages."""

from __future__ import annotations

from typing import Any, ClassVar

from holdfast.errors import DriverError
from holdfast.testing.providers_said import SIGNATURE, Asked, Piece, Told, event, given, status_of, text_of

_STOPS = {"tool_calls": "tool_use", "max_tokens": "max_tokens", "cut_off": "max_tokens", "refusal": "refusal"}
_TYPES = {
    "authentication": "authentication_error",
    "quota": "billing_error",
    "rate_limit": "rate_limit_error",
    "overloaded": "overloaded_error",
    "timeout": "timeout_error",
    "too_large": "request_too_large",
}
_STATUSES = {"overloaded": 529, "quota": 402}
_KINDS = {"thinking": "thinking", "text": "text", "call": "tool_use", "arguments": "tool_use"}


class AnthropicVoice:
    """Speaks as Anthropic's server does: blocks that start, grow and stop."""

    base: ClassVar[str] = ""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._open = ""
        """What kind of block is open."""
        self._at = -1
        """Which one it is."""

    @staticmethod
    def asked(path: str, headers: dict[str, str], body: dict[str, Any]) -> Asked | str:
        """What is wanted, or what is wrong with the request."""
        if path.partition("?")[0] != "/v1/messages":
            return "not found: POST to /v1/messages"
        if "anthropic-version" not in headers:
            return "anthropic-version: header is required"
        model, most = body.get("model"), body.get("max_tokens")
        if not isinstance(model, str) or not isinstance(body.get("messages"), list):
            return "model and messages: Field required"
        if not isinstance(most, int) or most < 1:
            return "max_tokens: Field required"
        return Asked(model=model, stream=body.get("stream") is True)

    @staticmethod
    def refusal(error: DriverError) -> tuple[int, dict[str, Any]]:
        """The status and the body that say this."""
        status = error.status or _STATUSES.get(error.kind) or status_of(error)
        return status, _complaint(error, status)

    def begin(self) -> list[bytes]:
        """The events before the first piece."""
        message = self._message([], None) | {"usage": self._usage() | {"output_tokens": 1}}
        return [_event("message_start", message=message), _event("ping")]

    def add(self, piece: Piece) -> list[bytes]:
        """The events that bring this piece."""
        kind, text, index = piece
        events = []
        if kind == "call" or _KINDS[kind] != self._open:
            events = [*self._close(), self._start(_KINDS[kind], index)]
        if kind == "thinking":
            events.append(self._delta(type="thinking_delta", thinking=text))
        elif kind == "text":
            events.append(self._delta(type="text_delta", text=text))
        elif kind == "arguments":
            events.append(self._delta(type="input_json_delta", partial_json=text))
        return events

    def end(self) -> list[bytes]:
        """The events after the last piece."""
        delta = {"stop_reason": self._stop, "stop_sequence": None}
        return [
            *self._close(),
            _event("message_delta", delta=delta, usage=self._usage()),
            _event("message_stop"),
        ]

    def complaint(self, error: DriverError) -> list[bytes]:
        """The failure inside a stream."""
        return [event(_complaint(error, status_of(error)), "error")]

    def whole(self) -> dict[str, Any]:
        """The answer that is not streamed."""
        step = self._told.step
        content: list[dict[str, Any]] = []
        if step.thinking:
            content.append({"type": "thinking", "thinking": step.thinking, "signature": SIGNATURE})
        if text_of(step):
            content.append({"type": "text", "text": text_of(step), "citations": None})
        for index, call in enumerate(step.calls):
            content.append(self._call(index) | {"input": given(call)})
        return self._message(content, self._stop)

    @property
    def _stop(self) -> str:
        return _STOPS.get(self._told.stop, "end_turn")

    def _message(self, content: list[dict[str, Any]], stop: str | None) -> dict[str, Any]:
        return {
            "id": f"msg_{self._told.number}",
            "type": "message",
            "role": "assistant",
            "model": self._told.asked.model,
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": self._usage(),
        }

    def _usage(self) -> dict[str, Any]:
        usage = self._told.step.usage
        counts: dict[str, Any] = {
            "input_tokens": usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens,
            "cache_creation_input_tokens": usage.cache_write_tokens,
            "cache_read_input_tokens": usage.cache_read_tokens,
            "output_tokens": usage.output_tokens,
        }
        if usage.reasoning_tokens:
            counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
        return counts

    def _call(self, index: int) -> dict[str, Any]:
        name = self._told.step.calls[index].name
        return {"type": "tool_use", "id": self._told.call_id(index), "name": name, "input": {}}

    def _start(self, kind: str, index: int) -> bytes:
        self._open = kind
        self._at += 1
        block: dict[str, Any] = {"type": "text", "text": ""}
        if kind == "thinking":
            block = {"type": "thinking", "thinking": "", "signature": ""}
        elif kind == "tool_use":
            block = self._call(index)
        return _event("content_block_start", index=self._at, content_block=block)

    def _delta(self, **delta: str) -> bytes:
        return _event("content_block_delta", index=self._at, delta=delta)

    def _close(self) -> list[bytes]:
        if not self._open:
            return []
        signed = [self._delta(type="signature_delta", signature=SIGNATURE)]
        events = signed if self._open == "thinking" else []
        self._open = ""
        return [*events, _event("content_block_stop", index=self._at)]


def _event(kind: str, **fields: Any) -> bytes:
    return event({"type": kind} | fields, kind)


def _complaint(error: DriverError, status: int) -> dict[str, Any]:
    kind = _TYPES.get(error.kind) or ("api_error" if status >= 500 else "invalid_request_error")
    why = " (output blocked by content filtering policy)" if error.kind == "content_policy" else ""
    return {
        "type": "error",
        "error": {"type": kind, "message": f"{error}{why}"},
        "request_id": "req_fake",
    }
