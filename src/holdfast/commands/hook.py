"""Hooks that are commands: JSON in on standard input, one decision out on standard output.

    CommandHook(id="shop:limits", point="before_tool", argv=("python3", "limits.py"), cwd="/srv/shop", guard=True)

The command is told what a hook is told, and a nonce that only this asking has. It answers with exactly one JSON object
that repeats the nonce: what it merely echoes can be no decision. Anything else is a failure, as is an exit code other
than 0: a guard then refuses, another hook is passed over. One that is no guard may say nothing at all.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from threading import Event
from typing import Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType, structs

from holdfast.commands.process import MARK, Bounds, Said, converse
from holdfast.errors import ConfigError, MissingExecutor
from holdfast.hook import (
    MAX_TIMEOUT,
    Allow,
    AskFor,
    Decision,
    Defer,
    Deny,
    Hook,
    HookEvent,
    Interrupt,
    Modify,
)
from holdfast.messages import Message

MAX_OUTPUT = 1_048_576
"""Bytes that a command may write to standard output; a sixteenth of it to standard error."""

AT_ONCE = 16
"""Commands of one process that run at the same time; further ones wait."""

QUEUE = 60.0
"""Seconds for which one waits for its turn."""

MIN_SECRET = 8
"""Characters of a value in its environment that is taken out of what is said of its failures."""

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
"""All that a command finds in its environment besides what its hook gives it. Nothing is inherited."""

MAY: dict[str, frozenset[str]] = {
    "before_turn": frozenset({"allow", "deny", "modify", "interrupt"}),
    "before_reason": frozenset({"allow", "deny", "interrupt"}),
    "before_tool": frozenset({"allow", "deny", "modify", "ask", "interrupt", "defer"}),
    "after_tool": frozenset({"allow", "deny", "modify", "interrupt"}),
    "after_turn": frozenset({"allow"}),
}
"""What a command may decide at each point."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandHook(Hook):
    """A command at one point of the turn. Raises `ConfigError` for one that could never run."""

    is_data: ClassVar[bool] = True

    argv: tuple[str, ...] = ()
    """The program and its arguments. No shell reads them."""
    shell: str = ""
    """Instead of `argv`: a line for `/bin/sh`. Nothing of a turn is ever put into it."""
    cwd: str
    """An absolute path."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    """Beyond `ENVIRONMENT`. May hold credentials: only the names are ever shown."""
    changeable: bool = False
    """Whether what it runs may lie where the agent can write; otherwise such a session is refused."""
    run: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given: Any = self.argv
        if not isinstance(given, tuple) or not all(_is_text(it) for it in given) or not _is_text(self.shell):
            raise ConfigError(f"hook {self.id}: argv is {given!r}; give a tuple of strings, or shell=")
        if bool(self.argv) == bool(self.shell) or (self.argv and not self.argv[0]):
            raise ConfigError(f"hook {self.id}: give either argv=(program, argument, ...) or shell=")
        if not 0 < self.timeout <= MAX_TIMEOUT:
            raise ConfigError(f"hook {self.id}: timeout is {self.timeout!r}; give at most {MAX_TIMEOUT:g} s")
        if not os.path.isabs(self.cwd):
            raise ConfigError(f"hook {self.id}: cwd is {self.cwd!r}; give an absolute path")
        for name, value in self.environment.items():
            if not (_is_text(name) and name and "=" not in name and _is_text(value)):
                raise ConfigError(
                    f"hook {self.id}: {name!r} cannot be in an environment; give names and texts"
                )
        object.__setattr__(self, "run", self._run)

    @property
    def words(self) -> tuple[str, ...]:
        """What is started."""
        return self.argv or ("/bin/sh", "-c", self.shell)

    @property
    def patience(self) -> float:
        """Its own time begins when it is started: until then it may wait in line."""
        return self.timeout + QUEUE

    def check(self) -> None:
        """Raise `MissingExecutor` when there is no such program, or no such directory to run it in."""
        Hook.check(self)
        _ = self.program

    @property
    def program(self) -> str:
        """The path of what is started, whatever stands on a PATH by the time it is. Raises `MissingExecutor`."""
        if not os.path.isdir(self.cwd):
            raise MissingExecutor(f"hook {self.id} runs in {self.cwd}, and there is no such directory")
        name, path = self.words[0], self._environment()["PATH"]
        places = [self.cwd] if "/" in name else [it for it in path.split(":") if os.path.isabs(it)]
        found = [it for place in places if os.path.isfile(it := os.path.join(place, name))]
        if not found:
            where = f"in {self.cwd}" if "/" in name else f"on its PATH, {path}"
            raise MissingExecutor(f"hook {self.id} runs {name!r}, and there is no such program {where}")
        able = [it for it in found if os.access(it, os.X_OK)]
        if not able:
            raise MissingExecutor(f"hook {self.id} runs {found[0]}, which is not executable; chmod +x it")
        return able[0]

    def check_outside(self, root: str) -> None:
        """Raise `ConfigError` when the agent, which may write in this directory, could change what it runs."""
        words = self.argv[1:] or shell_words(self.shell)
        named = [self.program, *(os.path.join(self.cwd, word) for word in words)]
        for path in [] if self.changeable else [os.path.realpath(it) for it in named if os.path.isfile(it)]:
            if os.path.commonpath([path, root]) == root:
                raise ConfigError(
                    f"hook {self.id} runs {path}, and the agent may write in {root}; keep it elsewhere, or say "
                    "changeable=True"
                )

    def describe(self) -> dict[str, object]:
        """What of it changes behaviour. Holds no value of its environment."""
        told = {"argv": self.argv} if self.argv else {"shell": self.shell}
        names = sorted(self.environment)
        return {**Hook.describe(self), **told, "cwd": self.cwd, "environment": names}

    def _environment(self) -> dict[str, str]:
        return {**ENVIRONMENT, **self.environment}

    async def _run(self, event: HookEvent) -> Decision | None:
        try:
            decision = await self._asked(event)
        except CommandFailed as error:
            wrote = self._without_secrets(error.wrote.decode(errors="replace"))
            raise CommandFailed(self._without_secrets(str(error)) + _hint(wrote)) from None
        if decision is None or isinstance(decision, Allow):
            return decision
        return structs.replace(decision, reason=self._without_secrets(decision.reason))

    def _without_secrets(self, text: str) -> str:
        """Without the values of its environment, as they are, line by line, and with the escapes of JSON."""
        values = self.environment.values()
        forms = {it for value in values for it in (value, json.dumps(value)[1:-1], *value.splitlines())}
        for form in sorted(forms, key=len, reverse=True):
            text = text.replace(form, "[withheld]") if len(form) >= MIN_SECRET else text
        return text

    async def _asked(self, event: HookEvent) -> Decision | None:
        nonce = os.urandom(16).hex()
        argv = (self.program, *self.words[1:])
        said = await _said(self, argv, told(event, self.id, nonce), self._environment())
        if said.ended:
            raise CommandFailed(said.ended)
        if said.code != 0:
            how = f"exit code {said.code}" if said.code > 0 else f"signal {-said.code}"
            raise CommandFailed(f"it ended with {how}", said.stderr)
        if not said.stdout.strip() and not self.guard:
            return None
        return read_decision(said.stdout, event, nonce)


def shell_words(line: str) -> list[str]:
    """The words of a line for a shell, as far as that can be told without running it; rather too many than too few."""
    reader = shlex.shlex(line.replace("`", " "), posix=True, punctuation_chars=True)
    reader.whitespace_split, reader.commenters = True, ""
    try:
        return list(reader)
    except ValueError:
        return line.split()


def _is_text(given: object) -> bool:
    """Whether it can be handed to a process."""
    return isinstance(given, str) and "\0" not in given


class CommandFailed(Exception):
    """A command that gave no decision: why, and what it wrote."""

    def __init__(self, why: str, wrote: bytes = b"") -> None:
        super().__init__(why)
        self.wrote = wrote


async def _said(
    hook: CommandHook, argv: tuple[str, ...], message: bytes, environment: dict[str, str]
) -> Said:
    """Run it in a thread. When whoever waits is told to stop, the command is ended first."""
    reader, writer = os.pipe()
    begun = Event()
    bounds = Bounds(seconds=hook.timeout, stdout=MAX_OUTPUT, stderr=MAX_OUTPUT // 16)
    marked = {**environment, MARK: os.urandom(16).hex()}

    def work() -> Said:
        begun.set()
        return converse(argv, message, reader, cwd=hook.cwd, environment=marked, bounds=bounds)

    try:
        waiting = asyncio.get_running_loop().run_in_executor(_threads(), work)
        waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(waiting)
    except OSError as error:
        raise CommandFailed(f"it cannot be started: {error}") from error
    except asyncio.CancelledError:
        os.close(writer)
        writer = -1
        if begun.is_set():  # else it will find that nobody waits, and start nothing
            await asyncio.wait({waiting})
        raise
    finally:
        if writer != -1:
            os.close(writer)


@cache
def _threads() -> concurrent.futures.ThreadPoolExecutor:
    os.register_at_fork(after_in_child=_threads.cache_clear)  # threads do not live on there
    return concurrent.futures.ThreadPoolExecutor(AT_ONCE, thread_name_prefix="holdfast-command")


class _Told(Struct, kw_only=True, omit_defaults=True):
    """What a command reads: one line."""

    nonce: str
    hook: str
    point: str
    session_id: str
    turn_id: str
    message: Any = None
    tool: str = ""
    call_id: str = ""
    arguments: msgspec.Raw | UnsetType = UNSET
    result: Any = None
    status: str = ""
    attempt: int | UnsetType = UNSET


def told(event: HookEvent, name: str, nonce: str) -> bytes:
    """What a command is told, as one line of JSON. Raises `ValueError` for arguments that are none, which a hook before
    it may have put there."""
    result = event.result
    line = _Told(
        nonce=nonce,
        hook=name,
        point=event.point,
        session_id=event.session_id,
        turn_id=event.turn_id,
        message=_plain(event.message),
        tool=event.tool,
        call_id=event.call_id,
        arguments=msgspec.Raw(msgspec.json.format(event.arguments, indent=-1)) if event.arguments else UNSET,
        result=result and {"status": result.status, "text": result.text},
        status=event.status,
        attempt=event.attempt if event.point == "after_turn" else UNSET,
    )
    return msgspec.json.encode(line) + b"\n"


def _plain(message: Message | None) -> dict[str, str] | None:
    return None if message is None else {"id": message.id, "role": message.role, "text": message.text}


class _Reply(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a command may say."""

    nonce: str
    decision: Literal["allow", "deny", "modify", "ask", "interrupt", "defer"]
    reason: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"")
    """JSON, or JSON text in a string."""
    result: str | None = None
    message: str | None = None
    owner: str = ""
    who: tuple[str, ...] = ()
    expires_in: float | None = None
    until: datetime | None = None


