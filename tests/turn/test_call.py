"""One call: whatever goes wrong in it becomes a result that the model reads."""

import asyncio
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from holdfast import (
    FILES,
    BlobRef,
    Context,
    Document,
    Image,
    Session,
    Text,
    Tool,
    ToolError,
    ToolOutput,
    ToolProgress,
    ToolResult,
    WorkspaceError,
    tool,
)
from holdfast.config import Limits
from holdfast.drivers.sim import call, calls, say
from holdfast.events import Event, FileWritten
from holdfast.fold import fold
from holdfast.schema import MAX_ARGUMENT_DEPTH, Parameters
from holdfast.stores.memory import MemoryStore
from holdfast.testing.clock import START
from tests.turn.scenes import (
    agent_of,
    assert_sound,
    claims,
    cut_off,
    first,
    kinds,
    reopened,
    results,
    session_with,
)


@tool(effect="pure")
async def fine() -> str:
    """Be fine."""
    return "fine"


async def outcome_of(tool: Tool, *arguments: Any, limits: Limits | None = None) -> ToolResult:
    """The result of one call, next to a sibling that must come to no harm; the log is read back and folded."""
    given = arguments[0] if arguments else {}
    agent = agent_of(calls((tool.name, given), ("fine", {})), say("done"), tools=[tool, fine], limits=limits)
    async with session_with(agent) as session:
        result = await session.run("go")
        events = await session.events()
        assert (result.status, result.text) == ("completed", "done")
        assert_sound(events)
        assert fold(session.id, events) == session.state
        mine, sibling = sorted(results(events), key=lambda it: it.call_id)
    assert (sibling.status, sibling.text) == ("ok", "fine")
    return mine


async def failing(raise_it: Callable[[], object]) -> ToolResult:
    @tool
    async def fail() -> None:
        """Fail."""
        raise_it()

    return await outcome_of(fail)


def throw(error: BaseException) -> Callable[[], object]:
    def raise_it() -> None:
        raise error

    return raise_it


class Panic(BaseException):
    """What extension modules raise: no `Exception`."""


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


RAISED = {
    "exception": (ValueError("no such order"), "Error: fail failed: ValueError: no such order."),
    "tool error": (ToolError("we are closed"), "Error: we are closed"),
    "tool error without words": (ToolError(), "Error: the tool did not say why it failed"),
    "file error": (WorkspaceError("not-found", "no /a.txt"), "Error (not-found): no /a.txt"),
    "timeout of its own": (TimeoutError("upstream"), "Error: fail failed: TimeoutError: upstream."),
    "exit": (SystemExit(2), "Error: fail failed: SystemExit: 2."),
    "cancelled": (asyncio.CancelledError("it"), "Error: fail failed: CancelledError: it."),
    "stop": (StopIteration(), "Error: fail failed: RuntimeError: coroutine raised StopIteration."),
    "group": (ExceptionGroup("a", [KeyError()]), "Error: fail failed: ExceptionGroup: a (1 sub-exception)."),
    "panic": (Panic("index 9"), "Error: fail failed: Panic: index 9."),
    "group of those": (
        BaseExceptionGroup("b", [Panic()]),
        "Error: fail failed: BaseExceptionGroup: b (1 sub-exception).",
    ),
    "no words": (Unspeakable(), "Error: fail failed: Unspeakable, whose message cannot be read."),
    "surrogate of an author": (ToolError("bad \ud800 text"), "Error: bad ? text"),
    "surrogate": (ValueError("bad \udfff text"), "Error: fail failed: ValueError: bad ? text."),
}


@pytest.mark.parametrize(("error", "text"), RAISED.values(), ids=RAISED)
async def test_a_tool_that_raises_is_a_result(error: BaseException, text: str) -> None:
    result = await failing(throw(error))
    assert (result.status, result.text) == ("error", text)


async def test_a_tool_alone_in_its_reply_that_cancels_itself_is_a_result() -> None:
    @tool
    async def fail() -> None:
        """Wait for something that was given up."""
        task = asyncio.create_task(asyncio.sleep(100))
        task.cancel()
        await task

    async with session_with(agent_of(call("fail"), say("done"), tools=[fail])) as session:
        assert (await session.run("go")).text == "done"
        assert results(await session.events())[0].status == "error"


async def test_a_tool_that_hangs_is_stopped_at_its_own_limit() -> None:
    cleaned: list[float] = []

    @tool(timeout=20)
    async def hang() -> None:
        """Hang."""
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(asyncio.get_running_loop().time())

    result = await outcome_of(hang)
    assert (result.status, result.text) == (
        "error",
        "Error: hang failed: it took longer than 20 s and was stopped.",
    )
    assert len(cleaned) == 1


