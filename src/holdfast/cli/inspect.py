"""`holdfast inspect`: what would be sent next. Nothing is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import click
import msgspec

from holdfast import Inspection, Message, UnknownModel, UsageError
from holdfast.cli.given import missing_here
from holdfast.cli.place import Place, db_option, find, writing
from holdfast.cli.text import clean, count, one_line, to_resolve


@click.command()
@click.argument("session", default="last")
@click.argument("prompt", required=False)
@click.option("--json", "as_json", is_flag=True, help="The request's body, exactly as it would be sent.")
@db_option
def inspect(session: str, prompt: str | None, as_json: bool, db: Place) -> None:
    """Show the next request of a session, without sending it.

    As it would be after PROMPT, when there is one. Records nothing. SESSION is the latest when not given.
    """
    found = asyncio.run(upcoming(db, session, prompt))
    click.echo(found.body if as_json else "\n".join(described(found)))


async def upcoming(db: Place, name: str, prompt: str | None) -> Inspection:
    """The next request of this session. Raises `UsageError` where only its program could make it."""
    async with writing(db) as runtime:
        session = await runtime.open(await find(runtime, name), read_only=True)
        missing = ", ".join(await missing_here(runtime, session.state))
        try:
            found = await session.inspect(prompt)
        except UnknownModel as error:
            if not missing:
                raise
            raise UsageError(
                f"session {session.id} was made with {missing}, which is not known here; call session.inspect() in "
                "the program that made it, or set HOLDFAST_MODEL to see the rest"
            ) from error
        for call in session.in_doubt:
            how = to_resolve(session.id, call.call_id)
            click.echo(f"note: {clean(call.name)} is in doubt, and the model reads so; {how}", err=True)
        if missing:
            click.echo(f"note: without {missing}, which only the program that made it can give", err=True)
        return found


def described(found: Inspection) -> Iterator[str]:
    """An inspection in lines of text."""
    request, manifest = found.request, found.manifest
    yield f"model         {clean(', '.join(route.model for route in manifest.routes))}"
    yield f"manifest      {manifest.digest}"
    yield f"tools         {', '.join(manifest.tools) or '(none)'}"
    settings = msgspec.to_builtins(request.settings)
    yield f"settings      {clean(str(settings)) if settings else '(the provider decides)'}"
    yield f"instructions  {count(len(request.instructions), 'character')}"
    yield from (f"  {clean(line)}" for line in request.instructions.splitlines())
    yield f"messages      {len(request.messages)}"
    yield from (f"  {number:>3}  {_shown(message)}" for number, message in enumerate(request.messages, 1))
    yield f"body          {len(found.body):,} bytes; --json prints it"


def _shown(message: Message) -> str:
    calls = [f"{call.name} {call.arguments}" for call in message.calls]
    return f"{message.role:<9}  {one_line(' '.join([message.text, *calls]), 100)}"
