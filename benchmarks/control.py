"""Control: what policies, hooks and rules cost.

A turn with one tool is run bare and under control in turns, so that what the machine does meanwhile falls on both; the
figure is the difference. Rules are asked about one call whose arguments name a host, a mail address and a path.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import msgspec

from benchmarks.calculator import Calculator, adding, calculator, one_turn
from benchmarks.figures import Effort, Figure
from benchmarks.timing import MICRO, Took, figure_of, timed
from holdfast import Action, Agent, Allow, Budget, Config, Guard, Hook, HookEvent, Policy, Rule, Runtime, tool
from holdfast.charter import charter_of
from holdfast.config import merge
from holdfast.guard import Guards
from holdfast.rulebook import RuleBook
from holdfast.turn.screen import Strainer

RULES = 1_000
ARGUMENTS = msgspec.json.encode(
    {"to": "bob@example.com", "url": "https://api.example.com/v1/orders?id=7", "path": "/srv/orders/7.txt"}
).decode()


async def _allow(action: Action) -> Allow:
    return Allow()


async def _silent(event: HookEvent) -> None:
    return None


CONTROL = Config(
    policies=(Policy(name="allow", decide=_allow),),
    hooks=(
        Hook(id="bench:before", point="before_tool", run=_silent),
        Hook(id="bench:after", point="after_tool", run=_silent),
    ),
)


GUARDS = {
    "an expression": Guard(id="cards", expressions=(r"\b\d{4}(?: ?\d{4}){3}",)),
    "100 words": Guard(id="words", words=tuple(f"forbidden {number}" for number in range(100))),
}
STREAMED = "The quick brown fox jumps over the lazy dog, and so on it goes. " * 100
DELTA = 5
"""Characters of a delta."""

BUDGETS = (Budget(scope="session", quantity="tokens", hard=1_000_000),)


async def control(effort: Effort) -> list[Figure]:
    """What a policy and two hooks add to a turn with one tool, in memory; and what a thousand rules take."""
    rules = tuple(
        Rule(id=f"r{number}", decision="deny", arguments={"a": str(number)}) for number in range(9, RULES)
    )
    gated = await _added(CONTROL, effort)
    ruled = await _added(Config(rules=rules), effort)
    counted = await _added(Config(budgets=BUDGETS), effort)
    guarded = await _added(Config(guards=tuple(GUARDS.values())), effort)
    together = await _added(merge(CONTROL, Config(budgets=BUDGETS)), effort)
    return [
        figure_of("control", "a policy and two hooks add", "µs", MICRO, "cpu", gated),
        figure_of("control", "a budget adds", "µs", MICRO, "cpu", counted),
        figure_of("control", "a policy, two hooks and a budget add", "µs", MICRO, "cpu", together),
        figure_of("control", "two guards add", "µs", MICRO, "cpu", guarded),
        figure_of("control", f"{RULES:,} rules add", "µs", MICRO, "cpu", ruled),
        *(_asked(name, rules, effort) for name, rules in _books().items()),
        *(_strained(name, guard, effort) for name, guard in GUARDS.items()),
    ]


async def _added(config: Config, effort: Effort) -> list[Took]:
    """Per turn, by how much the one took longer than the other."""
    bare = calculator(Calculator())
    under = Agent(
        "You are a calculator. Use the add tool.", model=Calculator(), tools=[adding()], config=config
    )
    number, rounds = max(2, round(effort.slice * 160)), max(2, round(effort.slice * 40))
    async with Runtime() as runtime:

        async def turns(agent: Agent, number: int) -> None:
            for _ in range(number):
                await one_turn(runtime, agent)

        for agent in (bare, under):
            await turns(agent, number)
        added = []
        for _ in range(effort.repeats):
            took = {"bare": Took(0, 0), "under": Took(0, 0)}
            for _ in range(rounds):
                for name, agent in (("bare", bare), ("under", under)):
                    once = await timed(partial(turns, agent, number))
                    took[name] = Took(took[name].wall + once.wall, took[name].cpu + once.cpu)
            added.append(
                Took(*((b - a) / number / rounds for a, b in zip(took["bare"], took["under"], strict=True)))
            )
    return added


@tool
async def order(to: str, url: str, path: str) -> str:
    """Order."""
    return to


def _books() -> dict[str, Sequence[Rule]]:
    """A thousand rules each, of which none matches, so that none ends the asking early."""
    ids = [f"r{number}" for number in range(RULES)]
    return {
        "rules about hosts": [Rule(id=it, decision="deny", destinations=(f"{it}.test",)) for it in ids],
        "rules about paths": [Rule(id=it, decision="deny", destinations=(f"/etc/{it}/*",)) for it in ids],
        "rules with a * inside": [Rule(id=it, decision="ask", arguments={"path": f"*/{it}/*"}) for it in ids],
        "rules with expressions": [
            Rule(id=it, decision="deny", arguments={"to": f"re:[a-z]+{it}@.*"}) for it in ids
        ],
    }


def _asked(name: str, rules: Sequence[Rule], effort: Effort) -> Figure:
    book = charter_of((), tuple(rules), None, {"order": order}, ()).book
    assert book is not None
    number = max(10, round(effort.slice * 4_000))
    took = [_ask(book, number) for _ in range(effort.repeats)]
    return figure_of("control", f"{RULES:,} {name}", "µs", MICRO, "cpu", took)


def _ask(book: RuleBook, number: int) -> Took:
    book.decide("tool", "order", ARGUMENTS)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(number):
        book.decide("tool", "order", ARGUMENTS)
    return Took((time.perf_counter() - wall) / number, (time.process_time() - cpu) / number)


def _strained(name: str, guard: Guard, effort: Effort) -> Figure:
    """What a delta costs on its way through a guard that finds nothing."""
    guards = Guards((guard,))
    took = [_strain(guards, max(4, round(effort.slice * 16))) for _ in range(effort.repeats)]
    return figure_of("control", f"a guard with {name}, per delta", "µs", MICRO, "cpu", took)


def _strain(guards: Guards, rounds: int) -> Took:
    pieces = [STREAMED[at : at + DELTA] for at in range(0, len(STREAMED), DELTA)]
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(rounds):
        strainer = Strainer(guards)
        shown = sum(len(strainer.feed(piece)) for piece in pieces) + len(strainer.end())
        assert shown == len(STREAMED)
    number = rounds * len(pieces)
    return Took((time.perf_counter() - wall) / number, (time.process_time() - cpu) / number)
