"""The page about the planner is the planner's own table."""

from holdfast.turn.decide import RULES
from holdfast.turn.step import RECORDS
from scripts.draw_planner import PAGE, STEPS, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python scripts/draw_planner.py"


def test_the_page_has_every_rule_in_order() -> None:
    drawn = [
        line.split(" | ")[1] for line in page().splitlines() if line.startswith("| ") and line[2].isdigit()
    ]
    assert drawn[-len(RULES) :] == [rule.name for rule in RULES]
    assert len(drawn) == len(RULES) + 2


def test_every_step_that_a_rule_gives_is_drawn() -> None:
    assert {rule.step for rule in RULES} <= set(STEPS) <= set(RECORDS)
    for step in STEPS:
        assert f"--> {step.__name__}\n" in page()
