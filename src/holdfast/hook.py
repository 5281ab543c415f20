"""Decisions, and the hooks that make them.

Watching is not a hook: read the journal. A hook is awaited at a point of the turn, receives one frozen value, and
returns a decision or None. The first `Deny` wins.

    before_turn    may deny the input, or change what the model is told of it
    before_reason  may deny the model call
    before_tool    may deny the call, change its arguments, or ask
    after_tool     may replace the result, or withhold it
    after_turn     advisory
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal, get_args

from msgspec import Struct

from holdfast.asking import AskFor as AskFor
from holdfast.errors import ConfigError
from holdfast.messages import Message, ToolResult

MAX_TIMEOUT = 30.0
"""Seconds that any hook may take."""

Point = Literal["before_turn", "before_reason", "before_tool", "after_tool", "after_turn"]


class Allow(Struct, frozen=True, kw_only=True):
    """Go on."""


class Deny(Struct, frozen=True):
    """Do not do this one thing. The model reads the reason and goes on."""

    reason: str
    code: str = ""
    """Stable, for programs: what a policy's decision is recorded under, `policy.denied` when not given."""


class Modify(Struct, frozen=True, kw_only=True):
    """Do it with these arguments (before a tool, JSON text), take this result (after one), or have the model told these
    words in place of the input's (before a turn; the log keeps what was said, and images and documents stay)."""

    arguments: str | None = None
    result: str | None = None
    message: str | None = None
    reason: str = ""


class Interrupt(Struct, frozen=True):
    """End the turn now."""

    reason: str
    code: str = ""
    """As for `Deny`; `policy.interrupted` when not given."""


class Defer(Struct, frozen=True, kw_only=True):
    """Not before this instant. One that has come already lets it go on."""

    until: datetime
    """With a time zone."""
    reason: str = ""


Decision = Allow | Deny | Modify | AskFor | Interrupt | Defer
"""What a hook or policy may answer."""


class HookEvent(Struct, frozen=True, kw_only=True):
    """What a hook is told. Fields that do not belong to its point are empty."""

    point: Point
    session_id: str
    turn_id: str
    message: Message | None = None
    """The input, as the model would be told it (before_turn), or the last message (before_reason, after_turn)."""
    tool: str = ""
    call_id: str = ""
    arguments: str = ""
    result: ToolResult | None = None
    status: str = ""
    """How the turn ended: `completed`, `failed` or `cancelled` (after_turn)."""
    attempt: int = 1
    """Above 1 when the hooks after this turn ran before, and nobody knows how far they came."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hook:
    """An awaited function at one point of the turn."""

    is_data: ClassVar[bool] = False
    """Whether it is plain data, without code of this process."""

    id: str
    """Namespaced, such as `files:before_tool`; part of the manifest's digest. One that a capability brings begins with
    the capability's name, whatever it says here."""
    point: Point
    run: Callable[[HookEvent], Awaitable[Decision | None]]
    guard: bool = False
    """A guard that raises or runs out of time denies; another is reported and passed over."""
    timeout: float = 5.0
    """Seconds, at most 30."""
    keep_original: bool = False
    """Whether a result that it replaces is kept as a blob; otherwise it is on no disk."""

    @property
    def patience(self) -> float:
        """Seconds after which it is given up, whatever it waits for."""
        return min(self.timeout, MAX_TIMEOUT)

    def check(self) -> None:
        """Raise `ConfigError` when it could not run here, as far as that can be known before it does."""
        if self.point not in get_args(Point):
            points = ", ".join(get_args(Point))
            raise ConfigError(f"hook {self.id}: there is no point {self.point!r}; choose from {points}")
        if not callable(self.run):
            raise ConfigError(f"hook {self.id}: run={self.run!r} is no async function")
        if not self.timeout > 0:
            raise ConfigError(f"hook {self.id}: timeout is {self.timeout!r}; give seconds above 0")

    def check_outside(self, root: str) -> None:
        """Raise `ConfigError` when the agent, which may write in this directory, could change what it runs. A function
        of this process is nothing that it could change.
        """

    def describe(self) -> dict[str, object]:
        """What of this hook changes behaviour, as plain data."""
        told = {"id": self.id, "point": self.point, "guard": self.guard, "timeout": self.timeout}
        return {**told, "keep_original": True} if self.keep_original else told


def check_outside(hooks: Iterable[Hook], files: object) -> None:
    """Raise `ConfigError` when whoever writes these files could change what a hook runs."""
    root = getattr(files, "writable_root", "")
    for hook in hooks if root else ():
        hook.check_outside(root)
