"""`holdfast doctor`: what is installed, whether the database is sound, which providers can be used."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import apsw
import click
import msgspec
from msgspec import Struct

from holdfast import HoldfastError, SQLiteStore
from holdfast.cli.place import Place, db_option, is_missing, reading, registry, shown
from holdfast.cli.text import clean, count
from holdfast.store import Problem

CREDENTIALS = {
    "openai-chat": ("OPENAI_API_KEY",),
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
}
"""The environment variables that may hold each vendor's key, in the order in which its driver reads them."""

TOLD = 3
"""Problems of a database that are told; the first ones are the ones to begin with."""

SIGNS = {"ok": ("ok", "green"), "note": ("--", "yellow"), "bad": ("BAD", "red")}


class Check(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was looked at."""

    name: str
    status: Literal["ok", "note", "bad"]
    """`note`: nothing is wrong, but something will not work until it is set up."""
    found: str
    advice: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@db_option
def doctor(as_json: bool, db: Place) -> None:
    """Check the installation, the database and the providers.

    Exit code 1 when something is broken. Keys are looked for by the names of their variables and never shown.
    """
    checks = [*_versions(), _database(db), *_providers()]
    if as_json:
        click.echo(msgspec.json.encode(checks))
    else:
        for check in checks:
            sign, colour = SIGNS[check.status]
            click.echo(f"{click.style(f'{sign:<4}', fg=colour)} {check.name:<24} {clean(check.found)}")
            if check.advice:
                click.echo(f"{'':<29} {clean(check.advice)}")
    sys.exit(1 if any(check.status == "bad" for check in checks) else 0)


def _versions() -> list[Check]:
    checks = [
        Check(name="holdfast", status="ok", found=version("holdfast")),
        Check(name="python", status="ok", found=f"{platform.python_version()} on {platform.system()}"),
        Check(name="sqlite", status="ok", found=apsw.sqlite_lib_version()),
    ]
    for requirement in (it for it in requires("holdfast") or [] if not re.search("extra == .dev", it)):
        name, optional = re.split(r"[^\w.-]", requirement)[0], "extra ==" in requirement
        try:
            checks.append(Check(name=name, status="ok", found=version(name)))
        except PackageNotFoundError:
            if not optional:
                checks.append(
                    Check(
                        name=name, status="bad", found="not installed", advice=f"pip install '{requirement}'"
                    )
                )
    return list({check.name: check for check in checks}.values())


def _database(db: Place) -> Check:
    name = "database"
    if is_missing(db):
        advice = "`holdfast run` makes it; --db or HOLDFAST_DB names another"
        return Check(name=name, status="note", found=f"none at {db}", advice=advice)
    try:
        sessions, problems = asyncio.run(_read(db))
    except HoldfastError as error:
        return Check(name=name, status="bad", found=str(error))
    size = f"{shown(db)}: {count(sessions, 'session')}"
    if not isinstance(db, Path):
        return Check(name=name, status="ok", found=size, advice="`holdfast fsck URL` reads everything in it")
    size += f", {db.stat().st_size:,} bytes"
    if not problems:
        return Check(name=name, status="ok", found=f"{size}, every event and blob as it was written")
    told = [f"{problem.where}: {problem.message}" for problem in problems]
    harmless = all(problem.kind == "lease" for problem in problems)
    return Check(name=name, status="note" if harmless else "bad", found=size, advice="; ".join(told[:TOLD]))


async def _read(db: Place) -> tuple[int, list[Problem]]:
    """How many sessions the database has, and, of a file, what is wrong with it."""
    async with reading(db) as runtime:
        sessions = len(await runtime.sessions(limit=1_000_000))
        return sessions, await runtime.store.check() if isinstance(runtime.store, SQLiteStore) else []


def _providers() -> list[Check]:
    vendors = [vendor for vendor in registry().vendors if vendor != "sim"]
    return [*(_provider(vendor) for vendor in vendors), _default_model()]


def _provider(vendor: str) -> Check:
    """Whether the vendor's key is set. Of its value no more is looked at than whether there is one."""
    variables = CREDENTIALS.get(vendor, ())
    name = f"provider {vendor}"
    if not variables:
        return Check(name=name, status="note", found="its driver says where its key comes from")
    used = next((variable for variable in variables if os.environ.get(variable, "").strip()), None)
    if used is not None:
        return Check(name=name, status="ok", found=f"{used} is set")
    found = f"{' and '.join(variables)} {'is' if len(variables) == 1 else 'are'} not set"
    return Check(name=name, status="note", found=found, advice=f"export {variables[0]}=...")


def _default_model() -> Check:
    name, model = "HOLDFAST_MODEL", os.environ.get("HOLDFAST_MODEL")
    if not model:
        advice = (
            "export HOLDFAST_MODEL=openai-chat/gpt-5-mini, or give --model; without a key: --model sim/echo"
        )
        return Check(name=name, status="note", found="not set", advice=advice)
    vendor, slash, rest = model.partition("/")
    if slash and rest and vendor in registry().vendors:
        return Check(name=name, status="ok", found=model)
    known = ", ".join(registry().vendors)
    return Check(name=name, status="bad", found=model, advice=f"it must be vendor/name; vendors: {known}")
