"""The fake's side of Gemini's `generateContent`."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from holdfast.errors import DriverError
from holdfast.testing.providers_said import SIGNATURE, Asked, Piece, Told, event, given, status_of, text_of

_PATH = re.compile(r"/v1(?:beta|alpha)?/models/(.+):(generateContent|streamGenerateContent)(?:\?(.*))?")
_STOPS = {"max_tokens": "MAX_TOKENS", "cut_off": "MAX_TOKENS", "refusal": "SAFETY"}
_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_PER_DAY = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}


class GeminiVoice:
    """Speaks as Google's server does: every event is a response of its own, and a call comes in one piece."""

    base: ClassVar[str] = "/v1beta"

    def __init__(self, told: Told) -> None:
        self._told = told

    @staticmethod
    def asked(path: str, headers: dict[str, str], body: dict[str, Any]) -> Asked | str:
        """What is wanted, or what is wrong with the request."""
        found = _PATH.fullmatch(path)
        if found is None:
            return "not found: POST to /v1beta/models/{model}:generateContent"
        if not isinstance(body.get("contents"), list):
            return "contents is not specified"
        stream = found[2] == "streamGenerateContent"
        if stream and "alt=sse" not in (found[3] or ""):
            return "this fake streams server-sent events only: add alt=sse"
        return Asked(model=found[1], stream=stream)

    @staticmethod
    def refusal(error: DriverError) -> tuple[int, dict[str, Any]]:
        """The status and the body that say this."""
        if error.kind == "content_policy" and not error.status:
            return 200, _blocked(error)
        status = 400 if error.kind == "too_large" and not error.status else status_of(error)
        return status, {"error": _complaint(error, status)}

    def begin(self) -> list[bytes]:
        """The events before the first piece."""
        return []

    def add(self, piece: Piece) -> list[bytes]:
        """The events that bring this piece."""
        kind, text, index = piece
        if kind == "arguments" or (kind == "call" and self._malformed):
            return []
        if kind == "call":
            return [event(self._response([self._call(index)]))]
        if kind == "text" and self._told.stop == "refusal":
            return []
        return [event(self._response([_text(text, kind == "thinking")]))]

    def end(self) -> list[bytes]:
        """The events after the last piece."""
        return [event(self._response([{"text": ""}], self._finish))]

    def complaint(self, error: DriverError) -> list[bytes]:
        """The failure inside a stream."""
        return [event(self.refusal(error)[1])]

    def whole(self) -> dict[str, Any]:
        """The answer that is not streamed."""
        step = self._told.step
        parts = [_text(step.thinking, True)] if step.thinking else []
        if text_of(step) and self._told.stop != "refusal":
            parts.append(_text(text_of(step), False))
        if not self._malformed:
            parts += [self._call(index) for index in range(len(step.calls))]
        return self._response(parts, self._finish)

    @property
    def _malformed(self) -> bool:
        """Whether there are arguments that are no JSON object: Gemini keeps these to itself."""
        return any(not isinstance(given(call), dict) for call in self._told.step.calls)

    @property
    def _finish(self) -> str:
        return "MALFORMED_FUNCTION_CALL" if self._malformed else _STOPS.get(self._told.stop, "STOP")

    def _call(self, index: int) -> dict[str, Any]:
        call = self._told.step.calls[index]
        wanted: dict[str, Any] = {"name": call.name, "args": given(call)}
        if call_id := self._told.call_id(index):
            wanted["id"] = call_id
        part: dict[str, Any] = {"functionCall": wanted}
        if index == 0 and self._told.step.thinking:
            part["thoughtSignature"] = SIGNATURE
        return part

    def _response(self, parts: list[dict[str, Any]], finish: str = "") -> dict[str, Any]:
        candidate: dict[str, Any] = {"index": 0}
        if finish not in ("SAFETY", "MALFORMED_FUNCTION_CALL"):
            candidate["content"] = {"parts": parts, "role": "model"}
        if finish:
            candidate["finishReason"] = finish
        return {
            "candidates": [candidate],
            "usageMetadata": self._usage(),
            "modelVersion": self._told.asked.model,
            "responseId": f"response-{self._told.number}",
        }

    def _usage(self) -> dict[str, Any]:
        usage = self._told.step.usage
        counts = {
            "promptTokenCount": usage.input_tokens,
            "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
            "totalTokenCount": usage.input_tokens + usage.output_tokens,
        }
        if usage.cache_read_tokens:
            counts["cachedContentTokenCount"] = usage.cache_read_tokens
        if usage.reasoning_tokens:
            counts["thoughtsTokenCount"] = usage.reasoning_tokens
        return counts


def _text(text: str, thought: bool) -> dict[str, Any]:
    return {"text": text, "thought": True} if thought else {"text": text}


def _blocked(error: DriverError) -> dict[str, Any]:
    """A prompt that was refused is an answer without candidates."""
    return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": str(error)}}


def _complaint(error: DriverError, status: int) -> dict[str, Any]:
    said: dict[str, Any] = {
        "code": status,
        "message": str(error),
        "status": _NAMES.get(status, "INTERNAL"),
    }
    details: list[dict[str, Any]] = []
    if error.retry_after is not None:
        wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{error.retry_after:g}s"}
        details.append(wait)
    if error.kind == "quota":
        details.append({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [_PER_DAY]})
    if error.kind == "too_large":
        said["message"] += " (the input token count exceeds the maximum)"
    return said | ({"details": details} if details else {})
