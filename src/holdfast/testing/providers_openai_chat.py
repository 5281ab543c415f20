"""The fake's side of Chat Completions."""

from __future__ import annotations

from typing import Any, ClassVar

from holdfast.errors import DriverError
from holdfast.testing.providers_said import CREATED, Asked, Piece, Told, event, status_of, text_of

_STOPS = {"tool_calls": "tool_calls", "max_tokens": "length", "cut_off": "length"}
_CODES = {
    "authentication": "invalid_api_key",
    "quota": "insufficient_quota",
    "rate_limit": "rate_limit_exceeded",
    "overloaded": "server_is_overloaded",
    "too_large": "context_length_exceeded",
    "content_policy": "content_policy_violation",
    "server_error": "server_error",
}


def complaint_of(error: DriverError) -> dict[str, Any]:
    """The error object of OpenAI's protocols."""
    kind = "server_error" if status_of(error) >= 500 else "invalid_request_error"
    return {"message": str(error), "type": kind, "param": None, "code": _CODES.get(error.kind)}


class ChatVoice:
    """Speaks as OpenAI's server does; thinking is in `reasoning_content`, as with those that show it."""

    base: ClassVar[str] = "/v1"

    def __init__(self, told: Told) -> None:
        self._told = told

    @staticmethod
    def asked(path: str, headers: dict[str, str], body: dict[str, Any]) -> Asked | str:
        """What is wanted, or what is wrong with the request."""
        if not path.partition("?")[0].endswith("/chat/completions"):
            return "not found: POST to /v1/chat/completions"
        model, messages = body.get("model"), body.get("messages")
        if not isinstance(model, str) or not isinstance(messages, list):
            return "model and messages are required"
        options = body.get("stream_options") or {}
        return Asked(model=model, stream=body.get("stream") is True, usage=bool(options.get("include_usage")))

    @staticmethod
    def refusal(error: DriverError) -> tuple[int, dict[str, Any]]:
        """The status and the body that say this."""
        status = 400 if error.kind == "too_large" and not error.status else status_of(error)
        return status, {"error": complaint_of(error)}

    def begin(self) -> list[bytes]:
        """The events before the first piece."""
        return [self._chunk({"role": "assistant", "content": ""})]

    def add(self, piece: Piece) -> list[bytes]:
        """The events that bring this piece."""
        kind, text, index = piece
        if kind == "thinking":
            return [self._chunk({"reasoning_content": text})]
        if kind == "text":
            return [self._chunk({"refusal" if self._refused else "content": text})]
        if kind == "call":
            return [self._chunk({"tool_calls": [self._call(index, "") | {"index": index}]})]
        return [self._chunk({"tool_calls": [{"index": index, "function": {"arguments": text}}]})]

    def end(self) -> list[bytes]:
        """The events after the last piece."""
        events = [self._chunk({}, self._finish)]
        if self._told.asked.usage:
            events.append(event(self._head("chat.completion.chunk") | {"choices": [], "usage": self._usage}))
        return [*events, b"data: [DONE]\n\n"]

    def complaint(self, error: DriverError) -> list[bytes]:
        """The failure inside a stream."""
        return [event({"error": complaint_of(error)})]

    def whole(self) -> dict[str, Any]:
        """The answer that is not streamed."""
        step = self._told.step
        text = text_of(step) or None
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if self._refused:
            message |= {"content": None, "refusal": text}
        if step.thinking:
            message["reasoning_content"] = step.thinking
        if step.calls:
            calls = [self._call(index, call.arguments) for index, call in enumerate(step.calls)]
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish}
        return self._head("chat.completion") | {"choices": [choice], "usage": self._usage}

    @property
    def _refused(self) -> bool:
        return self._told.stop == "refusal"

    @property
    def _finish(self) -> str:
        return _STOPS.get(self._told.stop, "stop")

    @property
    def _usage(self) -> dict[str, Any]:
        usage = self._told.step.usage
        return {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        }

    def _head(self, kind: str) -> dict[str, Any]:
        told = self._told
        return {
            "id": f"chatcmpl-{told.number}",
            "object": kind,
            "created": CREATED,
            "model": told.asked.model,
        }

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event(self._head("chat.completion.chunk") | {"choices": [choice]})

    def _call(self, index: int, arguments: str) -> dict[str, Any]:
        function = {"name": self._told.step.calls[index].name, "arguments": arguments}
        return {"id": self._told.call_id(index), "type": "function", "function": function}
