"""Failed model calls: what is recorded of them, and when the same request is due again."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta
from functools import partial
from typing import get_args

from holdfast.driver import Driver, Emit, Reply, Request
from holdfast.errors import ConfigError, DriverError, DriverErrorKind, MissingCredential, StoreError
from holdfast.events import Failure, ReasonFailed
from holdfast.journal import Journal
from holdfast.manifest import Manifest, Route
from holdfast.state import TurnState
from holdfast.stragglers import OutOfTime
from holdfast.turn.call import is_ours, plain, said

FIRST_WAIT = 1.0
"""Seconds before the first retry; doubled for each further one, give or take a quarter."""
LONGEST_WAIT = 60.0
"""Seconds at most before any retry, give or take a quarter."""


async def ask_driver(request: Request, emit: Emit, journal: Journal, route: Route) -> Reply:
    """The driver's reply. Raises when the time of the turn is over before, and `journal.reached` says so."""
    turn = journal.running
    seconds = None if turn.deadline is None else (turn.deadline - journal.now()).total_seconds()
    ask = partial(_ask, route.driver, request, emit)
    journal.audience.learn(route.driver)
    try:
        return await journal.stragglers.run(f"model {route.model}", turn.id, ask, seconds)
    except OutOfTime:
        journal.reached = turn.deadline
        raise
    finally:
        journal.audience.learn(route.driver)


async def _ask(driver: Driver, request: Request, emit: Emit) -> Reply:
    """The driver's reply. What it raises that is no `Exception` is a failure like any other."""
    try:
        return await driver.reply(request, emit)
    except BaseException as error:
        if isinstance(error, Exception) or is_ours(error):
            raise
        if isinstance(error, asyncio.CancelledError):
            raise DriverError("connection", f"the driver gave up by itself: {said(error)}") from error
        raise DriverError("unsupported", f"the driver raised {said(error)}") from error


def failed(error: Exception, turn: TurnState, manifest: Manifest, now: datetime) -> ReasonFailed:
    """The fact of a failed model call: with an instant to try again when it may pass, else with the model to ask
    instead when there is one that it may pass with.

    Raises a `StoreError` as it is.
    """
    route = manifest.route(turn.route)
    failure, retry_at = judged(error, turn.attempt + 1, turn.failing_since, route, manifest, now)
    shrinks = failure.kind == "too_large" and manifest.compaction is not None and not turn.compaction_tried
    others = (
        manifest.routes[turn.route + 1 :] if failure.elsewhere and retry_at is None and not shrinks else ()
    )
    return ReasonFailed(
        reason=failure.kind,
        error=failure_of(failure),
        iteration=turn.iteration + 1,
        attempt=turn.attempt + 1,
        retry_at=retry_at,
        model=route.model,
        next_model=others[0].model if others else "",
    )


def failure_of(error: DriverError) -> Failure:
    """The failure as the log holds it."""
    return Failure(code=error.kind, message=plain(str(error)))


def judged(
    error: Exception, attempt: int, since: datetime | None, route: Route, manifest: Manifest, now: datetime
) -> tuple[DriverError, datetime | None]:
    """What failed at this attempt, and when another one is due; None: it was the last one. `since` is when the first
    one failed. Raises a `StoreError` as it is."""
    failure = _as_driver_error(error, route.model)
    left = manifest.retry_timeout - (now - (since or now)).total_seconds()
    wait = wait_after(failure, attempt, retries=manifest.model_retries, seconds=left)
    return failure, None if wait is None else now + timedelta(seconds=wait)


def _as_driver_error(error: Exception, model: str) -> DriverError:
    match error:
        case StoreError():
            raise error  # it is the log that failed, not the model
        case DriverError() if error.kind in get_args(DriverErrorKind):
            return error
        case MissingCredential():
            return DriverError("authentication", str(error))
        case ConfigError():
            return DriverError("invalid_request", str(error))
    return DriverError("unsupported", f"the driver for {model} raised {said(error)}")


def wait_after(failure: DriverError, attempt: int, *, retries: int, seconds: float) -> float | None:
    """Seconds to wait after the `attempt`-th failure when `seconds` are left for attempts; None: it is the last one."""
    if not failure.retryable or attempt > retries:
        return None
    wait = retry_delay(attempt, failure.retry_after)
    return wait if wait <= seconds else None


def retry_delay(attempt: int, retry_after: float | None = None) -> float:
    """Seconds to wait after the `attempt`-th failure. What the provider asks for counts between 1 and 60 s."""
    if retry_after is not None and FIRST_WAIT <= retry_after <= LONGEST_WAIT:
        return retry_after
    wait = min(FIRST_WAIT * 2.0 ** (attempt - 1), LONGEST_WAIT)
    return wait * random.uniform(0.75, 1.25)
