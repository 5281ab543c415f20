"""The commands that look at sessions and change nothing, as a list."""

from __future__ import annotations

import click

from holdfast.cli.explain import diff_command, explain
from holdfast.cli.inspect import inspect
from holdfast.cli.log import events, show
from holdfast.cli.sessions import files, sessions

LOOKING: tuple[click.Command, ...] = (sessions, show, events, inspect, explain, diff_command, files)
"""In the order in which they are listed."""
