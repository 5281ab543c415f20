"""The fake's side of OpenAI Responses."""

from __future__ import annotations

from typing import Any, ClassVar

from holdfast.errors import DriverError
from holdfast.testing.providers_openai_chat import complaint_of
from holdfast.testing.providers_said import (
    CREATED,
    SIGNATURE,
    Asked,
    Piece,
    Told,
    event,
    status_of,
    text_of,
)

_CUT = {"max_tokens": "max_output_tokens", "cut_off": "max_output_tokens"}
_KINDS = {"thinking": "reasoning", "text": "message", "call": "function_call", "arguments": "function_call"}


class ResponsesVoice:
    """Speaks as OpenAI's server does: items that are added, grow and are done."""

    base: ClassVar[str] = "/v1"

    def __init__(self, told: Told) -> None:
        self._told = told
        self._sent = 0
        self._items: list[dict[str, Any]] = []
        """Finished items."""
        self._open = ""
        """What kind of item is open."""

    @staticmethod
    def asked(path: str, headers: dict[str, str], body: dict[str, Any]) -> Asked | str:
        """What is wanted, or what is wrong with the request."""
        if not path.partition("?")[0].endswith("/responses"):
            return "not found: POST to /v1/responses"
        model = body.get("model")
        if not isinstance(model, str) or not isinstance(body.get("input"), list | str):
            return "model and input are required"
        return Asked(model=model, stream=body.get("stream") is True)

    @staticmethod
    def refusal(error: DriverError) -> tuple[int, dict[str, Any]]:
        """The status and the body that say this."""
        status = 400 if error.kind == "too_large" and not error.status else status_of(error)
        return status, {"error": complaint_of(error)}

    def begin(self) -> list[bytes]:
        """The events before the first piece."""
        return [
            self._event(f"response.{kind}", response=self._response("in_progress"))
            for kind in ("created", "in_progress")
        ]

    def add(self, piece: Piece) -> list[bytes]:
        """The events that bring this piece."""
        kind, text, index = piece
        events = []
        if kind == "call" or _KINDS[kind] != self._open:
            events = [*self._close(), *self._begin_item(_KINDS[kind], index)]
        if kind == "thinking":
            events.append(self._grow("reasoning_summary_text", text, summary_index=0))
        elif kind == "text":
            events.append(self._grow("refusal" if self._refused else "output_text", text, **self._where()))
        elif kind == "arguments":
            events.append(self._grow("function_call_arguments", text))
        return events

    def end(self) -> list[bytes]:
        """The events after the last piece."""
        events = self._close()
        status = "incomplete" if self._told.stop in _CUT else "completed"
        return [*events, self._event(f"response.{status}", response=self._response(status))]

    def complaint(self, error: DriverError) -> list[bytes]:
        """The failure inside a stream."""
        said = complaint_of(error)
        return [self._event("error", code=said["code"], message=said["message"], param=None)]

    def whole(self) -> dict[str, Any]:
        """The answer that is not streamed."""
        step = self._told.step
        if step.thinking:
            self._items.append(self._item("reasoning", 0))
        if text_of(step):
            self._items.append(self._item("message", 0))
        self._items += [self._item("function_call", index) for index in range(len(step.calls))]
        return self._response("incomplete" if self._told.stop in _CUT else "completed")

    @property
    def _refused(self) -> bool:
        return self._told.stop == "refusal"

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = {"type": kind, "sequence_number": self._sent} | fields
        self._sent += 1
        return event(data, kind)

    def _where(self) -> dict[str, Any]:
        return {"content_index": 0} if self._refused else {"content_index": 0, "logprobs": []}

    def _grow(self, kind: str, text: str, **where: Any) -> bytes:
        return self._of_item(f"response.{kind}.delta", delta=text, **where)

    def _of_item(self, kind: str, **fields: Any) -> bytes:
        return self._event(kind, item_id=self._id(), output_index=len(self._items), **fields)

    def _id(self, index: int | None = None) -> str:
        return f"item_{self._told.number}_{len(self._items) if index is None else index}"

    def _begin_item(self, kind: str, index: int) -> list[bytes]:
        self._open, self._index = kind, index
        item = self._item(kind, index)
        empty: dict[str, dict[str, Any]] = {
            "message": {"content": []},
            "reasoning": {"summary": []},
            "function_call": {"arguments": ""},
        }
        begun = item | empty[kind] | {"status": "in_progress"}
        events = [self._event("response.output_item.added", output_index=len(self._items), item=begun)]
        if kind == "message":
            part = item["content"][0]
            blank = part | ({"refusal": ""} if self._refused else {"text": ""})
            events.append(self._of_item("response.content_part.added", content_index=0, part=blank))
        if kind == "reasoning":
            events.append(
                self._of_item(
                    "response.reasoning_summary_part.added",
                    summary_index=0,
                    part=item["summary"][0] | {"text": ""},
                )
            )
        return events

    def _close(self) -> list[bytes]:
        """The events that end the open item, and the item among the finished ones."""
        if not self._open:
            return []
        item = self._item(self._open, self._index)
        if self._open == "message":
            part = item["content"][0]
            kind = "refusal" if self._refused else "output_text"
            text = {"refusal": part["refusal"]} if self._refused else {"text": part["text"]}
            events = [
                self._of_item(f"response.{kind}.done", **text, **self._where()),
                self._of_item("response.content_part.done", content_index=0, part=part),
            ]
        elif self._open == "reasoning":
            part = item["summary"][0]
            events = [
                self._of_item("response.reasoning_summary_text.done", summary_index=0, text=part["text"]),
                self._of_item("response.reasoning_summary_part.done", summary_index=0, part=part),
            ]
        else:
            done = {"name": item["name"], "arguments": item["arguments"]}
            events = [self._of_item("response.function_call_arguments.done", **done)]
        events.append(self._event("response.output_item.done", output_index=len(self._items), item=item))
        self._items.append(item)
        self._open = ""
        return events

    def _item(self, kind: str, index: int) -> dict[str, Any]:
        step = self._told.step
        head: dict[str, Any] = {"id": self._id(), "type": kind, "status": "completed"}
        if kind == "reasoning":
            summary = [{"type": "summary_text", "text": step.thinking}]
            return head | {"summary": summary, "encrypted_content": SIGNATURE}
        if kind == "message":
            said: dict[str, Any] = {"type": "refusal", "refusal": text_of(step)}
            if not self._refused:
                said = {"type": "output_text", "text": text_of(step), "annotations": [], "logprobs": []}
            return head | {"role": "assistant", "content": [said]}
        call = step.calls[index]
        return head | {
            "call_id": self._told.call_id(index),
            "name": call.name,
            "arguments": call.arguments,
        }

    def _response(self, status: str) -> dict[str, Any]:
        over = status != "in_progress"
        reason = _CUT.get(self._told.stop)
        return {
            "id": f"resp_{self._told.number}",
            "object": "response",
            "created_at": CREATED,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": reason} if over and reason else None,
            "instructions": None,
            "max_output_tokens": None,
            "model": self._told.asked.model,
            "output": list(self._items),
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "store": False,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": self._usage() if over else None,
            "metadata": {},
        }

    def _usage(self) -> dict[str, Any]:
        usage = self._told.step.usage
        cached = {"cached_tokens": usage.cache_read_tokens, "cache_write_tokens": usage.cache_write_tokens}
        return {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": cached,
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": usage.input_tokens + usage.output_tokens,
        }
