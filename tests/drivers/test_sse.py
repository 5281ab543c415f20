"""Server-sent events survive every way in which a network may cut them."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.driver import DeltaKind, Reply
from holdfast.drivers.failures import Peer
from holdfast.drivers.openai_chat_reply import ReplyAssembler
from holdfast.drivers.sse import EventSplitter
from holdfast.errors import DriverError

PEER = Peer("example.com")


def events(*chunks: bytes) -> list[bytes]:
    splitter = EventSplitter(PEER)
    return [event for chunk in chunks for event in splitter.feed(chunk)] + splitter.end()


def cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(edges)]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\ndata\ndata: b\n\n", [b"a\n\nb"]),
        (b": a comment\n\ndata: a\n: another\n\n", [b"a"]),
        (b"event: ping\nid: 7\nretry: 10\n\ndata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\n\n\n\n\ndata: b\n\n", [b"a", b"b"]),
        ("data: one\u2028two\u2029\x85\x0b\x0c\n\n".encode(), ["one\u2028two\u2029\x85\x0b\x0c".encode()]),
        (b"data: the last line lacks its end", [b"the last line lacks its end"]),
        (b"data: a\n", [b"a"]),
        (b"database: x\n\n", []),
        (b"", []),
        (b"\n\n", []),
        (b"data: \n\n", [b""]),
    ],
)
def test_a_stream_is_cut_into_events_at_cr_lf_and_crlf_and_nowhere_else(
    body: bytes, found: list[bytes]
) -> None:
    assert events(body) == found
    assert events(*[body[at : at + 1] for at in range(len(body))]) == found


LINES = st.sampled_from(
    [
        b"data: x",
        b"data:y",
        b"data",
        b": note",
        b"event: e",
        b"",
        b"",
        b"data: \xe2\x80\xa8",
        b"junk",
        b"\xef\xbb\xbfdata: z",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])


@given(st.lists(st.tuples(LINES, ENDS), max_size=12), st.lists(st.integers(0, 10_000), max_size=8))
def test_any_split_of_any_lines_gives_the_same_events(
    lines: list[tuple[bytes, bytes]], places: list[int]
) -> None:
    body = b"".join(line + end for line, end in lines)
    assert events(*cut(body, places)) == events(body)


@pytest.mark.parametrize(
    "piece", [b"data: " + b"x" * 50, b"data: xxxxxxxxxx\n", b"data\n", b": xxxxxxxxxxxxxx"]
)
def test_an_event_that_never_ends_is_refused_when_it_grows_too_large(piece: bytes) -> None:
    splitter = EventSplitter(PEER, limit=200)

    def feed_on() -> None:
        for _ in range(100):
            splitter.feed(piece)

    with pytest.raises(DriverError, match="more than 200 bytes") as caught:
        feed_on()
    assert caught.value.kind == "broken_stream"


def test_an_event_beside_a_byte_order_mark_is_read_the_same_in_one_piece_and_in_two() -> None:
    first, second = b"data: x\n\n", b"\xef\xbb\xbfdata: z\n\n"
    assert events(first, second) == events(first + second) == [b"x"]


def test_a_stream_of_small_events_may_be_far_larger_than_one_event() -> None:
    splitter = EventSplitter(PEER, limit=200)
    assert sum(len(splitter.feed(b"data: xxxxxxxx\n\n: comment\n")) for _ in range(1000)) == 1000


# -- the same property for a whole reply


def chunk(delta: dict[str, object], finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = json.dumps({"id": "c1", "model": "m1", "choices": [choice]} | more, ensure_ascii=False)
    return body.encode()


STREAM = b"".join(
    (
        b": keep-alive\r\n\r\n",
        b"data: " + chunk({"role": "assistant", "content": ""}) + b"\n\n",
        b"data:" + chunk({"reasoning_content": "größer \U0001f914"}) + b"\r\n\r\n",
        b"data: " + chunk({"content": "one\u2028two \u2029 \x85 "}) + b"\r\r",
        b"event: message\ndata: " + chunk({"content": "日本語 \U0001f600"}) + b"\n\n",
        b"data: "
        + chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]})
        + b"\n\n",
        b"data: "
        + chunk({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": '{"x":'}}]}),
        b"\n\ndata: " + chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"é":1}'}}]}) + b"\n\n",
        b"data: " + chunk({"tool_calls": [{"index": 1, "function": {"arguments": "2}"}}]}) + b"\n\n",
        b"data: " + chunk({}, "tool_calls", usage={"prompt_tokens": 3, "completion_tokens": 4}) + b"\n\n",
        b"data: [DONE]\n\n",
    )
)


def assembled(chunks: list[bytes]) -> tuple[Reply, list[tuple[DeltaKind, str, int]]]:
    told: list[tuple[DeltaKind, str, int]] = []
    assembler = ReplyAssembler("v", PEER, lambda kind, piece, index: told.append((kind, piece, index)))
    for event in events(*chunks):
        assembler.feed(event)
    return assembler.reply(), told


WHOLE = assembled([STREAM])


def test_the_reply_of_the_uncut_stream_is_what_was_said() -> None:
    reply, told = WHOLE
    assert reply.message.text == "one\u2028two \u2029 \x85 日本語 \U0001f600"
    assert [(call.name, call.arguments) for call in reply.message.calls] == [
        ("f", '{"é":1}'),
        ("g", '{"x":2}'),
    ]
    assert told[0] == ("thinking", "größer \U0001f914", 0)
    assert [entry for entry in told if entry[0] == "arguments"] == [
        ("arguments", '{"x":', 1),
        ("arguments", '{"é":1}', 0),
        ("arguments", "2}", 1),
    ]


@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_any_split_of_the_bytes_gives_the_same_reply_and_the_same_pieces(places: list[int]) -> None:
    assert assembled(cut(STREAM, places)) == WHOLE


ANSWERED = STREAM.index(b'"finish_reason": "tool_calls"') + len(b'"finish_reason": "tool_calls"')


@given(st.integers(0, ANSWERED))
def test_a_stream_truncated_before_the_models_last_word_is_broken(place: int) -> None:
    with pytest.raises(DriverError) as caught:
        assembled([STREAM[:place]])
    assert caught.value.kind == "broken_stream"


def test_a_stream_truncated_after_the_models_last_word_is_whole() -> None:
    reply, _ = assembled([STREAM.removesuffix(b"data: [DONE]\n\n")])
    assert reply == WHOLE[0]