async def test_a_tool_without_a_limit_takes_the_manifests() -> None:
    @tool
    async def hang() -> None:
        """Hang."""
        await asyncio.Event().wait()

    result = await outcome_of(hang, limits=Limits(tool_timeout=7.5))
    assert result.text == "Error: hang failed: it took longer than 7.5 s and was stopped."


async def test_an_unknown_tool_is_a_result_that_names_the_known_ones() -> None:
    async with session_with(agent_of(call("lok", place="home"), say("done"), tools=[fine])) as session:
        await session.run("go")
        events = await session.events()
    assert [(it.status, it.text) for it in results(events)] == [
        ("error", "Error: there is no tool 'lok'. Tools you can call: fine.")
    ]
    assert claims(events) == []


@tool
async def strict(name: str, size: int, tags: list[str] | None = None) -> str:
    """Take exact arguments."""
    return f"{name} {size} {tags}"


async def test_all_problems_of_the_arguments_are_told_at_once() -> None:
    result = await outcome_of(strict, {"name": 1, "tags": "x", "colour": "red"})
    assert result.status == "error"
    for complaint in ("name", "size", "tags", "colour"):
        assert complaint in result.text
    assert "Nothing was run" in result.text


@pytest.mark.parametrize(
    "text",
    [
        "{not json",
        "[]",
        "null",
        '"text"',
        '{"name": "a", "size": NaN}',
        '{"name": "a", "name": "b", "size": 1}',
        '{"name": "\\ud800", "size": 1}',
        '{"name": "a", "size": ' + "[" * 10_000 + "]" * 10_000 + "}",
        '{"name": "' + "a" * 1_100_000 + '", "size": 1}',
        '{"name": "a", "size": ' + "9" * 5_000 + "}",
    ],
    ids=["text", "list", "null", "string", "nan", "duplicate", "surrogate", "deep", "large", "digits"],
)
async def test_arguments_that_no_json_object_should_hold_are_refused(text: str) -> None:
    result = await outcome_of(strict, text)
    assert result.status == "error"
    assert "Nothing was run" in result.text
    assert len(result.text) < 3_000


def test_the_depth_limit_is_what_the_test_above_exceeds() -> None:
    assert MAX_ARGUMENT_DEPTH < 10_000


async def test_no_arguments_at_all_count_as_an_empty_object() -> None:
    assert (await outcome_of(fine_alone, "")).text == "fine"


@tool(effect="pure")
async def fine_alone() -> str:
    """Be fine."""
    return "fine"


class Order(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def check(cls, number: int) -> int:
        return 1 // number  # a validator that raises something of its own


async def test_a_parameter_type_that_raises_while_reading_is_a_result() -> None:
    @tool
    async def place(order: Order) -> int:
        """Place an order."""
        return order.number

    result = await outcome_of(place, {"order": {"number": 0}})
    assert result.status == "error"
    assert "by zero" in result.text
    assert "Nothing was run" in result.text


class Node(BaseModel):
    def model_dump(self, **_: Any) -> Any:
        raise LookupError("no dump")


def endless() -> list[Any]:
    knot: list[Any] = []
    knot.append(knot)
    return knot


@pytest.mark.parametrize(
    "value",
    [object(), {1: object()}, "\ud800", ["a", "\udfff"], endless(), Node(), Text(text="\ud800"), {("a",): 1}],
)
async def test_a_value_that_cannot_be_shown_is_a_result_that_says_so(value: object) -> None:
    @tool
    async def give() -> Any:
        """Give something."""
        return value

    result = await outcome_of(give)
    assert result.status == "error"
    assert result.text.startswith("Error: give ran, but what it returned cannot be shown: ")
    assert result.text.endswith("It may have had its effect.")


async def test_parts_that_are_not_what_their_types_say_are_refused() -> None:
    @tool
    async def give() -> Any:
        """Give something."""
        return [Text(text=5)]  # type: ignore[arg-type]

    result = await outcome_of(give)
    assert result.status == "error"
    assert "cannot be shown" in result.text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("words", "words"),
        (None, "null"),
        ({"a": [1, 2.5, True]}, '{"a":[1,2.5,true]}'),
        (START, '"2026-01-01T00:00:00Z"'),
        (Order.model_construct(number=3), '{"number":3}'),
        ([], "[]"),
        (float("nan"), "null"),
    ],
)
async def test_a_value_becomes_the_text_that_the_model_reads(value: object, text: str) -> None:
    @tool
    async def give() -> Any:
        """Give something."""
        return value

    result = await outcome_of(give)
    assert (result.status, result.text) == ("ok", text)