_replies = msgspec.json.Decoder(_Reply)


def read_decision(said: bytes, event: HookEvent, nonce: str) -> Decision:
    """The one decision in what a command printed. Raises `CommandFailed` for anything else."""
    try:
        reply = _replies.decode(said)
        json.loads(said, object_pairs_hook=_each_once)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        why = f"what it printed is not one decision as JSON; print one object and nothing else: {error}"
        raise CommandFailed(why, said) from error
    if reply.nonce != nonce:
        raise CommandFailed(
            'what it printed does not repeat the nonce that it was given; answer with "nonce" as it was told'
        )
    if reply.decision not in MAY[event.point]:
        able = ", ".join(sorted(MAY[event.point]))
        raise CommandFailed(f"it decided {reply.decision!r}; {event.point} takes {able}")
    return _decision(reply, event)


def _decision(reply: _Reply, event: HookEvent) -> Decision:
    reason = reply.reason or "no reason was given"
    match reply.decision:
        case "deny":
            return Deny(reason)
        case "interrupt":
            return Interrupt(reason)
        case "ask":
            return AskFor(reason=reason, owner=reply.owner, who=reply.who, expires_in=reply.expires_in)
        case "defer":
            if reply.until is None or reply.until.tzinfo is None:
                raise CommandFailed("it decided 'defer' without until, an instant with a time zone")
            return Defer(until=reply.until, reason=reply.reason)
        case "modify":
            return _change(reply, event)
    return Allow()


_CHANGES = {"before_turn": "message", "before_tool": "arguments", "after_tool": "result"}


def _change(reply: _Reply, event: HookEvent) -> Modify:
    raw = bytes(reply.arguments)
    text = msgspec.json.decode(raw) if raw.startswith(b'"') else (raw.decode() if raw else None)
    given = {"message": reply.message, "arguments": text, "result": reply.result}
    wanted = _CHANGES[event.point]
    if given[wanted] is None or sum(it is not None for it in given.values()) != 1:
        raise CommandFailed(f"it decided 'modify', which takes {wanted} at {event.point}, and nothing else")
    return Modify(**{wanted: given[wanted]}, reason=reply.reason)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _hint(wrote: str) -> str:
    """The end of what it wrote, in short."""
    words = " ".join(wrote[-2_000:].split())
    return f": {words[-200:]}" if words else ""
