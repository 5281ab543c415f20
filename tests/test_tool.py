"""Tools: made of functions, run with checked arguments, described for the manifest."""

import asyncio
import threading
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import pytest

from holdfast.driver import ToolSpec
from holdfast.errors import ToolSignatureError
from holdfast.events import Effect
from holdfast.schema import Parameters
from holdfast.services import FILES, Key, Scope
from holdfast.tool import NOT_DONE, Call, Context, SessionInfo, Tool, tool

if TYPE_CHECKING:
    from collections import Counter  # so that an annotation names what is not there when the code runs

LANGUAGE: Key[str] = Key("language")
USER: ContextVar[str] = ContextVar("user", default="nobody")


def context(**values: Any) -> Context:
    """What a tool is handed, with a service and lists that take what it says."""
    return Context(
        session=SessionInfo(id="session_a", title="Desk", metadata={"team": "sea"}),
        call=Call(id="call_a_1_0", key="call_a_1_0", name="t", attempt=1, turn_id="turn_a"),
        scope=Scope({LANGUAGE: "en"}),
        progress=values.get("progress", lambda message: None),
        output=values.get("output", lambda text: None),
    )


async def run(made: Tool, arguments: str = "{}", **values: Any) -> Any:
    return await made.run(context(**values), made.parameters.read(arguments))


@tool
async def add(a: int, b: int = 2) -> int:
    """Add two integers.

    Args:
        a: The first.
    """
    return a + b


async def test_a_function_becomes_a_tool_by_its_name_docstring_and_signature() -> None:
    assert (add.name, add.description) == ("add", "Add two integers.")
    assert add.parameters.schema["properties"]["a"] == {"type": "integer", "description": "The first."}
    assert add.spec == ToolSpec(name="add", description="Add two integers.", parameters=add.parameters.schema)
    assert await run(add, '{"a": 1}') == 3
    assert await run(add, '{"a": 1, "b": 1}') == 2


def test_what_is_not_declared_is_the_careful_choice() -> None:
    assert (add.effect, add.timeout, add.lane, add.ask, add.needs) == ("once", None, "", False, ())


def test_every_option_can_be_given() -> None:
    @tool(
        name="pay_2", effect="idempotent", timeout=5.0, lane="bank", ask=lambda a: a.cents > 5, needs=(FILES,)
    )
    async def pay(cents: int) -> None: ...

    assert (pay.name, pay.effect, pay.timeout, pay.lane) == ("pay_2", "idempotent", 5.0, "bank")
    assert pay.needs == (FILES,)
    assert callable(pay.ask)
    assert pay.ask(pay.parameters.read('{"cents": 7}')) is True
    assert pay.ask(pay.parameters.read('{"cents": 3}')) is False


def test_an_option_that_does_not_exist_is_refused() -> None:
    def pay(cents: int) -> None: ...

    with pytest.raises(TypeError, match="effects"):
        tool(effects="pure")(pay)  # type: ignore[call-overload]


async def test_the_context_goes_to_the_parameter_that_asks_for_it_whatever_its_name() -> None:
    @tool
    async def greet(name: str, where: Context) -> str:
        return f"{name}, {where.scope[LANGUAGE]}, {where.session.metadata['team']}, {where.call.key}"

    assert list(greet.parameters.schema["properties"]) == ["name"]
    assert await run(greet, '{"name": "Mia"}') == "Mia, en, sea, call_a_1_0"


async def test_a_tool_shows_progress_and_output_as_it_goes() -> None:
    @tool
    async def talk(ctx: Context) -> None:
        ctx.progress("half way")
        ctx.output("line 1")

    seen: list[str] = []
    await run(talk, progress=seen.append, output=seen.append)
    assert seen == ["half way", "line 1"]


async def test_a_plain_function_runs_off_the_event_loop_with_the_callers_context() -> None:
    go_on = threading.Event()

    @tool
    def block() -> tuple[str, bool]:
        assert go_on.wait(10)
        return USER.get(), threading.current_thread() is threading.main_thread()

    USER.set("mia")
    running = asyncio.ensure_future(run(block))
    await asyncio.sleep(0.01)
    go_on.set()  # reached although the function blocks
    assert await running == ("mia", False)


async def test_what_a_function_raises_comes_out() -> None:
    @tool
    def fail() -> None:
        raise LookupError("no such order")

    with pytest.raises(LookupError, match="no such order"):
        await run(fail)


async def test_the_one_exception_that_a_thread_cannot_hand_over_is_reworded() -> None:
    @tool
    def fail() -> None:
        next(iter(()))

    with pytest.raises(RuntimeError, match="the function raised StopIteration"):
        await run(fail)


