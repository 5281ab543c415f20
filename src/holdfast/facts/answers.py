"""What the answer of a turn must look like, and what became of each try at it."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Struct

from holdfast.facts.fact import Fact
from holdfast.messages import Message

ANSWER = "final_answer"
"""The tool that a model answers with where its provider cannot be held to a schema."""


class OutputContract(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The shape of a turn's answer. It is on the log with the input, so that any process can hold the model to it."""

    name: str
    schema: dict[str, Any]
    """A JSON Schema of type object."""
    wrapped: bool = False
    """Whether the answer is the property `value` of that object, because it is no object itself."""
    repairs: int = 3
    """How often the model is told what is wrong with its answer."""


class OutputChecked(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An answer was held against the turn's output contract: it fits, or these are all its problems."""

    kind: ClassVar[str] = "output.checked"
    message_id: str
    """The reply that holds the answer."""
    call_id: str = ""
    """The call whose arguments are the answer, where it was given that way."""
    fits: bool = False
    text: str | None = None
    """The answer, where it is not all of the reply's words or of the call's arguments."""
    problems: tuple[str, ...] = ()
    repair: Message | None = None
    """What the model is told; None where it reads it as the call's result, or is not asked again."""


FACTS: tuple[type[Fact], ...] = (OutputChecked,)
"""The kinds of this subject."""
