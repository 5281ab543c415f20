"""Questions: the model asks a person something, and goes on with the answer.

    Agent("You book trips.", capabilities=["questions"])
    CapabilityRef(name="questions", config={"who": ["*@example.com"], "expires_in": 3600})

An answer is words for the model. It is never an approval: what needs one is asked about apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, structs

from holdfast.asking import AskFor, Client
from holdfast.capability import Capability
from holdfast.errors import ConfigError
from holdfast.tool import tool

_Question = Annotated[str, Meta(min_length=1, max_length=4_000)]
_Option = Annotated[str, Meta(min_length=1, max_length=200)]
_Options = Annotated[tuple[_Option, ...], Meta(max_length=20)]


class _Config(Struct, frozen=True, forbid_unknown_fields=True):
    """What can be set."""

    who: tuple[str, ...] = ()
    expires_in: float | None = None
    default: str | None = None
    owner: str = ""


@tool(effect="pure", client=True)
def ask_user(question: _Question, options: _Options = (), free_text: bool = True) -> str:
    """Ask the user a question and wait for the answer. Use it when you cannot go on without knowing.

    Args:
        question: What you want to know, in full: the user sees nothing else.
        options: Answers to choose from, if there are a few.
        free_text: Whether the user may answer in words of their own although there are options.
    """
    raise NotImplementedError("a person answers: what a client is asked for is never run")


def questions(config: Mapping[str, Any]) -> Capability:
    """The capability. `who` may answer (names or patterns), `expires_in` seconds, the `default` answer then (without
    one the call is denied), and its `owner`, in words. Raises `ConfigError` for a configuration that does not fit."""
    try:
        given = msgspec.convert(dict(config), _Config)
        terms = AskFor(
            reason="",
            owner=given.owner,
            who=given.who,
            expires_in=given.expires_in,
            on_expiry="deny" if given.default is None else "default",
            default=given.default,
        )
    except ValueError as error:
        raise ConfigError(f'capability "questions": {error}') from error
    return Capability(
        name="questions",
        description="Lets the model ask the user a question.",
        tools=(structs.replace(ask_user, client=Client(wants="answer", terms=terms)),),
    )
