"""An approver: a function of the application that is asked right away, before a person is.

async def clerk(ask: AskOpened) -> Allow | Deny | Modify | None:
    ...

Runtime("desk.db", approver=Approver(name="clerk@desk", decide=clerk, timeout=20))
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from msgspec import Struct

from holdfast.asking import check_name
from holdfast.errors import AnswerForbidden, ConfigError
from holdfast.facts.asks import AskOpened
from holdfast.hook import Allow, Deny, Modify

Answering = Callable[[AskOpened], Awaitable[Allow | Deny | Modify | None]]
"""Allow, deny, allow with other arguments or give the result (`Modify`), or leave the ask to others (None)."""


class Approver(Struct, frozen=True, kw_only=True):
    """Who is asked first, in the process that runs the turn. What it answers is recorded under its name.

    It is asked once about each ask, and again by the process that takes a turn over. It is not asked about what it may
    not answer (nothing, where it is called like the session's agent, tools or models), and its answer counts like
    anybody's: once, when nobody was faster. Raises `ConfigError` for no name, for one of any agent's side, and for a
    time that is none.
    """

    name: str
    decide: Answering
    timeout: float = 30.0
    """Seconds; then it has failed."""
    on_failure: Literal["open", "deny"] = "open"
    """What becomes of the ask when it raises, takes too long or answers nonsense: it waits for others, or is denied."""

    def __post_init__(self) -> None:
        try:
            check_name(self.name, (), "approve anything")
        except AnswerForbidden as error:
            raise ConfigError(f"an approver needs a name, recorded with its answers: {error}") from None
        if not self.timeout > 0:
            raise ConfigError(
                f"the timeout of approver {self.name!r} is {self.timeout!r}; give seconds above 0"
            )

    def describe(self) -> dict[str, object]:
        """What of this approver changes behaviour, as plain data."""
        return {"name": self.name, "timeout": self.timeout, "on_failure": self.on_failure}


def approver_of(given: Approver | Answering | None) -> Approver | None:
    """The approver, made of a plain async function where one was given. Raises `ConfigError` for anything else."""
    if given is None or isinstance(given, Approver):
        return given
    if not callable(given):
        raise ConfigError(f"{given!r} is no approver; give an async function of an ask, or Approver(...)")
    return Approver(name=getattr(given, "__name__", "approver"), decide=given)
