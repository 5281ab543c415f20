"""Settings as Anthropic has them: thinking, tool choice, the shape of the output."""

from __future__ import annotations

import re
from typing import Any

from holdfast.driver import Request
from holdfast.drivers.anthropic_schema import held
from holdfast.errors import DriverError

MAX_TOKENS = 16_384
"""Output tokens at most where the settings say nothing: the protocol demands a number."""

_BUDGETS = {"minimal": 1_024, "low": 2_048, "medium": 6_144, "high": 12_288, "xhigh": 15_360, "max": 15_360}
"""Tokens to think with, for models that want a number; with `MAX_TOKENS` they stay below every model's limit."""

_LEAST_BUDGET = 1_024

_BY_BUDGET = re.compile(r"claude-(3-7-|(opus|sonnet|haiku)-4(-[0-5])?($|[@:]|-\d{8}|-v\d|-latest))")
"""Models that think by a budget; those after them decide themselves how much."""


def settings_of(request: Request, *, tools: bool, begun: bool) -> dict[str, Any]:
    """The fields of the body that the request's settings amount to. Raises `DriverError`.

    `begun`: whether the model's open turn, if there is one, began with thoughts; with a budget it must have.
    """
    settings = request.settings
    choice = _tool_choice(request) if tools else None
    thinking, config = _thinking(request, choice, begun)
    limit = settings.max_tokens or MAX_TOKENS + thinking.get("budget_tokens", 0)
    if request.output is not None:
        schema = _output_format(request)
        config |= {"format": schema} if schema else {}
    user = request.metadata.get("user_id")
    fields: dict[str, Any] = {
        "max_tokens": limit,
        "stream": request.stream,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "stop_sequences": settings.stop or None,
        "thinking": thinking or None,
        "output_config": config or None,
        "tool_choice": choice,
        "metadata": {"user_id": user} if user else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _tool_choice(request: Request) -> dict[str, Any] | None:
    choice = request.settings.tool_choice
    one_at_a_time = request.settings.parallel_calls is False
    if choice is None and not one_at_a_time:
        return None
    if choice == "none":
        return {"type": "none"}
    kind = {None: "auto", "auto": "auto", "required": "any"}.get(choice)
    chosen: dict[str, Any] = {"type": kind} if kind else {"type": "tool", "name": choice}
    return chosen | ({"disable_parallel_tool_use": True} if one_at_a_time else {})


def _thinking(
    request: Request, choice: dict[str, Any] | None, begun: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """How much the model is to think: the field `thinking`, and what belongs into `output_config`."""
    effort = request.settings.reasoning_effort
    by_budget = _BY_BUDGET.search(request.model) is not None
    if effort is None:
        return {}, {}
    if effort == "none":
        return ({} if by_budget else {"type": "disabled"}), {}
    if not by_budget:
        level = "low" if effort == "minimal" else effort
        return {"type": "adaptive", "display": "summarized"}, {"effort": level}
    if effort not in _BUDGETS:
        known = ", ".join(_BUDGETS)
        raise DriverError(
            "invalid_request",
            f"reasoning_effort {effort!r} says nothing to {request.model}; use one of {known}",
        )
    budget, limit = _BUDGETS[effort], request.settings.max_tokens
    if limit is not None:
        budget = min(budget, limit // 2)
    forced = choice is not None and choice["type"] in {"any", "tool"}
    if budget < _LEAST_BUDGET or forced or not begun:
        return {}, {}
    return {"type": "enabled", "budget_tokens": budget}, {}


def _output_format(request: Request) -> dict[str, Any] | None:
    """The schema that the answer is held to; one that is only wished for and cannot be had is left out."""
    assert request.output is not None
    try:
        return {"type": "json_schema", "schema": held(request.output.schema)}
    except DriverError:
        if request.output.strict:
            raise
        return None
