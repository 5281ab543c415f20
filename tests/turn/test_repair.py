"""Whatever a history looks like, what is sent to a provider is valid."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.messages import (
    BlobRef,
    Document,
    Image,
    Message,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    tool_message,
)
from holdfast.turn.repair import NO_OUTPUT, NO_RESULT, repair

BLOB = BlobRef(digest="sha256:00", size=1)

ids = st.sampled_from(["call_a", "call_b", "call_c", ""])
texts = st.sampled_from(["", "some words", " "])
results = st.builds(
    lambda call, texts, provider: ToolResult(
        call_id=call, name="look", content=tuple(Text(text=text) for text in texts), provider_id=provider
    ),
    ids,
    st.lists(texts, max_size=2),
    st.sampled_from(["", "p1", "p2"]),
)
parts: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, text=texts),
    st.builds(Thinking, text=texts, signature=st.sampled_from(["", "signed"])),
    st.builds(
        ToolCall,
        id=ids,
        name=st.just("look"),
        arguments=st.just("{}"),
        provider_id=st.sampled_from(["", "p1", "p2"]),
    ),
    results,
    st.sampled_from([Image(), Image(url="https://a.example/b.png"), Document(blob=BLOB), Document()]),
)
messages = st.one_of(
    st.builds(
        Message,
        id=st.just("message_m"),
        role=st.sampled_from(["user", "assistant", "tool"]),
        content=st.lists(parts, max_size=4).map(tuple),
    ),
    results.map(tool_message),
)
histories = st.lists(messages, max_size=8)


def user(text: str = "hello") -> Message:
    return Message(id="message_u", role="user", content=(Text(text=text),))


def asks(*calls: ToolCall | str, text: str = "") -> Message:
    made = tuple(call(it) if isinstance(it, str) else it for it in calls)
    return Message(id="message_a", role="assistant", content=(*((Text(text=text),) if text else ()), *made))


def call(call_id: str, provider_id: str | None = None) -> ToolCall:
    return ToolCall(
        id=call_id, name="look", arguments="{}", provider_id=call_id if provider_id is None else provider_id
    )


def answer(call_id: str, text: str = "found", provider_id: str | None = None) -> Message:
    provider_id = call_id if provider_id is None else provider_id
    return tool_message(
        ToolResult(call_id=call_id, name="look", content=(Text(text=text),), provider_id=provider_id)
    )


def only_result(message: Message) -> ToolResult:
    (part,) = message.content
    assert isinstance(part, ToolResult)
    return part


def assert_valid(history: Sequence[Message]) -> None:
    """What every provider asks of a transcript."""
    waiting: list[ToolCall] = []
    used: set[str] = set()
    for message in history:
        assert message.content, "an empty message"
        if message.role == "tool":
            result, wanted = only_result(message), waiting.pop(0)
            assert (result.call_id, result.provider_id) == (wanted.id, wanted.provider_id)
            assert result.content
            assert all(not is_empty(part) for part in result.content)
            continue
        assert not waiting, "a call that is not answered at once"
        assert all(not is_empty(part) for part in message.content)
        assert not any(isinstance(part, ToolResult) for part in message.content)
        if message.role == "user":
            assert not any(isinstance(part, ToolCall | Thinking) for part in message.content)
        for wanted in message.calls:
            assert wanted.provider_id
            assert wanted.provider_id not in used, "two calls under one id"
            used.add(wanted.provider_id)
            waiting.append(wanted)
    assert not waiting, "a call without a result"


def is_empty(part: Part) -> bool:
    match part:
        case Text(text=text):
            return not text
        case Thinking(text=text, signature=signature, encrypted=encrypted):
            return not (text or signature or encrypted)
        case Image(blob=blob, url=url) | Document(blob=blob, url=url):
            return blob is None and not url
    return False


@given(histories)
@example([Message(id="m", role="assistant", content=(ToolCall(id="", name="look", arguments=""),) * 2)])
def test_any_history_becomes_valid(history: list[Message]) -> None:
    assert_valid(repair(history))


@given(histories)
def test_repairing_twice_changes_nothing_more(history: list[Message]) -> None:
    once = repair(history)
    twice = repair(once)
    assert twice == once
    assert all(again is before for again, before in zip(twice, once, strict=True))


@given(histories)
def test_nothing_that_a_person_or_a_model_said_or_showed_is_lost(history: list[Message]) -> None:
    def said(messages: Sequence[Message]) -> list[tuple[str, Part]]:
        return [
            (message.role, part)
            for message in messages
            if message.role != "tool"
            for part in message.content
            if isinstance(part, Text | Image | Document) and not is_empty(part)
        ]

    assert said(repair(history)) == said(history)


@given(histories)
def test_every_call_of_the_model_is_kept_in_order(history: list[Message]) -> None:
    def calls(messages: Sequence[Message]) -> list[tuple[str, str]]:
        return [
            (it.id, it.arguments)
            for message in messages
            if message.role == "assistant"
            for it in message.calls
        ]

    assert calls(repair(history)) == calls(history)


@given(histories)
def test_a_history_is_not_changed_in_place(history: list[Message]) -> None:
    before = list(history)
    repair(history)
    assert history == before


rounds = st.lists(
    st.one_of(
        st.just("user"),
        st.just("words"),
        st.lists(st.sampled_from(["p1", "p2", ""]), min_size=1, max_size=3),
    ),
    max_size=8,
)


def closed_chunks(rounds: list[str | list[str]]) -> list[list[Message]]:
    """Chunks whose calls are answered inside: what the loop hands over, one at a time. Provider ids repeat."""
    chunks = []
    for number, kind in enumerate(rounds):
        if kind == "user":
            chunks.append([user()])
        elif kind == "words":
            chunks.append([asks(text="words")])
        else:
            calls = [call(f"call_{number}_{index}", given) for index, given in enumerate(kind)]
            answers = [answer(it.id, provider_id=it.provider_id) for it in calls]
            chunks.append([asks(*calls, text="let me see"), *answers])
    return chunks


@given(rounds)
def test_repairing_chunk_by_chunk_is_repairing_the_whole(rounds: list[str | list[str]]) -> None:
    chunks = closed_chunks(rounds)
    seen: set[str] = set()
    mended = [message for chunk in chunks for message in repair(chunk, seen)]
    assert mended == repair([message for chunk in chunks for message in chunk])
    assert_valid(mended)


def test_a_valid_history_comes_back_as_the_same_objects() -> None:
    history = [
        user(),
        asks("call_a", "call_b", text="two at once"),
        answer("call_a"),
        answer("call_b"),
        Message(id="message_t", role="assistant", content=(Thinking(text="hm"), Text(text="done"))),
        user("more"),
    ]
    assert all(after is before for after, before in zip(repair(history), history, strict=True))


def test_a_call_without_a_result_gets_one_that_promises_nothing() -> None:
    mended = repair([user(), asks("call_a", "call_b"), answer("call_b"), user("and?")])
    assert [message.role for message in mended] == ["user", "assistant", "tool", "tool", "user"]
    assert only_result(mended[2]).text == NO_RESULT
    assert only_result(mended[2]).status == "cancelled"
    assert only_result(mended[3]).text == "found"


def test_a_late_result_moves_to_its_call() -> None:
    mended = repair([asks("call_a"), user("still there?"), answer("call_a", "late")])
    assert [message.role for message in mended] == ["assistant", "tool", "user"]
    assert only_result(mended[1]).text == "late"


def test_results_take_the_order_of_their_calls() -> None:
    mended = repair([asks("call_a", "call_b"), answer("call_b", "b"), answer("call_a", "a")])
    assert [only_result(message).text for message in mended[1:]] == ["a", "b"]


def test_the_first_of_two_results_counts() -> None:
    mended = repair([asks("call_a"), answer("call_a", "first"), answer("call_a", "second")])
    assert [message.text for message in mended] == ["", "first"]


def test_a_result_before_its_call_is_no_result_of_it() -> None:
    mended = repair([answer("call_a", "too early"), asks("call_a")])
    assert [message.role for message in mended] == ["assistant", "tool"]
    assert only_result(mended[1]).text == NO_RESULT


def test_results_in_one_message_are_taken_apart() -> None:
    together = Message(
        id="message_r",
        role="tool",
        content=(only_result(answer("call_a", "a")), only_result(answer("call_b", "b"))),
    )
    mended = repair([asks("call_a", "call_b"), together])
    assert [only_result(message).text for message in mended[1:]] == ["a", "b"]


def test_an_id_used_again_belongs_to_the_latest_open_call() -> None:
    mended = repair([asks("call_a"), answer("call_a", "one"), asks("call_a"), answer("call_a", "two")])
    assert [message.text for message in mended if message.role == "tool"] == ["one", "two"]
    first, second = (message.calls[0].provider_id for message in mended if message.role == "assistant")
    assert first != second


def test_provider_ids_that_repeat_are_told_apart() -> None:
    history = [asks(call("call_a", "p"), call("call_b", "p")), answer("call_a"), answer("call_b")]
    mended = repair(history)
    assert [it.provider_id for it in mended[0].calls] == ["p", "call_b_2"]
    assert [only_result(message).provider_id for message in mended[1:]] == ["p", "call_b_2"]


def test_a_provider_id_that_is_missing_is_ours() -> None:
    mended = repair([asks(call("call_a", "")), answer("call_a", provider_id="")])
    assert mended[0].calls[0].provider_id == "call_a"
    assert only_result(mended[1]).provider_id == "call_a"


def test_a_result_without_words_says_so() -> None:
    mended = repair([asks("call_a"), answer("call_a", "")])
    assert only_result(mended[1]).text == NO_OUTPUT


@pytest.mark.parametrize(
    "content",
    [
        (),
        (Text(text=""),),
        (Thinking(),),
        (Image(),),
        (Document(name="a"),),
        (only_result(answer("call_z")),),
    ],
)
def test_a_message_with_nothing_in_it_is_left_out(content: tuple[Part, ...]) -> None:
    for role in ("user", "assistant"):
        assert repair([Message(id="message_e", role=role, content=content)]) == []


def test_thinking_that_only_carries_a_proof_is_kept() -> None:
    history = [
        Message(id="message_a", role="assistant", content=(Thinking(encrypted="gAAAA"), Text(text="so")))
    ]
    assert repair(history)[0] is history[0]
