"""The commands that say something to a session that exists, as a list."""

from __future__ import annotations

import click

from holdfast.cli.answer import approve, deny
from holdfast.cli.resolve import resolve
from holdfast.cli.steer import cancel, steer

SPEAKING: tuple[click.Command, ...] = (approve, deny, resolve, steer, cancel)
"""In the order in which they are listed."""
