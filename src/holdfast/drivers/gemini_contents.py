"""Messages as Gemini's contents: what a user, the model and its tools said, in parts.

Each message is encoded by itself, and they are joined the way Gemini wants to be told: users and the model take turns,
and the results of a message's calls stand together right after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Raw

from holdfast.driver import Transcript
from holdfast.drivers.gemini_reply import ALONE, ANSWER, NEXT, PART, THOUGHT
from holdfast.drivers.tools import as_object
from holdfast.media import has_blob, in_words, inline
from holdfast.messages import Document, Image, Message, Native, Part, Text, Thinking, ToolCall, ToolResult

UNSIGNED = "skip_thought_signature_validator"
"""What Gemini wants to see on a call that it did not make itself, such as another model's."""

NO_WORDS = "(no words)"
"""What a user said before the model spoke, when that is not known: Gemini wants a user to begin."""

_TURNS = {"user": b']},{"role":"user","parts":[', "model": b']},{"role":"model","parts":['}
_SPEAKER = 12
"""Where in these the speakers differ."""
_USER = _TURNS["user"][_SPEAKER]
_SAME = len(_TURNS["user"])
_RESULT = _TURNS["user"] + b'{"functionResponse"'
_BEHIND = b"\n"
"""Stands before a result that has media, and between it and them: they go behind all results. No result has it."""
_SPLIT = (_BEHIND + _TURNS["user"])[_SPEAKER]
_LATER = b" "
"""Stands for a message with blobs, which come with each request."""
_NO_BLOBS: Mapping[str, bytes] = {}

_IN_RESULTS = frozenset({"image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain"})
"""What newer models take inside the result of a call."""
_TEXT_LIKE = frozenset(
    {"application/json", "application/xml", "application/yaml", "application/x-yaml", "application/toml"}
)
_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
    "gif": "image/gif",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "html": "text/html",
    "csv": "text/csv",
    "mp3": "audio/mp3",
    "wav": "audio/wav",
    "mp4": "video/mp4",
    "webm": "video/webm",
}
"""Media types by what an address ends with."""

Signing = Literal["wanted", "taken", "refused"]
"""What a model does with signatures: it wants every first call signed, takes its vendor's back, or refuses them."""
SIGNING: tuple[Signing, ...] = ("wanted", "taken", "refused")

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")
_ENCODER = msgspec.json.Encoder()
Entry = dict[str, Any] | Raw


class ContentEncoder:
    """Turns messages into contents for one kind of model.

    `vendor` says whose signatures and native parts may go back, `signing` whether to this model. One that wants calls
    to be signed takes media inside results, too.
    """

    def __init__(self, vendor: str, *, signing: Signing) -> None:
        self._vendor = vendor
        self._signing = signing
        self._modern = signing == "wanted"
        self._wire = f"gemini:{vendor}:{signing}"

    def contents(self, transcript: Transcript, blobs: Mapping[str, bytes]) -> bytes:
        """The contents, in brackets. Only new messages, and those with blobs, are encoded."""
        encoded = transcript.encoded(self._wire, self._early)
        if _LATER in encoded:
            encoded = [
                self._encode(transcript[place], blobs) if data == _LATER else data
                for place, data in enumerate(encoded)
            ]
        return _joined(encoded)

    def _early(self, message: Message) -> bytes:
        return _LATER if has_blob(message.content) else self._encode(message, _NO_BLOBS)

    def _encode(self, message: Message, blobs: Mapping[str, bytes]) -> bytes:
        """The message as a turn that the next one closes; nothing when there is nothing to say."""
        if message.role == "tool":
            return self._results(message.content, blobs)
        if message.role == "assistant":
            entries = self._models(message.content, blobs)
            return _TURNS["model"] + _ENCODER.encode(entries)[1:-1] if entries else b""
        said = [entry for part in message.content if (entry := _users(part, blobs)) is not None]
        return _TURNS["user"] + _ENCODER.encode(said)[1:-1] if said else b""

    def _models(self, parts: Iterable[Part], blobs: Mapping[str, bytes]) -> list[Entry]:
        entries: list[Entry] = []
        signature = ""
        called = False
        for part in parts:
            if isinstance(part, Thinking):
                where = self._own(part.provider)
                if where == NEXT:
                    signature = _flushed(signature, entries) or part.signature
                elif where and part.signature:
                    entries.append(_thought(part, where))
                continue
            entry = self._native(part) if isinstance(part, Native) else _said(part, blobs)
            if entry is None:
                continue
            if isinstance(part, ToolCall):
                if self._modern and not (called or signature):
                    signature = UNSIGNED
                called = True
            if isinstance(entry, Raw):  # it has its own signature
                signature = _flushed(signature, entries)
            elif signature:
                entry["thoughtSignature"] = signature
                signature = ""
            entries.append(entry)
        _flushed(signature, entries)
        return entries

    def _own(self, provider: str) -> str:
        """What a part of this vendor is; empty for another's, and where the model takes no signatures."""
        vendor, _, where = provider.rpartition("/")
        known = vendor == self._vendor and where in {THOUGHT, NEXT, ALONE, PART, ANSWER}
        return where if known and self._signing != "refused" else ""

    def _native(self, part: Native) -> Entry | None:
        where = self._own(part.provider)
        if where == PART:
            return Raw(part.data.encode())
        return {"text": part.text} if part.text and not where else None

    def _results(self, parts: Iterable[Part], blobs: Mapping[str, bytes]) -> bytes:
        results: list[Entry] = []
        behind: list[Entry] = []
        for part in parts:
            if isinstance(part, ToolResult):
                results.append({"functionResponse": self._response(part, behind, blobs)})
        if not results:
            return b""
        data = _TURNS["user"] + _ENCODER.encode(results)[1:-1]
        return _BEHIND + data + _BEHIND + b"," + _ENCODER.encode(behind)[1:-1] if behind else data

    def _response(
        self, result: ToolResult, behind: list[Entry], blobs: Mapping[str, bytes]
    ) -> dict[str, Any]:
        """The result; media that cannot be inside it are added to `behind`."""
        words: list[str] = []
        inside: list[Entry] = []
        for part in result.content:
            if isinstance(part, Text):
                words.append(part.text)
                continue
            media = _media(part, blobs)
            if media is None:
                words.append(in_words(part))
            elif self._modern and media.get("inlineData", {}).get("mimeType") in _IN_RESULTS:
                inside.append(media)
            else:
                words.append("[see below]")
                behind.append(media)
        response: dict[str, Any] = {
            "id": result.provider_id or result.call_id,
            "name": _name(result.name),
            "response": {"output" if result.status == "ok" else "error": "".join(words)},
        }
        if inside:
            response["parts"] = inside
        return response


