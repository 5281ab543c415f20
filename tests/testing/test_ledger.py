"""The ledger keeps what took effect, and who did it."""

from holdfast.testing import Ledger
from holdfast.testing.ledger import Doer, doing

FIRST = Doer(call_id="call_a", tool="pay", attempt=1, process=1)
SECOND = Doer(call_id="call_a", tool="pay", attempt=2, process=2)


def test_an_effect_without_a_key_happens_every_time() -> None:
    ledger = Ledger()
    assert [ledger.add("paid"), ledger.add("paid")] == [True, True]
    assert [entry.effect for entry in ledger.entries] == ["paid", "paid"]


def test_an_effect_with_a_key_happens_once_for_each_key() -> None:
    ledger = Ledger()
    assert [ledger.add("paid", key=key) for key in ("a", "b", "a")] == [True, True, False]
    assert (ledger.has("a"), ledger.has("c")) == (True, False)


def test_an_entry_says_which_run_made_it() -> None:
    ledger = Ledger()
    with doing(FIRST):
        ledger.add("paid")
    ledger.add("by nobody")
    assert [entry.doer for entry in ledger.entries] == [FIRST, None]


def test_a_process_that_is_gone_has_no_effect() -> None:
    ledger = Ledger()
    ledger.admit(2)
    with doing(FIRST):
        assert not ledger.add("too late", key="a")
    assert not ledger.add("by nobody")
    assert not ledger.has("a")
    with doing(SECOND):
        assert ledger.add("in time")
    ledger.admit(None)
    assert ledger.add("by anybody")


def test_a_cleared_ledger_is_another_world() -> None:
    ledger = Ledger()
    ledger.add("paid", key="a")
    ledger.clear()
    assert not ledger.has("a")
    assert ledger.entries == []
