"""The commands for those who look after a database, as a list."""

from __future__ import annotations

import click

from holdfast.cli.agents import agents
from holdfast.cli.doctor import doctor
from holdfast.cli.fsck import fsck
from holdfast.cli.transfer import backup, export_command, import_command
from holdfast.cli.worker import recover, worker

UPKEEP: tuple[click.Command, ...] = (
    agents,
    worker,
    recover,
    fsck,
    export_command,
    import_command,
    backup,
    doctor,
)
"""In the order in which they are listed."""
