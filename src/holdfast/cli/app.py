"""The `holdfast` command: its commands, and how an error ends it."""

from __future__ import annotations

from typing import Any

import click

from holdfast import HoldfastError
from holdfast.cli.chat import chat
from holdfast.cli.looking import LOOKING
from holdfast.cli.policy import policy
from holdfast.cli.run import run
from holdfast.cli.speaking import SPEAKING
from holdfast.cli.trust import trust
from holdfast.cli.upkeep import UPKEEP


class Commands(click.Group):
    """Ends with one line for an error that is Holdfast's to explain, and in the order the commands are listed."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; exit code 2 for a `HoldfastError`."""
        try:
            return super().invoke(ctx)
        except HoldfastError as error:
            if ctx.params["debug"]:
                raise
            click.secho(f"error: {' '.join(str(error).split())}", err=True, fg="red")
            ctx.exit(2)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, as they were added."""
        return list(self.commands)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(package_name="holdfast", prog_name="holdfast")
def holdfast(debug: bool) -> None:
    """Durable agents in one file: what was accepted is never lost, and what was done can be read back."""


for command in (
    run,
    chat,
    *LOOKING,
    policy,
    trust,
    *SPEAKING,
    *UPKEEP,
):
    holdfast.add_command(command)
