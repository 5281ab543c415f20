"""Failed model calls: what is recorded of them, and when the same request is due again."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta
from functools import partial
from typing import get_args

from holdfast.driver import Driver, Emit, Reply, Request
from holdfast.errors import ConfigError, DriverError, DriverErrorKind, MissingCredential
from holdfast.events import Failure, ReasonFailed
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.state import TurnState
from holdfast.stragglers import OutOfTime
from holdfast.turn.call import plain, said, stopped_from_outside

FIRST_WAIT = 1.0
"""Seconds before the first retry; doubled for each further one, give or take a quarter."""
LONGEST_WAIT = 60.0
"""Seconds at most before any retry."""


async def ask_driver(request: Request, emit: Emit, journal: Journal, manifest: Manifest) -> Reply:
    """The driver's reply. Raises when the time of the turn is over before, and `journal.reached` says so."""
    turn = journal.running
    seconds = None if turn.deadline is None else (turn.deadline - journal.now()).total_seconds()
    ask = partial(_ask, manifest.driver, request, emit)
    try:
        return await journal.stragglers.run(f"model {manifest.model}", turn.id, ask, seconds)
    except OutOfTime:
        journal.reached = turn.deadline
        raise


async def _ask(driver: Driver, request: Request, emit: Emit) -> Reply:
    """The driver's reply. A `CancelledError` of its own making is a failure like any other."""
    try:
        return await driver.reply(request, emit)
    except asyncio.CancelledError as error:
        if stopped_from_outside():
            raise
        raise DriverError("connection", f"the driver gave up by itself: {said(error)}") from error


def failed(error: Exception, turn: TurnState, manifest: Manifest, now: datetime) -> ReasonFailed:
    """The fact of a failed model call: with an instant to try again when it may pass, without when it will not."""
    failure = _as_driver_error(error, manifest)
    attempt = turn.attempt + 1
    again = failure.retryable and attempt <= manifest.model_retries
    return ReasonFailed(
        reason=failure.kind,
        error=Failure(code=failure.kind, message=plain(str(failure))),
        iteration=turn.iteration + 1,
        attempt=attempt,
        retry_at=now + timedelta(seconds=retry_delay(attempt, failure.retry_after)) if again else None,
    )


def _as_driver_error(error: Exception, manifest: Manifest) -> DriverError:
    match error:
        case DriverError() if error.kind in get_args(DriverErrorKind):
            return error
        case MissingCredential():
            return DriverError("authentication", str(error))
        case ConfigError():
            return DriverError("invalid_request", str(error))
    return DriverError("unsupported", f"the driver for {manifest.model} raised {said(error)}")


def retry_delay(attempt: int, retry_after: float | None = None) -> float:
    """Seconds to wait after the `attempt`-th failure. What the provider asks for counts between 1 and 60 s."""
    if retry_after is not None and FIRST_WAIT <= retry_after <= LONGEST_WAIT:
        return retry_after
    wait = min(FIRST_WAIT * 2.0 ** (attempt - 1), LONGEST_WAIT)
    return wait * random.uniform(0.75, 1.25)
