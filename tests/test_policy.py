"""Policies: one function, one frozen action, and what the manifest names."""

from typing import get_args

import pytest

from holdfast.hook import Allow, Decision, Deny
from holdfast.policy import Action, ActionKind, Policy


async def no_effects(action: Action) -> Decision:
    return Allow() if action.effect == "pure" else Deny(f"{action.name} has effects")


async def test_a_policy_decides_from_the_action_alone() -> None:
    policy = Policy(name="careful", decide=no_effects)
    action = Action(kind="tool", session_id="s", turn_id="t", name="rm", arguments="{}", effect="once")
    assert await policy.decide(action) == Deny("rm has effects")
    with pytest.raises(AttributeError):
        action.name = "ls"  # type: ignore[misc]


def test_what_does_not_belong_to_an_action_is_empty() -> None:
    action = Action(kind="turn", session_id="s", turn_id="t")
    assert (action.name, action.call_id, action.arguments, action.effect) == ("", "", "", None)


def test_everything_consequential_has_a_kind() -> None:
    assert get_args(ActionKind) == ("turn", "model", "tool", "child", "delivery", "capability")


def test_the_manifest_names_a_policy_by_its_name_and_patience() -> None:
    assert Policy(name="careful", decide=no_effects).describe() == {"name": "careful", "timeout": 5.0}
    assert Policy(name="careful", decide=no_effects, timeout=1.0).describe()["timeout"] == 1.0