def _joined(encoded: Iterable[bytes]) -> bytes:
    """The contents, in brackets. Each message opens a turn of its own; here those of one speaker become one."""
    out: list[bytes] = []
    behind = b""
    last = 0
    for data in encoded:
        if not data:
            continue
        speaker = data[_SPEAKER]
        if speaker == _SPLIT or behind:
            if behind and not data.lstrip(_BEHIND).startswith(_RESULT):
                out.append(behind)
                behind = b""
            if speaker == _SPLIT:
                _, data, media = data.split(_BEHIND)
                behind += media
                speaker = _USER
        if speaker == last:
            out.append(b"," + data[_SAME:] if speaker == _USER else b"," + data[_SAME + 1 :])
        else:
            out.append(data)
            last = speaker
    if not out or out[0][_SPEAKER] != _USER:
        out.insert(0, _TURNS["user"] + _ENCODER.encode({"text": NO_WORDS}))
    return b"".join((b"[", out[0][len(b"]},") :], *out[1:], behind, b"]}]"))


def _thought(part: Thinking, where: str) -> Entry:
    if where == THOUGHT:
        return {"text": part.text, "thought": True, "thoughtSignature": part.signature}
    return {"text": part.text, "thoughtSignature": part.signature}


def _flushed(signature: str, entries: list[Entry]) -> str:
    """A signature whose part is gone goes back by itself. Nothing is left of it."""
    if signature:
        entries.append({"text": "", "thoughtSignature": signature})
    return ""


def _name(name: str) -> str:
    """The name as Gemini takes it; what a model made up may be anything."""
    return name if _NAME.fullmatch(name) else "_" + re.sub(r"[^a-zA-Z0-9_.:-]", "_", name)[:100]


def _users(part: Part, blobs: Mapping[str, bytes]) -> Entry | None:
    if isinstance(part, Image | Document):
        return _media(part, blobs) or {"text": in_words(part)}
    return {"text": part.text} if isinstance(part, Text) and part.text else None


def _said(part: Part, blobs: Mapping[str, bytes]) -> Entry | None:
    """What the model said, other than thoughts and what only Gemini understands."""
    if isinstance(part, ToolCall):
        call = {
            "id": part.provider_id or part.id,
            "name": _name(part.name),
            "args": Raw(as_object(part.arguments).encode()),
        }
        return {"functionCall": call}
    return _users(part, blobs)


def _media(part: Image | Document, blobs: Mapping[str, bytes]) -> dict[str, Any] | None:
    """An image or document by its bytes or address; None when Gemini cannot be shown it."""
    if part.blob is None and part.url and not part.url.startswith("data:"):
        kind = _TYPES.get(part.url.partition("?")[0].rpartition(".")[2].lower())
        return {"fileData": {"mimeType": kind, "fileUri": part.url} if kind else {"fileUri": part.url}}
    found = inline(part, blobs)
    if found is None:
        return None
    kind = found.media_type
    if kind in _TEXT_LIKE or kind.endswith(("+json", "+yaml")):
        kind = "text/plain"
    if kind != "application/pdf" and not kind.startswith(("image/", "audio/", "video/", "text/")):
        return None
    return {"inlineData": {"mimeType": kind, "data": found.base64}}
