"""Fit: hold what the model answers to the turn's output contract.

How the model is told the shape depends on who is asked (`way_of`): a provider that can be held to a schema is; else the
model answers by calling a tool that is nothing but the answer's shape; as a last resort it is told in words. Whatever
the way, what counts is whether the answer fits here. One that does not is shown to the model with everything that is
wrong with it, as often as the contract says; then the turn fails, and keeps the last candidate.
"""

from __future__ import annotations

import msgspec
from msgspec import structs

from holdfast.driver import AnswersBy, OutputSpec, Request, ToolSpec, Transcript
from holdfast.errors import DriverError
from holdfast.events import ToolCompleted
from holdfast.facts.answers import ANSWER, OutputChecked, OutputContract
from holdfast.ids import new_id
from holdfast.journal import Journal
from holdfast.manifest import Manifest, Route
from holdfast.messages import Message, Text, ToolCall
from holdfast.shape import InvalidAnswer, Shape, json_in, shape_from
from holdfast.state import TurnState
from holdfast.turn.call import plain, result_of


class Shapes(dict[bytes, Shape]):
    """The shapes that this process knows the types of, by their contracts."""

    lasting = True

    def know(self, shape: Shape) -> None:
        """Hold answers to the type itself, which may check more than its schema says."""
        self[_encoded(shape.contract)] = shape

    def of(self, contract: OutputContract) -> Shape:
        """The shape of a contract: of its type, where that is known here, else of its schema."""
        name = _encoded(contract)
        if name not in self:
            self[name] = shape_from(contract)
        return self[name]


def _encoded(contract: OutputContract) -> bytes:
    return msgspec.json.encode(contract, order="sorted")


def typed(request: Request, route: Route, contract: OutputContract) -> Request:
    """The request for an answer of this shape."""
    match way_of(route, contract):
        case "schema":
            return structs.replace(request, output=spec_of(contract))
        case "tool":
            return structs.replace(request, tools=(*request.tools, tool_of(contract)))
        case "words":
            told = f"{request.instructions}\n\n{words_of(contract)}".strip()
            return structs.replace(request, instructions=told)


def way_of(route: Route, contract: OutputContract) -> AnswersBy:
    """How the model of this route is told the shape: as its driver says (`answers_by`), if it takes this schema."""
    way: AnswersBy = getattr(route.driver, "answers_by", "tool")
    if way != "schema":
        return way
    try:
        route.driver.encode(Request(model=route.name, messages=Transcript(), output=spec_of(contract)))
    except DriverError:
        return "tool"
    return "schema"


def spec_of(contract: OutputContract) -> OutputSpec:
    """The contract as a driver takes it."""
    return OutputSpec(name=contract.name, schema=contract.schema)


def tool_of(contract: OutputContract) -> ToolSpec:
    """The tool that is nothing but the answer's shape."""
    text = (
        "Give your final answer: call this once, when everything else is done. Its arguments are the answer."
    )
    return ToolSpec(name=ANSWER, description=text, parameters=contract.schema)


def words_of(contract: OutputContract) -> str:
    """The shape in words."""
    schema = msgspec.json.encode(contract.schema).decode()
    return (
        "Your final answer must be one JSON object that fits this JSON Schema, and nothing else: no other words, no "
        f"code fence.\n{schema}"
    )


def check_reply(message: Message, turn: TurnState, journal: Journal) -> OutputChecked | None:
    """What comes of the model's last words, when this turn has a contract: they are its answer."""
    if turn.contract is None or message.calls:
        return None
    text = message.text
    answer = json_in(text)
    found = _problems(answer, turn.contract, journal)
    checked = OutputChecked(message_id=message.id, fits=not found, text=None if answer == text else answer)
    if not found:
        return checked
    may_repair = turn.rejections < turn.contract.repairs
    return structs.replace(checked, problems=found, repair=_repair(found) if may_repair else None)


def is_answer(call: ToolCall, turn: TurnState, manifest: Manifest) -> bool:
    """Whether this call is the answer itself."""
    return turn.contract is not None and call.name == ANSWER and ANSWER not in manifest.tools


def check_call(call: ToolCall, turn: TurnState, journal: Journal) -> tuple[OutputChecked, ToolCompleted]:
    """What comes of a call of the answer's own tool, and the result that the model reads."""
    assert turn.contract is not None
    found = _problems(call.arguments, turn.contract, journal)
    checked = OutputChecked(message_id=turn.output_id, call_id=call.id, fits=not found, problems=found)
    said = _wrong(found) if found else "This is the answer."
    return checked, ToolCompleted(result=result_of(call, said, "error" if found else "ok"))


def _problems(text: str, contract: OutputContract, journal: Journal) -> tuple[str, ...]:
    try:
        journal.derived(Shapes).of(contract).read(text)
    except InvalidAnswer as error:
        return tuple(plain(problem) for problem in error.problems)
    return ()


def _repair(problems: tuple[str, ...]) -> Message:
    return Message(id=new_id("message"), role="user", content=(Text(text=_wrong(problems)),))


def _wrong(problems: tuple[str, ...]) -> str:
    listed = "\n".join(f"- {problem}" for problem in problems)
    return (
        f"Your answer does not have the shape that was asked for. Everything that is wrong with it:\n{listed}\n"
        "Give the whole answer again, corrected."
    )
