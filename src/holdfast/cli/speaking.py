"""The commands that say something to a session that exists, as a list."""

from __future__ import annotations

import click

from holdfast.cli.answer import answer, approve, deny
from holdfast.cli.asks import asks
from holdfast.cli.budget import budget
from holdfast.cli.resolve import resolve
from holdfast.cli.steer import cancel, steer

SPEAKING: tuple[click.Command, ...] = (asks, approve, deny, answer, resolve, budget, steer, cancel)
"""In the order in which they are listed."""