async def test_parts_stay_parts() -> None:
    picture = Image(blob=BlobRef(digest="sha256:00", size=3, media_type="image/png"))
    paper = Document(url="https://a.example/b.pdf", name="b")

    @tool
    async def give() -> Any:
        """Give a picture."""
        return (Text(text="here"), picture, paper)

    result = await outcome_of(give)
    assert result.content == (Text(text="here"), picture, paper)


async def test_one_part_alone_will_do() -> None:
    @tool
    async def give() -> Any:
        """Give a picture."""
        return Image(url="https://a.example/b.png")

    assert (await outcome_of(give)).content == (Image(url="https://a.example/b.png"),)


async def test_a_long_result_is_cut_and_the_whole_is_kept() -> None:
    whole = "ä" * 3_000

    @tool
    async def give() -> str:
        """Give a lot."""
        return whole

    store = MemoryStore()
    agent = agent_of(call("give"), say("done"), tools=[give], limits=Limits(result_bytes=1_001))
    async with session_with(agent, store) as session:
        await session.run("go")
        (result,) = results(await session.events())
        text, _, note = result.text.partition("\n[cut here: ")
        assert text == "ä" * 500
        assert "6,000 bytes in all, 1,001 shown" in note
        digest = note.rpartition(" ")[2].rstrip("]")
        assert (await store.get_blob(digest)).decode() == whole
    assert result.status == "ok"


async def test_a_result_at_the_limit_is_left_as_it_is() -> None:
    @tool
    async def give() -> str:
        """Give exactly enough."""
        return "a" * 1_000

    assert (await outcome_of(give, limits=Limits(result_bytes=1_000))).text == "a" * 1_000


async def test_a_plain_function_runs_in_a_thread() -> None:
    threads: list[str] = []

    @tool
    def work(number: int) -> int:
        """Work."""
        threads.append(threading.current_thread().name)
        return number * 2

    assert (await outcome_of(work, {"number": 21})).text == "42"
    assert threads[0] != threading.main_thread().name


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), SystemExit(1), Panic(), StopIteration()],
    ids=["exception", "exit", "panic", "stop"],
)
async def test_a_plain_function_that_raises_is_a_result(error: BaseException) -> None:
    @tool(timeout=30)
    def work() -> None:
        """Work."""
        raise error

    result = await outcome_of(work)
    assert result.status == "error"
    assert type(error).__name__ in result.text


async def test_a_plain_function_that_hangs_is_given_up() -> None:
    release = threading.Event()

    @tool(timeout=5)
    def work() -> None:
        """Work."""
        release.wait(60)

    try:
        result = await outcome_of(work)
    finally:
        release.set()
    assert result.status == "in_doubt"
    assert "work took longer than 5 s and was told to stop, and did not." in result.text


async def test_a_raw_schema_will_do() -> None:
    async def run(ctx: Context, arguments: Any) -> Any:
        return arguments

    schema = {
        "type": "object",
        "properties": {"x": {"type": "integer"}},
        "required": ["x"],
        "additionalProperties": False,
    }
    raw = Tool(name="raw", description="Raw.", parameters=Parameters(schema), run=run)
    assert (await outcome_of(raw, {"x": 1})).text == '{"x":1}'
    refused = await outcome_of(raw, {"x": "one", "y": 2})
    assert refused.status == "error"
    assert "x" in refused.text
    assert "y" in refused.text


async def test_the_context_says_where_a_call_stands() -> None:
    seen: list[Context] = []

    @tool
    async def look(ctx: Context, place: str) -> str:
        """Look."""
        seen.append(ctx)
        return place

    agent = agent_of(calls(("look", {"place": "a"}), ("look", {"place": "b"})), say("done"), tools=[look])
    async with session_with(agent) as session:
        await session.update(title="a search", metadata={"who": "ann"})
        turn = await session.send("go")
        await turn
    assert len(seen) == 2
    for index, ctx in enumerate(seen):
        assert (ctx.session.id, ctx.session.title, ctx.session.metadata) == (
            session.id,
            "a search",
            {"who": "ann"},
        )
        assert (ctx.call.name, ctx.call.attempt, ctx.call.turn_id) == ("look", 1, turn.id)
        assert ctx.call.id == ctx.call.key == f"call_{turn.id.removeprefix('turn_')}_1_{index}"
        assert FILES in ctx.scope


