"""What a turn ran under, or an agent file would: a manifest's document, and the layers that made it."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from holdfast import Runtime, UsageError
from holdfast.agent import read_origins
from holdfast.cli.agentfile import read_agent
from holdfast.cli.place import LOOKED_THROUGH, Place, find, log_of, matches, reading, registry, the_one
from holdfast.errors import UnknownBlob, UnknownSession
from holdfast.events import Drifted, SessionCreated, TurnStarted
from holdfast.manifest import Origin
from holdfast.proof.difference import document


class Under(Struct, frozen=True, kw_only=True):
    """One manifest, as it was written down."""

    digest: str
    document: bytes = b""
    origins: tuple[Origin, ...] = ()
    session_id: str = ""
    turn_id: str = ""
    layers: str = ""
    drifted: str = ""
    """The manifest that it was begun under, where it changed on the way."""

    @property
    def about(self) -> str:
        """What it is the manifest of."""
        return f"turn {self.turn_id} of {self.session_id}" if self.turn_id else self.session_id


def file_at(name: str) -> Path | None:
    """The agent file of this name, if there is one."""
    return path if (path := Path(name)).is_file() else None


async def under_file(path: Path) -> Under:
    """What a session of this agent file would run under. Raises `ConfigError`."""
    async with Runtime(model=os.environ.get("HOLDFAST_MODEL") or None, registry=registry()) as runtime:
        manifest = (await (await runtime.session(read_agent(path))).inspect("?")).manifest
        return Under(
            digest=manifest.digest,
            document=manifest.document,
            origins=manifest.explain(),
            session_id=str(path),
        )


async def under_turn(runtime: Runtime, session_id: str, part: str | None) -> Under | None:
    """What this turn of the session ran under, the last one when none is named; None where there was none yet.

    Raises `UsageError` for a turn that is not there, or whose document is not.
    """
    turns = await _turns(runtime, session_id)
    if not turns and part is None:
        return None
    found = turns[the_one(part, turns, "turn", session_id) if part is not None else list(turns)[-1]]
    return await _whole(runtime, found)


async def _whole(runtime: Runtime, found: Under) -> Under:
    """With its document, and its layers where they are known."""
    try:
        body = await runtime.store.get_blob(found.digest)
    except UnknownBlob as error:
        raise UsageError(
            f"the document of {found.digest} is not in this store, so nobody can say what {found.about} ran under; an "
            "older Holdfast did not keep it for typed turns"
        ) from error
    origins: tuple[Origin, ...] = ()
    with suppress(UnknownBlob):
        origins = read_origins(await runtime.store.get_blob(found.layers)) if found.layers else ()
    return structs.replace(found, document=body, origins=origins)


async def _turns(runtime: Runtime, session_id: str) -> dict[str, Under]:
    """Every turn of the session, in order, with the manifest it ran under last."""
    turns: dict[str, Under] = {}
    own = ""
    async for event in log_of(runtime.store, session_id):
        turn_id = event.context.turn_id
        match event.data:
            case SessionCreated(layers=layers):
                own = layers
            case TurnStarted(manifest=digest, layers=layers):
                turns[turn_id] = Under(
                    digest=digest, session_id=session_id, turn_id=turn_id, layers=layers or own
                )
            case Drifted(choice="continue", before=before, after=after, layers=layers) if turn_id in turns:
                first = turns[turn_id].drifted or before
                turns[turn_id] = structs.replace(turns[turn_id], digest=after, layers=layers, drifted=first)
    return turns


async def side(db: Place, name: str) -> Under:
    """What is meant by a digest, a turn, `SESSION/TURN`, a session or an agent file."""
    if (path := file_at(name)) is not None:
        return await under_file(path)
    async with reading(db) as runtime:
        if re.fullmatch(r"sha256:[0-9a-f]{64}", name):
            return await _whole(runtime, Under(digest=name, session_id=name))
        session, slash, turn = name.partition("/")
        if name.startswith("turn_"):
            return await _search(runtime, name)
        session_id = await find(runtime, session)
        found = await under_turn(runtime, session_id, turn if slash else None)
        if found is None:
            raise UsageError(f"session {session_id} has had no turn yet, so it has run under nothing")
        return found


async def _search(runtime: Runtime, turn_id: str) -> Under:
    """The turn of this id, or of this unique beginning or end of one, in any session: the latest first."""
    part = turn_id.removeprefix("turn_")
    for head in await runtime.sessions(limit=LOOKED_THROUGH):
        turns = await _turns(runtime, head.session_id)
        if any(matches(part, turns)):
            return await _whole(runtime, turns[the_one(turn_id, turns, "turn", head.session_id)])
    raise UnknownSession(f"no session has a turn {turn_id}; `holdfast show SESSION` lists those of one")


def fields_of(under: Under) -> list[Origin]:
    """Each value that was set, and by which layers, lowest first. Where the layers are not known, none are named."""
    told = document(under.document)
    if under.origins:
        typed = (
            [Origin(field="output", value=told["output"]["name"], layers=("turn",))]
            if "output" in told
            else []
        )
        return [*under.origins, *typed]
    return [
        Origin(
            field=name,
            value=value if isinstance(value, str) else msgspec.json.encode(value).decode(),
            layers=(),
        )
        for name, value in told.items()
        if value not in ("", [], {}, None)
    ]
