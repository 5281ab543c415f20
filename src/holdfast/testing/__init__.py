"""What people who build on Holdfast need to test what they build.

providers.py       model servers that speak a provider's protocol, well or badly; to be imported by name. Its parts:
providers_wire.py  just enough HTTP
providers_said.py  what the protocols share; providers_<protocol>.py speak one each
store_contract.py  what every store promises, as tests that anybody's store can run
lease_contract.py  the part of it about who may write, when, and what is owed
letter_contract.py  the part of it about what others leave for the writer
account_contract.py  the part of it about accounts that sessions share
roster_contract.py   the part of it about agents that are out of use
sink_contract.py   what every sink promises, likewise
said.py            events for such tests
clock.py           virtual time: delays, timeouts and retries take none
simulation.py      a process whose order of steps a seed decides, and which can die
wrapped.py         a store in front of another one
faults.py          stores that crash, fail or dawdle
payments.py        an authority that pays, as long as there is money
approver.py        a person who answers asks as a script says
ledger.py          the world outside: what took effect there, and which call did it
invariants.py      what holds of every log
crashtest.py       kill an agent everywhere, and see what it did twice; its parts:
crash_scene.py     one scenario, played once
client.py          the application in it
watched.py         its agent, whose tools are watched
crash_judge.py     what was wrong afterwards
crash_report.py    the table, and the problems
"""

from holdfast.testing.approver import Answer, ScriptedApprover, approve, deny, ignore
from holdfast.testing.clock import VirtualClock, VirtualLoop, run_virtual
from holdfast.testing.crashtest import CrashProblem, CrashReport, ToolTally, crashtest
from holdfast.testing.faults import CrashingStore, FailingStore, SlowStore
from holdfast.testing.invariants import problems_in
from holdfast.testing.ledger import Ledger
from holdfast.testing.payments import Purse
from holdfast.testing.simulation import Crash, Simulation, Standstill, crash
from holdfast.testing.store_contract import StoreContract
from holdfast.testing.wrapped import WrappedStore

__all__ = [
    "Answer",
    "Crash",
    "CrashProblem",
    "CrashReport",
    "CrashingStore",
    "FailingStore",
    "Ledger",
    "Purse",
    "ScriptedApprover",
    "Simulation",
    "SlowStore",
    "Standstill",
    "StoreContract",
    "ToolTally",
    "VirtualClock",
    "VirtualLoop",
    "WrappedStore",
    "approve",
    "crash",
    "crashtest",
    "deny",
    "ignore",
    "problems_in",
    "run_virtual",
]