async def test_a_method_of_an_object_is_a_function_like_any_other() -> None:
    class Till:
        def __init__(self) -> None:
            self.sum = 0

        async def pay_in(self, cents: int) -> int:
            """Pay in."""
            self.sum += cents
            return self.sum

    till = Till()
    pay_in = tool(till.pay_in)
    assert await run(pay_in, '{"cents": 5}') == 5
    assert (pay_in.name, list(pay_in.parameters.schema["properties"])) == ("pay_in", ["cents"])


async def test_a_parameter_may_have_the_name_of_an_option_or_of_a_struct_method() -> None:
    @tool
    async def odd(name: str, function: int, run: int, json: str, kw_only: bool) -> list[Any]:
        return [name, function, run, json, kw_only]

    arguments = '{"name": "n", "function": 1, "run": 2, "json": "{}", "kw_only": true}'
    assert await run(odd, arguments) == ["n", 1, 2, "{}", True]


async def test_a_tool_is_made_of_a_raw_json_schema_too() -> None:
    async def look_up(ctx: Context, arguments: dict[str, Any]) -> str:
        return f"{arguments['word']} in {ctx.scope[LANGUAGE]}"

    schema = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
    made = Tool(name="look_up", description="Look a word up.", parameters=Parameters(schema), run=look_up)
    assert await run(made, '{"word": "reef"}') == "reef in en"
    assert made.spec.parameters == schema


@pytest.mark.parametrize("it", [5, "add", int, partial(print, "x"), None, object()])
def test_what_is_not_a_function_is_refused(it: Any) -> None:
    if it is None:
        assert callable(tool(it))  # `@tool()` with nothing: waits for its function
        return
    with pytest.raises(ToolSignatureError, match="is not a function; @tool takes a function"):
        tool(it)


def test_reconcile_needs_the_function_that_says_what_became_of_a_call() -> None:
    with pytest.raises(ToolSignatureError, match=r"tool 'pay': effect 'reconcile' needs reconcile="):

        @tool(effect="reconcile")
        async def pay(cents: int) -> None: ...

    async def look(ctx: Context) -> object:
        return NOT_DONE

    @tool(effect="reconcile", reconcile=look)
    async def pay_again(cents: int) -> None: ...

    assert pay_again.reconcile is look
    assert repr(NOT_DONE) == "NOT_DONE"


@pytest.mark.parametrize("name", ["", "two words", "größe", "a.b", "x" * 65, "<lambda>", "a\n"])
def test_a_name_that_providers_refuse_is_refused_when_the_tool_is_made(name: str) -> None:
    async def run(ctx: Context, arguments: Any) -> None: ...

    with pytest.raises(ToolSignatureError, match="cannot be a tool's name: providers take 1 to 64 letters"):
        Tool(name=name, description="", parameters=Parameters({"type": "object"}), run=run)


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(ToolSignatureError, match=r"'<lambda>' cannot be a tool's name.*give name="):
        tool(lambda: 1)
    assert tool(name="one")(lambda: 1).name == "one"


def test_an_annotation_that_is_not_there_at_run_time_is_named() -> None:
    async def count(words: "Counter[str]") -> None: ...

    with pytest.raises(ToolSignatureError, match=r"'Counter' is not defined.*importable at module level"):
        tool(count)


@pytest.mark.parametrize("annotation", ["not a type(", "asyncio.nothing"])
def test_an_annotation_that_cannot_be_read_is_an_error_of_the_signature(annotation: str) -> None:
    async def count(words: Any) -> None: ...

    count.__annotations__["words"] = annotation
    with pytest.raises(ToolSignatureError, match="tool 'count'"):
        tool(count)


def described(**options: Any) -> dict[str, Any]:
    async def pay(cents: int) -> None:
        """Pay."""

    return tool(**options)(pay).describe()


def test_what_changes_behaviour_is_described() -> None:
    plain = described()
    assert plain == {
        "name": "pay",
        "description": "Pay.",
        "parameters": plain["parameters"],
        "effect": "once",
        "timeout": None,
        "lane": "",
        "ask": False,
    }
    changes: list[dict[str, Any]] = [
        {"name": "pay_2"},
        {"effect": "pure"},
        {"timeout": 3.0},
        {"lane": "bank"},
        {"ask": True},
        {"ask": lambda arguments: True},
    ]
    every = [plain, *(described(**change) for change in changes)]
    assert all(one != other for i, one in enumerate(every) for other in every[:i])


def test_functions_and_addresses_are_not_described() -> None:
    assert described(ask=lambda a: True) == described(ask=lambda a: False)
    assert "0x" not in repr(described(ask=lambda a: True))


def test_the_effects_are_the_four_that_the_events_know() -> None:
    assert get_args(Effect) == ("pure", "idempotent", "reconcile", "once")


def test_a_tool_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        add.effect = "pure"  # type: ignore[misc]
