"""The facts about hooks after a turn, and what a hook before a turn made of an input.

That hooks are owed is recorded with the end of their turn, and that they ran afterwards: a process that dies in between
leaves them owed, and whoever goes on with the session runs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar

from msgspec import Struct, structs

from holdfast.facts.fact import Fact
from holdfast.messages import Message, Text


class HooksOwed(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The hooks after this turn are about to run for the `attempt`-th time."""

    kind: ClassVar[str] = "hooks.owed"
    attempt: int = 1


class HooksRun(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The hooks after this turn ran, or (with a `reason`) were given up."""

    kind: ClassVar[str] = "hooks.run"
    reason: str = ""


FACTS: tuple[type[Fact], ...] = (HooksOwed, HooksRun)
"""The kinds of this subject."""


class Aftermath(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Hooks after a turn of which nobody has said yet that they ran."""

    since: datetime
    attempt: int = 1


class Retold(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the model is told in place of an input's words, and the hooks that made it so."""

    text: str
    by: tuple[str, ...] = ()


def retell(message: Message, text: str) -> Message:
    """The message with these words in place of its own. Images and documents stay."""
    rest = [part for part in message.content if not isinstance(part, Text)]
    return structs.replace(message, content=((Text(text=text), *rest) if text else tuple(rest)))


def as_told(messages: Sequence[Message], retold: Mapping[str, Retold]) -> Sequence[Message]:
    """The messages as the model is told them."""
    return [retell(it, retold[it.id].text) if it.id in retold else it for it in messages]
