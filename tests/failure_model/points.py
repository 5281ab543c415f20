"""Every crash point of the failure model: tested, or why there is nothing to test.

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
    """There is nothing that could be cut off there."""

    why: str


DONE = Tested()
ON_DISK = Tested(on=("sqlite", "postgres"))
BACKGROUND = Missing(
    "a call is part of its turn: none goes on in the background. What does go on after a turn, its hooks and "
    "deliveries, comes from an outbox and is tested in CP76; a call that does not stop is no turn's any more (CP35)"
)
CHILDREN = Missing(
    "no session has children: nothing spawns one, and no tree of them has a depth, a fan-out or a budget. A budget "
    "that many sessions share is tested in CP59"
)
SCHEDULES = Missing(
    "nothing is scheduled: a session has no timer that makes an input. What waits for an instant is tested elsewhere: "
    "another try at a model in CP21, an expiry in CP44, a clock that jumps in CP56"
)
SECRETS = Missing(
    "no secret is kept, so none is written or has its key changed: what `runtime.protect` is told stays in the memory "
    "of its process"
)
DELETION = Missing(
    "a session cannot be deleted, and has no tombstone. Agents and harnesses can be taken out of use, which deletes "
    "no log"
)
FORKS = Missing("a session cannot be forked: what is exported and imported is a whole log under its own id")

POINTS: dict[str, Tested | Missing] = {
    **{f"{number:02}": DONE for number in range(1, 13)},
    "13": Tested(short="without a budget, no estimate is booked for a request that was not answered"),
    **{f"{number:02}": DONE for number in range(14, 19)},
    "19": Tested(
        short="the model is asked anew, also where a provider could be asked for the response it gave"
    ),
    "20": DONE,
    "21": DONE,
    "22": DONE,
    "23": DONE,
    **{f"{number:02}": DONE for number in range(24, 32)},
    "32": Tested(short="the late outcome is refused; it is not kept as an event for an audit"),
    "33": Tested(short="a blob that nothing points at is not collected"),
    "34": DONE,
    "35": DONE,
    "36": Tested(short="the whole turn is parked for a person, rather than the one call settled"),
    "37": DONE,
    "38": DONE,
    "39": BACKGROUND,
    "40": DONE,
    "41": DONE,
    "42": DONE,
    "43": DONE,
    "44": DONE,
    "45": Tested(short="each call has its own answer, and the first counts; there is no full set that wins"),
    "46": DONE,
    **{f"{number:02}": CHILDREN for number in range(47, 53)},
    **{f"{number:02}": SCHEDULES for number in range(53, 56)},
    "56": Tested(short="there are no schedules that could fire twice"),
    "57": SCHEDULES,
    "58": Tested(short="the debit is under the key of the reservation, not the id of the response"),
    "59": Tested(
        short="what a dead process set aside does not lapse with its lease: it counts in full when somebody goes on "
        "with its turn, or ends it"
    ),
    "60": Tested(
        short="whoever raises an account and dies before it has told the sessions that wait there leaves them until "
        "they are opened, or it is raised again (by 0, too): no sweep finds them"
    ),
    "61": DONE,
    "62": DONE,
    "63": DONE,
    "64": Tested(on=()),
    "65": SECRETS,
    "66": Tested(short="a blob that nothing points at is not collected"),
    **{f"{number:02}": DONE for number in range(67, 76)},
    "76": DONE,
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
