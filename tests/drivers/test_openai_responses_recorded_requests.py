"""Recorded Responses requests, taken apart into our messages and built again by our driver."""

import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.driver import Reply, Request, Transcript
from holdfast.drivers.failures import Peer
from holdfast.drivers.openai import OpenAI
from holdfast.drivers.openai_reply import ReplyAssembler
from tests.drivers.recorded_openai import FILES, NOTHING, driver_for, item_meaning, meaning, rebuilt

EXCHANGES = [
    pytest.param(path, place, id=f"{path.stem}-{place}")
    for path in FILES
    for place, exchange in enumerate(json.loads(path.read_bytes())["interactions"])
    if exchange["request"]["uri"].endswith("/responses")
]


@pytest.mark.parametrize(("path", "place"), EXCHANGES)
def test_a_recorded_request_is_rebuilt_with_the_same_meaning(path: Path, place: int) -> None:
    body = json.loads(path.read_bytes())["interactions"][place]["request"]["body"]
    ours = json.loads(driver_for(body).encode(rebuilt(body)))
    assert meaning(ours) == meaning(body)


@pytest.mark.parametrize(("path", "place"), EXCHANGES)
def test_encrypted_reasoning_is_asked_for_where_the_recorded_client_did(path: Path, place: int) -> None:
    body = json.loads(path.read_bytes())["interactions"][place]["request"]["body"]
    if path.stem.partition("__")[2] in {
        "test_openai_previous_response_id_auto_mode",
        "test_reasoning_model_with_temperature",
    }:
        return  # recorded before that client asked for it
    asked = "reasoning.encrypted_content" in body.get("include", ())
    ours = json.loads(driver_for(body).encode(rebuilt(body))).get("include", [])
    assert ours == body.get("include", [])
    assert bool(ours) is asked


def test_what_was_answered_is_sent_back_as_the_recorded_client_sent_it_back() -> None:
    """Our reply to each recorded answer, put into the next request of the same recording."""
    replayed = 0
    for path in FILES:
        exchanges = [
            exchange
            for exchange in json.loads(path.read_bytes())["interactions"]
            if exchange["request"]["uri"].endswith("/responses")
        ]
        for first, second in itertools.pairwise(exchanges):
            asked, then = first["request"]["body"]["input"], second["request"]["body"]["input"]
            if then[: len(asked)] != asked or len(then) == len(asked):
                continue
            answer = read(first["response"])
            ours = OpenAI().encode(
                Request(model=second["request"]["body"]["model"], messages=Transcript([answer.message]))
            )
            sent = numbered(json.loads(ours)["input"])
            back = numbered([item for item in then[len(asked) :] if item_meaning(item) != NOTHING])
            assert sent == back[: len(sent)], path.stem
            replayed += 1
    assert replayed >= 10


def numbered(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items with calls by number: one recorded client took a call's item id for its call id, there and back."""
    ids: dict[str, str] = {}
    return [
        item_meaning(item)
        | ({"call_id": ids.setdefault(item["call_id"], f"{len(ids)}")} if "call_id" in item else {})
        for item in items
    ]


def read(response: dict[str, Any]) -> Reply:
    assembler = ReplyAssembler("openai", Peer("example.com"), lambda *_: None)
    if isinstance(response["body"], str):
        for line in response["body"].splitlines():
            if line.startswith("data: "):
                assembler.feed(line[6:].encode())
    else:
        assembler.whole(json.dumps(response["body"]).encode(), "application/json")
    return assembler.reply()


def test_the_normaliser_sees_what_matters() -> None:
    body = {"model": "m", "input": [{"role": "user", "content": "hi"}], "stream": False}
    for change in (
        {"model": "n"},
        {"input": [{"role": "user", "content": "ho"}]},
        {"instructions": "x"},
        {"tools": [{"type": "web_search"}]},
        {"reasoning": {"effort": "low"}},
        {"text": {"format": {"type": "json_schema"}}},
        {"previous_response_id": "r"},
        {"stream": True},
    ):
        assert meaning(body | change) != meaning(msgspec.json.decode(json.dumps(body)))
