"""Damage: what recordings and fakes say, and a great many ways to spoil it. A seed decides which."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

from holdfast.drivers.sim import Step, call, calls, say
from holdfast.messages import Usage
from holdfast.testing.providers_anthropic import AnthropicVoice
from holdfast.testing.providers_gemini import GeminiVoice
from holdfast.testing.providers_openai import ResponsesVoice
from holdfast.testing.providers_openai_chat import ChatVoice
from holdfast.testing.providers_said import Asked, Told, Voice
from tests.conftest import shared_fixtures

PLACES = {
    "anthropic": ("anthropic", AnthropicVoice),
    "gemini": ("gemini", GeminiVoice),
    "openai": ("openai-responses", ResponsesVoice),
    "openai-chat": ("openai-chat", ChatVoice),
}
MOST = 64 * 2**10
"""Bytes of a recording; longer ones are left out, for speed."""
STEPS: tuple[Step, ...] = (
    say("Hello there."),
    say("a\u2028b \U0001f600", thinking="Well.", usage=Usage(input_tokens=9, output_tokens=2)),
    calls(("add", {"a": 1, "b": [2, {"c": None}]}), ("add", {}), text="I add."),
    call("now"),
    say("No.", stop="refusal"),
)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, 2**63, 2**64, -(2**70), 1e308, 0.5, "", "x", "error", "0", "\u2028", "\0",
    [], {}, [None], [[]], [{}], {"type": None}, {"type": "error"}, "tool_use", "[DONE]", "stop", "é" * 99,
)  # fmt: skip
TOKENS = (
    b"\n", b"\r", b"\r\n", b"\n\n", b"data:", b"data: ", b"data", b"event: error\n", b"\0", b"\xff\xfe", b"\xc3", b'"',
    b"\\ud83d", b"\\ude00", b"\\u0000", b"{", b"}", b"[", b"]", b"null", b"NaN", b"1e999", b"-Infinity", b"[DONE]",
    b"data: [DONE]\n\n", b"data: {}\n\n", b"data: []\n\n", b"data: null\n\n", b"\xef\xbb\xbf", b"\xe2\x80\xa8",
    b"data: " + b"[" * 5_000 + b"\n\n", b"[" * 3_000, b'{"a":' * 3_000, b"9" * 5_000, b": hm\n\n", b"id: 1\nretry: 0\n",
)  # fmt: skip


@cache
def streams(protocol: str) -> tuple[bytes, ...]:
    """What servers have streamed."""
    place, voice = PLACES[protocol]
    spoken = [b"".join(_spoken(voice, step)) for step in STEPS]
    return (*spoken, *[body for body in _recorded(place, "text/event-stream") if len(body) <= MOST])


@cache
def bodies(protocol: str) -> tuple[bytes, ...]:
    """What servers have said that do not stream."""
    place, voice = PLACES[protocol]
    spoken = [json.dumps(voice(_told(step)).whole()).encode() for step in STEPS]
    return (*spoken, *[body for body in _recorded(place, "application/json") if len(body) <= MOST])


def _told(step: Step) -> Told:
    return Told(step=step, asked=Asked(model="m", stream=True), number=1)


def _spoken(voice: type[Voice], step: Step) -> list[bytes]:
    told = _told(step)
    speaker = voice(told)
    return [*speaker.begin(), *[it for piece in told.pieces() for it in speaker.add(piece)], *speaker.end()]


def _recorded(place: str, kind: str) -> list[bytes]:
    try:
        folder: Path = shared_fixtures() / "cassettes" / place
    except pytest.skip.Exception:
        return []
    found = []
    for path in sorted(folder.glob("*.json")):
        for interaction in json.loads(path.read_bytes())["interactions"]:
            response = interaction["response"]
            if response["content_type"].startswith(kind):
                body = response["body"]
                found.append((body if isinstance(body, str) else json.dumps(body)).encode())
    return found


def spoiled(data: bytes, other: bytes, random: Random) -> bytes:
    """The same with a few things wrong; `other` is where strange parts come from."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        data = random.choice((_value, _value, _value, _byte, _token, _cut, _lines, _splice, _repeat))(
            data, other, random
        )
    return data[: 4 * MOST]


def split(data: bytes, random: Random) -> list[bytes]:
    """The same in pieces, however small."""
    most = random.choice((1, 3, 40, 1_000, len(data) + 1))
    pieces, at = [], 0
    while at < len(data):
        size = random.randint(1, max(most, len(data) // 500))
        pieces.append(data[at : at + size])
        at += size
    return pieces


def _value(data: bytes, other: bytes, random: Random) -> bytes:
    """A value in one of the JSON texts becomes another, goes, or is there twice."""
    lines = data.split(b"\n")
    places = [at for at, line in enumerate(lines) if b"{" in line]
    if not places:
        return data
    at = random.choice(places)
    head, brace, text = lines[at].partition(b"{")
    try:
        root = json.loads(brace + text)
    except (ValueError, RecursionError):
        return data
    holders = list(_holders(root))
    if not holders:
        return data
    holder = random.choice(holders)
    key = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    kind = random.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[random.choice(("error", "type", "index", "id", "text", "delta", "choices"))] = holder[key]
    elif kind == 2 and isinstance(holder, list):
        holder.append(holder[key])
    else:
        holder[key] = random.choice(VALUES)
    lines[at] = head + json.dumps(root, ensure_ascii=random.random() < 0.5).encode(errors="replace")
    return b"\n".join(lines)


def _holders(value: Any) -> Any:
    """Every object and list in it that holds something."""
    waiting = [value]
    while waiting:
        it = waiting.pop()
        if isinstance(it, dict | list) and it:
            yield it
            waiting += it.values() if isinstance(it, dict) else it


def _byte(data: bytes, other: bytes, random: Random) -> bytes:
    spoilt = bytearray(data or b"x")
    for _ in range(random.choice((1, 1, 2, 8))):
        spoilt[random.randrange(len(spoilt))] = random.randrange(256)
    return bytes(spoilt)


def _token(data: bytes, other: bytes, random: Random) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.choice(TOKENS) + data[at + random.choice((0, 0, 1, 9)) :]


def _cut(data: bytes, other: bytes, random: Random) -> bytes:
    start, end = sorted(random.randint(0, len(data)) for _ in range(2))
    return data[:start] + data[end:] if random.random() < 0.5 else data[:end]


def _lines(data: bytes, other: bytes, random: Random) -> bytes:
    """Events change places."""
    events = data.split(b"\n\n")
    at, to = random.randrange(len(events)), random.randrange(len(events))
    events[at], events[to] = events[to], events[at]
    if random.random() < 0.5:
        del events[at]
    return b"\n\n".join(events)


def _splice(data: bytes, other: bytes, random: Random) -> bytes:
    """Something of another answer."""
    events = other.split(b"\n\n")
    at = random.randrange(len(events))
    ours = data.split(b"\n\n")
    to = random.randint(0, len(ours))
    return b"\n\n".join([*ours[:to], *events[at : at + random.randint(1, 4)], *ours[to:]])


def _repeat(data: bytes, other: bytes, random: Random) -> bytes:
    events = data.split(b"\n\n")
    at = random.randrange(len(events))
    return b"\n\n".join(events[:at] + [events[at]] * random.choice((2, 3, 30)) + events[at + 1 :])
