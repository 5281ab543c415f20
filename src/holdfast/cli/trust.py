"""`holdfast trust`: whether the hooks that a directory brings with it may run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from holdfast import CapabilityRef, UsageError
from holdfast.cli.text import clean, count
from holdfast.commands.brought import FILE, FOLDER, FoundHooks
from holdfast.commands.trust import Trust
from holdfast.errors import HooksRefused

CAPABILITY = "workspace_hooks"
LOGGER = "holdfast.capabilities.workspace_hooks"


@click.command()
@click.argument("path", type=click.Path(path_type=Path), default=".")
@click.option("--look", is_flag=True, help="Show what would be trusted, and trust nothing.")
@click.option("--digest", default="", help="Trust it only when it still is what this was shown for.")
@click.option("--list", "listing", is_flag=True, help="Show what is trusted, and where.")
@click.option("--revoke", is_flag=True, help="Trust nothing at PATH any more.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per directory.")
def trust(path: Path, look: bool, digest: str, listing: bool, revoke: bool, as_json: bool) -> None:
    """Let the hooks that PATH brings with it run.

    They stand in .holdfast/hooks.toml. Trusted is exactly what is there now: the file, all that stands beside it, and
    the files of PATH that its commands name. Any change ends it. PATH is the current directory when not given.
    Exit code 0: it is so now; 2: there are no hooks, or they are not fit to be trusted.
    """
    if look + listing + revoke > 1:
        raise click.UsageError("--look, --list and --revoke are three different things")
    kept = Trust()
    if listing:
        for it in kept.listed():
            line = msgspec.json.encode(it).decode()
            click.echo(line if as_json else f"{it.at:%Y-%m-%d %H:%M}  {it.digest}  {clean(it.path)}")
    elif revoke:
        _tell(as_json, path, "revoked" if kept.revoke(path) else "none")
    else:
        _trust(kept, path, digest, as_json, look=look)


def _trust(kept: Trust, path: Path, digest: str, as_json: bool, *, look: bool) -> None:
    standing, found = kept.look(path)
    if found is None:
        raise UsageError(f"{path} brings no hooks: there is no {path / FOLDER / FILE}")
    if digest and found.digest != digest:
        raise HooksRefused(f"the hooks of {found.directory} are {found.digest} now; look at them again")
    if not as_json:
        click.echo("\n".join(_described(found)))
    if not look:
        kept.trust(found)
        standing = "trusted"
    _tell(as_json, path, standing, found)


def _tell(as_json: bool, path: Path, standing: str, found: FoundHooks | None = None) -> None:
    real = os.path.realpath(path)
    if not as_json:
        words = {
            "trusted": "trusted",
            "revoked": "nothing is trusted there any more",
            "none": "nothing was trusted there",
        }
        click.echo(f"{clean(real)}: {words.get(standing, 'not trusted')}")
        return
    told: dict[str, Any] = {"path": real, "standing": standing}
    if found is not None:
        hooks = [{**msgspec.to_builtins(it), "environment": sorted(it.environment)} for it in found.lines]
        told |= {"digest": found.digest, "files": sorted(found.files), "hooks": hooks}
    click.echo(msgspec.json.encode(told).decode())


def _described(found: FoundHooks) -> Iterator[str]:
    for it in found.lines:
        how = msgspec.json.encode(it.command).decode() if it.command else f"sh: {it.shell}"
        extra = f"  with {', '.join(sorted(it.environment))}" if it.environment else ""
        yield f"{clean(it.id):<20}  {it.point:<13}  {'guard  ' if it.guard else ''}{clean(how)}{clean(extra)}"
    yield f"{count(len(found.files), 'file')}: {clean(', '.join(sorted(found.files)))}"
    yield found.digest


def _say_it_once() -> None:
    """What the program's log says of untrusted hooks is said here instead, while this command runs."""
    logger = logging.getLogger(LOGGER)
    if (context := click.get_current_context(silent=True)) is not None:
        context.call_on_close(partial(logger.setLevel, logger.level))
        logger.setLevel(logging.ERROR)


def brought_by(places: list[Path]) -> tuple[CapabilityRef, ...]:
    """The capability with the hooks that these directories bring; says so when they are not trusted. Raises
    `HooksRefused` when they are not those that were."""
    _say_it_once()
    kept, bringing = Trust(), list[str]()
    for place in places:
        there, real = os.path.lexists(place / FOLDER / FILE), os.path.realpath(place)
        if real in bringing or (not there and not kept.covers(place)):
            continue
        try:
            standing, found = kept.look(place)
        except HooksRefused as error:
            if kept.covers(place):
                raise
            click.echo(f"note: the hooks of {clean(real)} are not run: {clean(str(error))}", err=True)
            continue
        if standing == "new" and found is not None:
            click.echo(
                f"note: {clean(real)} brings {count(len(found.lines), 'hook')} of its own, not trusted and not "
                f"run; to see and trust them: holdfast trust {clean(real)}",
                err=True,
            )
        bringing.append(real)
    return (CapabilityRef(name=CAPABILITY, config={"directories": bringing}),) if bringing else ()