async def test_progress_and_output_are_shown_live_and_not_recorded() -> None:
    @tool
    async def work(ctx: Context) -> str:
        """Work."""
        ctx.progress("half way")
        ctx.output("line 1\n")
        return "done"

    async with session_with(agent_of(call("work"), say("ok"), tools=[work])) as session:
        turn = await session.send("go")
        seen = [item async for item in turn if isinstance(item, ToolProgress | ToolOutput)]
        events = await session.events()
    progress, output = seen
    assert isinstance(progress, ToolProgress)
    assert isinstance(output, ToolOutput)
    assert (progress.message, progress.name, progress.turn_id) == ("half way", "work", turn.id)
    assert (output.text, output.stream) == ("line 1\n", "stdout")
    assert progress.call_id == results(events)[0].call_id
    assert not [kind for kind in kinds(events) if "progress" in kind or "delta" in kind]


async def test_a_plain_function_reports_from_its_thread() -> None:
    seen = threading.Event()

    @tool(timeout=3_600)
    def work(ctx: Context) -> str:
        """Work until the reader has seen how far it is."""
        ctx.progress("half way")
        return "seen" if seen.wait(30) else "nobody looked"

    async with session_with(agent_of(call("work"), say("ok"), tools=[work])) as session:
        turn = await session.send("go")
        async for item in turn:
            if isinstance(item, ToolProgress):
                seen.set()
        assert results(await session.events())[0].text == "seen"


async def files_after(agent_tool: Tool) -> tuple[list[Event], Session]:
    async with session_with(agent_of(call(agent_tool.name), say("done"), tools=[agent_tool])) as session:
        await session.run("go")
        return await session.events(), session


async def test_what_a_tool_writes_is_recorded_with_its_outcome() -> None:
    @tool
    async def write(ctx: Context) -> str:
        """Write."""
        await ctx.scope[FILES].write("/a.txt", b"hello")
        assert await ctx.scope[FILES].read("/a.txt") == b"hello"
        return "written"

    events, session = await files_after(write)
    at = first(events, "file.written")
    assert kinds(events)[at - 1 : at + 1] == ["file.written", "tool.completed"]
    assert events[at - 1].ts == events[at].ts
    fact = events[at - 1].data
    assert isinstance(fact, FileWritten)
    assert fact.call_id == results(events)[0].call_id
    assert set(session.state.files) == {"/a.txt"}


async def test_what_a_failing_tool_wrote_is_dropped() -> None:
    @tool
    async def write(ctx: Context) -> str:
        """Write, then fail."""
        await ctx.scope[FILES].write("/a.txt", b"hello")
        raise ToolError("changed my mind")

    events, session = await files_after(write)
    assert "file.written" not in kinds(events)
    assert session.state.files == {}


async def test_what_a_stopped_tool_wrote_is_dropped() -> None:
    @tool(timeout=1)
    async def write(ctx: Context) -> str:
        """Write, then hang."""
        await ctx.scope[FILES].write("/a.txt", b"hello")
        await asyncio.Event().wait()
        return ""

    events, _ = await files_after(write)
    assert "file.written" not in kinds(events)


async def test_a_crash_before_the_outcome_leaves_nothing_of_what_was_written() -> None:
    @tool(effect="pure")
    async def write(ctx: Context) -> str:
        """Write."""
        await ctx.scope[FILES].write("/a.txt", str(ctx.call.attempt).encode())
        return "written"

    agent = agent_of(call("write"), say("done"), tools=[write])
    async with session_with(agent) as session:
        await session.run("go")
        events = await session.events()
    crash = await cut_off(events, first(events, "tool.started"))
    async with reopened(crash, agent, session.id) as again:
        assert again.state.files == {}
        assert again.turn is not None
        await again.turn
        assert await again.files.read("/a.txt") == b"2"


async def test_how_long_a_call_took_is_recorded() -> None:
    @tool
    async def work() -> None:
        """Work."""
        await asyncio.sleep(1.25)

    async with session_with(agent_of(call("work"), say("done"), tools=[work])) as session:
        await session.run("go")
        done = next(event for event in await session.events() if event.type == "tool.completed")
    assert done.data.duration_ms == 1_250  # type: ignore[attr-defined]
    assert done.ts == START + timedelta(seconds=1.25)


def test_the_largest_number_text_that_python_reads_is_smaller_than_the_one_above() -> None:
    assert sys.get_int_max_str_digits() < 5_000
