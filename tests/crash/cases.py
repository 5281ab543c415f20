"""A case: a scenario, and where its processes die. A seed makes one, the same one every time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from tests.crash.scenarios import ALONE, SCENARIOS, Scenario

StoreName = Literal["sqlite", "postgres"]

BOUNDARIES = (
    "before append",
    "after append",
    "before claim",
    "after claim",
    "asking the model",
    "before effect",
    "after effect",
)
"""Where a process kills itself, to the instruction."""

MOMENTS = {"in append": 0.0015, "in commit": 0.0006, "in tool": 0.003, "any": 0.03}
"""Where a process is killed from outside, and how long after that (seconds at most)."""

AMIDST = "in the midst"
"""Where one of several processes is killed: when so many things more have happened to the world, whoever did them."""

DEATHS = 4
"""Processes of one case that die at most: the first, and three that recover it."""


class Kill(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where one process dies: when it comes by this place for the `number`-th time, and `delay` seconds later."""

    at: str
    number: int = 1
    delay: float = 0.0
    victim: int = 0
    """Which of the processes that share a database; 0 is the client."""

    def __str__(self) -> str:
        later = f" +{self.delay * 1_000:.2f} ms" if self.delay else ""
        who = f" of process {self.victim}" if self.victim else ""
        return f"{self.at} {self.number}{later}{who}"


class Case(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A scenario on a database of its own; the n-th process dies at the n-th place, the one after the last lives."""

    scenario: str
    kills: tuple[Kill, ...] = ()
    seed: int | None = None
    store: StoreName = "sqlite"

    def __str__(self) -> str:
        where = ", then ".join(map(str, self.kills)) or "nowhere"
        seed = "" if self.seed is None else f" (seed {self.seed})"
        return f"{self.scenario} on {self.store}{seed}: killed {where}"


class Verdict(Struct, frozen=True, kw_only=True):
    """What came of a case."""

    case: Case
    killed: tuple[str, ...]
    """Where processes did die. One that was done before its time had come is not among them."""
    problems: tuple[str, ...]
    counts: dict[str, int]


def case_of(seed: int, store: StoreName = "sqlite") -> Case:
    """The case that this seed makes."""
    chance = random.Random(seed)
    scenario = chance.choice(SCENARIOS)
    deaths = chance.choices(range(1, DEATHS + 1), weights=(3, 4, 2, 1))[0]
    kills = tuple([_kill(chance, scenario, store, first=not n) for n in range(deaths)])
    return Case(scenario=scenario.name, kills=kills, seed=seed, store=store)


def _kill(chance: random.Random, scenario: Scenario, store: StoreName, *, first: bool) -> Kill:
    slower = 3 if store == "postgres" else 1
    if scenario.shared:
        processes = {"workers": 3, "rivals": 2}[scenario.shared]
        victim, number = chance.randrange(processes), chance.randint(1, 10)
        return Kill(at=AMIDST, number=number, delay=chance.uniform(0, 0.004 * slower), victim=victim)
    if chance.random() < 0.4:
        places = BOUNDARIES if not first else [place for place in BOUNDARIES if "claim" not in place]
        return Kill(at=chance.choice(places), number=min(int(chance.expovariate(0.4)) + 1, 12))
    at = chance.choice([moment for moment in MOMENTS if moment != "in commit" or store == "sqlite"])
    number = 1 if at == "any" else min(int(chance.expovariate(0.4)) + 1, 12)
    return Kill(at=at, number=number, delay=chance.uniform(0, MOMENTS[at] * slower))


def cases_from(seed: int, store: StoreName = "sqlite") -> Iterator[Case]:
    """One after another, without an end."""
    while True:
        yield case_of(seed, store)
        seed += 1


def at_each_append(scenario: Scenario, appends: int) -> Iterator[Case]:
    """Killed once, before and after each append of the first process."""
    for number in range(1, appends + 1):
        for at in ("before append", "after append"):
            yield Case(scenario=scenario.name, kills=(Kill(at=at, number=number),))


def every_boundary() -> Iterator[Case]:
    """Every scenario that can be, killed at each append it makes when nobody disturbs it."""
    for scenario in ALONE:
        yield from at_each_append(scenario, APPENDS[scenario.name])


APPENDS = {
    "plain answer": 2,
    "one tool": 4,
    "parallel tools": 6,
    "model failure": 3,
    "tool failure": 4,
    "pure": 3,
    "idempotent": 4,
    "reconcile": 4,
    "one of each class": 7,
    "thread": 5,
    "ask approved": 6,
    "ask denied": 4,
    "several inputs": 10,
    "several sessions": 20,
    "files": 8,
    "steered": 6,
    "cancelled": 5,
}
"""How many appends each makes, about: where there are fewer a process lives, where there are more a later place is
left to chance."""
