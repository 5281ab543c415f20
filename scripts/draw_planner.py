"""Draws docs/planner.md from the planner's own table: every rule of what comes next, and what each step records.

python scripts/draw_planner.py            writes the page
python scripts/draw_planner.py --check    says whether it is up to date
"""

import argparse
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from holdfast.turn.decide import RULES
from holdfast.turn.step import RECORDS, Act, Begin, Compact, Reason, Step, Stop, Wait

PAGE = Path(__file__).resolve().parent.parent / "docs" / "planner.md"

STEPS: tuple[type[Step], ...] = (Begin, Compact, Reason, Act, Wait, Stop)

IDLE = (("no turn is under way, but an input was accepted", Begin), ("no turn is under way", Wait))
"""What `decide` asks before it looks at the rules of a turn."""

INTRODUCTION = """\
# The planner

*Drawn by `scripts/draw_planner.py` from `holdfast.turn.decide`. Change the table there, then run the script.*

`decide(state, manifest, now)` says what is owed next. It asks these questions in this order; the first that holds gives
the step. It is pure: the same facts give the same answer, in a fresh turn, a resumed one, or on another machine.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *_rules(), "", *_steps(), "", *_diagram(), ""])


def _questions() -> list[tuple[str, type[Step]]]:
    return [*IDLE, *((rule.name, rule.step) for rule in RULES)]


def _rules() -> Iterator[str]:
    yield "| | the first of these that holds | step |"
    yield "|---:|---|---|"
    for number, (name, step) in enumerate(_questions(), 1):
        yield f"| {number} | {name} | {step.__name__} |"


def _steps() -> Iterator[str]:
    yield "Carrying a step out records facts, and the question is asked again:"
    yield ""
    yield "| step | what is done | facts it may record |"
    yield "|---|---|---|"
    for step in STEPS:
        done = (inspect.getdoc(step) or "").partition("\n\n")[0].replace("\n", " ")
        facts = ", ".join(f"`{kind}`" for kind in RECORDS[step])
        yield f"| {step.__name__} | {done} | {facts or 'none'} |"


def _diagram() -> Iterator[str]:
    yield "```mermaid"
    yield "flowchart TD"
    yield "    decide{{what is owed next?}}"
    for step in STEPS:
        numbers = ", ".join(str(it) for it, (_, given) in enumerate(_questions(), 1) if given is step)
        yield f'    decide -- "{numbers}" --> {step.__name__}'
        yield f'    {step.__name__} -- "{_afterwards(step)}" --> {"rest" if step is Stop else "decide"}'
    yield "    rest([the turn has ended])"
    yield "```"


def _afterwards(step: type[Step]) -> str:
    return "<br>".join(RECORDS[step]) or "an answer, an instant or an input"


def main() -> int:
    """Write the page, or compare."""
    arguments = argparse.ArgumentParser(description="Draw the page about the planner.")
    arguments.add_argument("--check", action="store_true", help="write nothing; fail when the page is stale")
    if not arguments.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    print(f"{PAGE} is stale: run python scripts/draw_planner.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
