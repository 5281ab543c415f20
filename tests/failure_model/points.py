"""Every crash point of the failure model: tested, or why there is nothing to test yet.

`test_points.py` holds this table against the tests: a point that is `Tested` has at least one test whose name begins
with `test_cpNN_`, on the back ends named here; one that is `Missing` has none.
"""

from __future__ import annotations

from msgspec import Struct

EVERYWHERE = ("memory", "sqlite", "postgres")


class Tested(Struct, frozen=True, kw_only=True):
    """There are tests of it."""

    on: tuple[str, ...] = EVERYWHERE
    """Back ends. Without any, it has nothing to do with stores."""
    short: str = ""
    """What the model asks for beyond what is done (and tested) here."""


class Missing(Struct, frozen=True):
    """There is nothing yet that could be cut off there."""

    why: str


DONE = Tested()
ON_DISK = Tested(on=("sqlite", "postgres"))
COMPACTION = Missing(
    "no context is compacted yet: the planner's step `Compact` is not carried out by anybody"
)
GUARDS = Missing("no hook or guard looks at what a model says before readers do")
BACKGROUND = Missing("a call is part of its turn: none goes on in the background")
CLIENT_TOOLS = Missing("no tool runs at a client yet")
CHILDREN = Missing("no session has children yet")
SCHEDULES = Missing("nothing is scheduled yet; of clocks that jump, leases and turns are tested in CP56")
BUDGETS = Missing("there are no budgets yet; what a reply used is part of its message (CP20)")
SECRETS = Missing("no secrets are kept yet")
DELETION = Missing("a session cannot be deleted yet")
FORKS = Missing("a session cannot be forked yet")

POINTS: dict[str, Tested | Missing] = {
    **{f"{number:02}": DONE for number in range(1, 13)},
    "13": Tested(short="without budgets, no estimate is booked for a request that was not answered"),
    **{f"{number:02}": DONE for number in range(14, 19)},
    "19": Tested(
        short="the model is asked anew, also where a provider could be asked for the response it gave"
    ),
    "20": DONE,
    "21": DONE,
    "22": COMPACTION,
    "23": GUARDS,
    **{f"{number:02}": DONE for number in range(24, 32)},
    "32": Tested(short="the late outcome is refused; it is not kept as an event for an audit"),
    "33": Tested(short="a blob that nothing points at is not collected"),
    "34": DONE,
    "35": Tested(short="a tool that runs in a thread is given up, and not counted"),
    "36": Tested(short="the whole turn is parked for a person, rather than the one call settled"),
    "37": DONE,
    "38": DONE,
    "39": BACKGROUND,
    "40": DONE,
    "41": Tested(
        short="whoever answers second while another process is at work is not told that it was too late"
    ),
    "42": DONE,
    "43": DONE,
    "44": DONE,
    "45": CLIENT_TOOLS,
    "46": CLIENT_TOOLS,
    **{f"{number:02}": CHILDREN for number in range(47, 53)},
    **{f"{number:02}": SCHEDULES for number in range(53, 56)},
    "56": Tested(short="there are no schedules that could fire twice"),
    "57": SCHEDULES,
    **{f"{number:02}": BUDGETS for number in range(58, 61)},
    "61": DONE,
    "62": DONE,
    "63": DONE,
    "64": Tested(on=()),
    "65": SECRETS,
    "66": Tested(short="a blob that nothing points at is not collected"),
    **{f"{number:02}": DONE for number in range(67, 76)},
    "76": Tested(short="hooks after the end of a turn run at most once: a crash before them skips them"),
    "77": DONE,
    "78": DONE,
    "79": DONE,
    "80": Tested(short="a network file system is not refused"),
    "81": Tested(
        short="whoever waits gets `StoreFull`; the turn goes on when its session is opened with room again"
    ),
    "82": ON_DISK,
    "83": DONE,
    "84": ON_DISK,
    "85": DELETION,
    "86": FORKS,
    "87": DONE,
}
