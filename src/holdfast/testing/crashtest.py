"""Kill an agent everywhere, and see what it did twice.

    def test_my_agent_survives() -> None:
        report = crashtest(make_agent, "Refund order A7.")
        report.check()

The scenario is played once without a crash. Then it is played again for every boundary it crossed: before and after
each thing that is written, and right before and right after each tool runs. There the process dies, and another one
goes on with what is on the disk; that one is killed at each of its own boundaries, too. All of it is simulated: time is
virtual, a process is an event loop, and a disk is a `MemoryStore`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from holdfast.runtime import Services
from holdfast.testing.approver import ScriptedApprover
from holdfast.testing.client import Client, MakeAgent, Script
from holdfast.testing.crash_judge import Judge
from holdfast.testing.crash_report import CrashProblem, CrashReport, ToolTally
from holdfast.testing.crash_scene import Play, Scene
from holdfast.testing.ledger import Ledger
from holdfast.testing.watched import Watch

__all__ = ["CrashProblem", "CrashReport", "ToolTally", "crashtest"]


def crashtest(
    make_agent: MakeAgent,
    prompt: str | Sequence[str] | Script,
    *,
    again: bool = True,
    approver: ScriptedApprover | None = None,
    ledger: Ledger | None = None,
    services: Services | None = None,
    limit: int = 20_000,
    seed: int = 0,
) -> CrashReport:
    """Play a scenario with a crash at each boundary (and, with `again`, another at each boundary of the recovery).

    `make_agent` makes the agent anew for each process; its model must go on by what the transcript holds, as
    `Sim.storyboard` and `Sim.rule` do. `prompt` is what is sent: one input, several, or an async function that is
    given the session after every start. `approver` answers what is asked. `ledger` is what the tools act on, where they
    say so. At most `limit` scenarios are played; what is left out is chosen by `seed`, and counted.

    What goes wrong is in the report. Raises what the scenario raises when nothing is killed.
    """
    play = Play(
        make_agent=make_agent,
        make_client=lambda: Client(prompt, approver),
        make_watch=partial(Watch, ledger),
        services=services,
        seed=seed,
    )
    judge = Judge()
    undisturbed = Scene(play)
    judge.see(undisturbed)
    singles: list[tuple[int, ...]] = [(first,) for first in range(1, undisturbed.crossed + 1)]
    left_out = _sample(singles, limit - 1, seed)
    pairs: list[tuple[int, ...]] = []
    for kills in singles:
        scene = Scene(play, kills)
        judge.see(scene)
        pairs += [(*kills, second) for second in range(1, scene.crossed + 1) if again and scene.killed]
    left_out += _sample(pairs, limit - 1 - len(singles), seed)
    for kills in pairs:
        judge.see(Scene(play, kills))
    if ledger is not None:
        ledger.admit(None)
    return CrashReport(
        boundaries=undisturbed.crossed,
        scenarios=1 + len(singles) + len(pairs),
        kills=judge.kills,
        skipped=left_out,
        tools=judge.tools,
        ends=dict(judge.ends),
        problems=tuple(judge.problems),
    )


def _sample(kills: list[tuple[int, ...]], most: int, seed: int) -> int:
    """Leave at most so many of them, chosen by chance and in order; how many were taken out."""
    surplus = len(kills) - max(most, 0)
    if surplus <= 0:
        return 0
    kills[:] = sorted(random.Random(seed).sample(kills, max(most, 0)))
    return surplus
