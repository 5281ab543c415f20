"""A process killed with SIGKILL at every append boundary of every scenario loses nothing and doubles nothing."""

from tests.crash.campaign import Campaign
from tests.crash.cases import APPENDS, at_each_append, every_boundary
from tests.crash.scenarios import ALONE, NAMED


def test_a_process_killed_at_any_append_is_gone_on_with_as_if_it_had_not_been() -> None:
    tally = Campaign().play(every_boundary())
    assert not tally.failures, str(tally)
    assert tally.kills > 0.9 * tally.cases, f"too many lived: the kills miss their places\n{tally}"
    assert tally.counts["in doubt"] > 0
    assert tally.counts["ran again"] > 0


def test_every_append_of_a_scenario_is_tried() -> None:
    assert APPENDS.keys() == {scenario.name for scenario in ALONE}
    for name in ("one tool", "one of each class"):  # what these append does not hang on chance
        beyond = list(at_each_append(NAMED[name], APPENDS[name] + 1))[-2:]
        tally = Campaign(servers=1).play(beyond)
        assert tally.kills == 0, (
            f"{name} makes more than {APPENDS[name]} appends: write the number down\n{tally}"
        )
