"""Typed outputs: the answer of the type that was asked for, or an honest failure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from pydantic import BaseModel, field_validator

from holdfast import Agent, Budget, Config, Limits, NoOutput, Request, Runtime, UsageError, tool
from holdfast.drivers.sim import Sim, call, say
from holdfast.errors import OutputTypeError
from holdfast.facts.answers import OutputChecked


class Invoice(msgspec.Struct):
    """What is owed."""

    customer: str
    cents: Annotated[int, msgspec.Meta(ge=0)]


@dataclass
class Point:
    x: int
    y: int = 0


class Note(TypedDict):
    text: str


class Order(BaseModel):
    item: str
    count: int

    @field_validator("count")
    @classmethod
    def positive(cls, value: int) -> int:
        if value < 1:
            raise ValueError("order at least one")
        return value


GOOD = '{"customer": "Ada", "cents": 1200}'


def model(*replies: str) -> Sim:
    return Sim.script(*replies)


async def test_the_answer_has_the_type_that_was_asked_for() -> None:
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=model(GOOD)))
        result = await session.run("bill Ada", output=Invoice)
    assert result.output == Invoice(customer="Ada", cents=1200)
    assert (result.status, result.stop, result.iterations) == ("completed", "end_turn", 1)


@pytest.mark.parametrize(
    ("kind", "said", "expected"),
    [
        (Point, '{"x": 1}', Point(1)),
        (Note, '{"text": "hi"}', {"text": "hi"}),
        (Order, '{"item": "tea", "count": 2}', Order(item="tea", count=2)),
        (int, '{"value": 7}', 7),
        (list[Invoice], f'{{"value": [{GOOD}]}}', [Invoice("Ada", 1200)]),
        (Literal["yes", "no"], '{"value": "no"}', "no"),
        (int | None, '{"value": null}', None),
        (dict[str, int], '{"value": {"a": 1}}', {"a": 1}),
        (
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            '{"a": 1}',
            {"a": 1},
        ),
        ({"type": "array", "items": {"type": "integer"}}, '{"value": [1, 2]}', [1, 2]),
    ],
    ids=str,
)
async def test_any_type_with_a_schema_will_do(kind: Any, said: str, expected: Any) -> None:
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=model(said)))
        assert (await session.run("go", output=kind)).output == expected


class Paid(msgspec.Struct, tag="paid"):
    cents: int


class Owed(msgspec.Struct, tag="owed"):
    to: str


async def test_a_union_of_tagged_structs_gives_the_one_that_was_meant() -> None:
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=model('{"value": {"type": "owed", "to": "Bo"}}')))
        assert (await session.run("go", output=Paid | Owed)).output == Owed("Bo")


async def test_the_model_is_told_everything_that_is_wrong_and_answers_again() -> None:
    seen: list[Request] = []

    def choose(request: Request) -> Any:
        seen.append(request)
        return say(GOOD if len(seen) == 2 else '{"customer": 5, "cents": -3}')

    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=Sim.rule(choose)))
        result = await session.run("bill Ada", output=Invoice)
        messages = await session.messages()
    assert result.output.cents == 1200
    assert result.iterations == 2
    told = seen[1].messages[-1].text
    assert 'customer: 5 is not of type "string"' in told
    assert "cents: -3 is less than the minimum of 0" in told
    assert seen[1].messages[-2].text == '{"customer": 5, "cents": -3}', "the candidate itself"
    assert [message.role for message in messages] == ["user", "assistant", "user", "assistant"]


async def test_a_types_own_checks_count_and_are_told() -> None:
    async with Runtime() as runtime:
        agent = Agent(model=model('{"item": "tea", "count": 0}', '{"item": "tea", "count": 1}'))
        session = await runtime.session(agent)
        assert (await session.run("go", output=Order)).output.count == 1
        assert "count: Value error, order at least one" in (await session.messages())[2].text


async def test_when_repairs_run_out_the_turn_fails_and_keeps_the_last_candidate() -> None:
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=model("no", "nope", '{"customer": "Ada"}')))
        result = await session.run("bill Ada", output=Invoice, repairs=2)
    assert (result.status, result.stop, result.iterations) == ("failed", "invalid_output", 3)
    assert result.error is not None
    assert '"cents" is a required property' in result.error.message
    assert result.answer is not None
    assert not result.answer.fits
    with pytest.raises(NoOutput, match="3 attempts") as caught:
        _ = result.output
    assert caught.value.candidate == '{"customer": "Ada"}'


async def test_without_repairs_the_first_answer_decides() -> None:
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=model("no")))
        result = await session.run("bill Ada", output=Invoice, repairs=0)
    assert result.stop == "invalid_output"
    assert result.iterations == 1


@pytest.mark.parametrize("words", [f"Here you are:\n```json\n{GOOD}\n```\nBye.", f"The bill: {GOOD} Done."])
async def test_an_answer_between_other_words_is_found(words: str) -> None:
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=model(words)))
        assert (await session.run("bill", output=Invoice)).output.customer == "Ada"


@tool(effect="pure")
async def look_up(name: str) -> str:
    """Look a customer up."""
    return f"{name} owes 1200"


async def test_a_model_that_cannot_be_held_to_a_schema_answers_with_a_tool() -> None:
    seen: list[Request] = []

    def choose(request: Request) -> Any:
        seen.append(request)
        steps = [
            call("look_up", name="Ada"),
            call("final_answer", customer="Ada"),
            call("final_answer", customer="Ada", cents=1200),
        ]
        return steps[len(seen) - 1]

    sim = Sim.rule(choose)
    sim.answers_by = "tool"
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=sim, tools=[look_up]))
        result = await session.run("bill Ada", output=Invoice)
        untyped = await runtime.session(Agent(model=model("hello"), tools=[look_up]))
        assert (await untyped.run("hi")).output == "hello"
    assert result.output == Invoice("Ada", 1200)
    assert (result.iterations, result.stop) == (3, "end_turn")
    assert [spec.name for spec in seen[0].tools] == ["look_up", "final_answer"]
    assert seen[0].tools[1].parameters["required"] == ["customer", "cents"]
    assert "cents" in seen[2].messages[-1].text, "the problems are the call's result"


async def test_an_answer_by_tool_counts_at_the_iteration_limit_too() -> None:
    sim = Sim.script(call("final_answer", customer="Ada", cents=1))
    sim.answers_by = "tool"
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=sim, limits=Limits(max_iterations=1)))
        assert (await session.run("bill", output=Invoice)).output.cents == 1


async def test_a_model_that_can_only_be_told_is_told_in_words() -> None:
    sim = Sim.script(say(GOOD))
    sim.answers_by = "words"
    async with Runtime() as runtime:
        session = await runtime.session(Agent("Be brief.", model=sim))
        assert (await session.run("bill", output=Invoice)).output.customer == "Ada"
    asked = sim.requests[0]
    assert asked.output is None
    assert asked.instructions.startswith("Be brief.")
    assert '"cents"' in asked.instructions


async def test_the_shape_is_part_of_the_turns_manifest() -> None:
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=model(GOOD, "hello", GOOD)))
        await session.run("a", output=Invoice)
        await session.run("b")
        await session.run("c", output=Invoice)
        began = [event.data.manifest for event in await session.events() if event.type == "turn.started"]
    assert began[0] == began[2] != began[1]


async def test_each_try_is_on_the_log() -> None:
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=model("no", GOOD)))
        await session.run("a", output=Invoice)
        checked = [event.data for event in await session.events() if isinstance(event.data, OutputChecked)]
    assert [(it.fits, bool(it.problems), it.repair is not None) for it in checked] == [
        (False, True, True),
        (True, False, False),
    ]


async def test_a_process_that_does_not_know_the_type_holds_the_model_to_the_schema(tmp_path: Path) -> None:
    agent = Agent(name="biller", model=model("no", GOOD))
    async with Runtime(tmp_path / "a.db") as first:
        session = await first.session(agent)
        await session.update(title="a bill")
    async with Runtime(tmp_path / "a.db") as asking, Runtime(tmp_path / "a.db", agents=[agent]) as driving:
        elsewhere = await asking.open(session.id, agent, drive=False)
        turn = await elsewhere.send("bill", output=Invoice, key="one")
        with pytest.raises(NoOutput, match="queued"):
            _ = (await turn).output
        await driving.drive(session.id)
        assert (await turn).output == Invoice("Ada", 1200)
        plain = await (await driving.open(session.id)).handle(turn.id)
        assert plain.output == {"customer": "Ada", "cents": 1200}, "without the type it is plain data"
        again = await elsewhere.send("bill", output=Invoice, key="one")
        assert again.id == turn.id
        assert (await again).output == Invoice("Ada", 1200)


@pytest.mark.parametrize("kind", [complex, object(), lambda: 1, Invoice | Point])
async def test_a_type_without_a_schema_is_refused_before_anything_is_accepted(kind: Any) -> None:
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=model(GOOD)))
        with pytest.raises(OutputTypeError, match="cannot be used"):
            await session.run("bill", output=kind)
        assert session.state.sequence == 0 or not await session.messages()


async def test_repairs_have_a_bound() -> None:
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=model(GOOD)))
        with pytest.raises(OutputTypeError, match="from 0 to 20"):
            await session.run("bill", output=Invoice, repairs=21)


async def test_steering_after_a_good_answer_asks_for_another() -> None:
    async with Runtime() as runtime:
        sim = Sim.script(say("no"), say(GOOD))
        session = await runtime.session(Agent(model=sim, config=Config()))
        turn = await session.send("bill", output=Invoice)
        await session.steer("make it 1200")
        assert (await turn).output.cents == 1200


class Report(msgspec.Struct):
    title: str
    points: list[Point]
    score: float


async def partials(kind: Any, said: str) -> list[Any]:
    pieces = [said[at : at + 3] for at in range(0, len(said), 3)]
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=Sim.script(say(said, pieces=tuple(pieces)))))
        turn = await session.send("go", output=kind)
        return [partial async for partial in turn.partials()]


async def test_what_is_complete_of_an_answer_can_be_read_while_it_is_written() -> None:
    said = '{"title": "a \\"b\\", {c", "points": [{"x": 1}, {"x": 2, "y": 3}], "score": 0.5}'
    seen = await partials(Report, said)
    assert seen == [
        {"title": 'a "b", {c'},
        {"title": 'a "b", {c', "points": [Point(1), Point(2, 3)]},
        {"title": 'a "b", {c', "points": [Point(1), Point(2, 3)], "score": 0.5},
    ]


async def test_of_a_list_the_items_that_are_complete_can_be_read() -> None:
    seen = await partials(list[Point], 'So: {"value": [{"x": 1}, {"x": 2}]} there.')
    assert seen == [[Point(1)], [Point(1), Point(2)]]


async def test_what_does_not_fit_is_not_shown() -> None:
    assert await partials(Invoice, '{"customer": "Ada", "cents": -5}') == [{"customer": "Ada"}]


async def test_only_a_turn_that_was_sent_with_a_type_has_partials() -> None:
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=model("hello")))
        turn = await session.send("hi")
        with pytest.raises(UsageError, match="output="):
            await anext(turn.partials())
        await turn


async def test_an_answer_by_tool_is_no_tool_call_for_a_budget() -> None:
    sim = Sim.script(call("look_up", name="Ada"), call("final_answer", customer="Ada", cents=1))
    sim.answers_by = "tool"
    budget = Budget(scope="turn", quantity="tool_calls", hard=1)
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=sim, tools=[look_up], config=Config(budgets=(budget,))))
        assert (await session.run("bill", output=Invoice)).output.cents == 1


async def test_what_fits_the_schema_only_is_no_answer_of_the_type(tmp_path: Path) -> None:
    agent = Agent(name="shop", model=model('{"item": "tea", "count": 0}'))
    async with Runtime(tmp_path / "a.db") as first:
        session = await first.session(agent)
        await session.update(title="an order")
    async with Runtime(tmp_path / "a.db") as asking, Runtime(tmp_path / "a.db", agents=[agent]) as driving:
        elsewhere = await asking.open(session.id, agent, drive=False)
        turn = await elsewhere.send("order", output=Order)
        await driving.drive(session.id)
        result = await turn
        with pytest.raises(NoOutput, match="order at least one") as caught:
            _ = result.output
    assert caught.value.candidate == '{"item": "tea", "count": 0}'
    assert result.error is not None


async def test_the_model_is_told_three_times_at_most_unless_somebody_says_otherwise() -> None:
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=Sim.always(say("no"))))
        result = await session.run("bill Ada", output=Invoice)
    assert (result.status, result.stop, result.iterations) == ("failed", "invalid_output", 4)
