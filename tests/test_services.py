"""Services under typed keys, and the view that one call has of them."""

import pytest

from holdfast.errors import MissingService, UsageError
from holdfast.events import Fact, FileDeleted
from holdfast.services import FILES, Key, Later, Scope

NUMBER: Key[int] = Key("number")
NOTES: Key["Notes"] = Key("notes")


class Notes:
    """A service that leaves a fact in the outbox of the call that used it."""

    def __init__(self, call_id: str = "", outbox: list[Fact] | None = None) -> None:
        self.call_id = call_id
        self._outbox = outbox

    def for_call(self, call_id: str, outbox: list[Fact]) -> "Notes":
        return Notes(call_id, outbox)

    def forget(self, path: str) -> None:
        assert self._outbox is not None
        self._outbox.append(FileDeleted(path=path, call_id=self.call_id))


def test_a_service_is_found_under_its_key() -> None:
    scope = Scope({NUMBER: 7})
    assert scope[NUMBER] == 7
    assert NUMBER in scope
    assert list(scope.keys()) == [NUMBER]


def test_a_missing_service_is_named_with_where_to_lend_it() -> None:
    with pytest.raises(MissingService, match=r"no service 'files'; pass it to Runtime\(services="):
        Scope()[FILES]


def test_two_keys_of_one_name_are_two_keys() -> None:
    assert Key("number") not in Scope({NUMBER: 7})
    assert repr(NUMBER) == "Key('number')"


def test_a_call_gets_its_own_view_and_leaves_facts_in_its_own_outbox() -> None:
    scope = Scope({NOTES: Notes(), NUMBER: 7})
    first: list[Fact] = []
    second: list[Fact] = []
    scope.for_call("call_a", first)[NOTES].forget("/a")
    scope.for_call("call_b", second)[NOTES].forget("/b")
    assert first == [FileDeleted(path="/a", call_id="call_a")]
    assert second == [FileDeleted(path="/b", call_id="call_b")]
    assert scope.for_call("call_a", first)[NUMBER] == 7


def test_outside_a_call_a_service_is_lent_as_it_is() -> None:
    notes = Notes()
    assert Scope({NOTES: notes})[NOTES] is notes


def test_a_later_service_is_made_once_when_it_is_first_asked_for() -> None:
    made: list[Notes] = []

    def make() -> Notes:
        made.append(Notes())
        return made[-1]

    scope = Scope({NOTES: Later(make)})
    assert NOTES in scope
    assert not made
    assert scope.for_call("call_a", [])[NOTES].call_id == "call_a"
    assert scope[NOTES] is scope[NOTES]
    assert len(made) == 1


def test_a_service_under_no_key_is_refused() -> None:
    with pytest.raises(UsageError, match=r"not under 'files': services=\{FILES"):
        Scope({"files": Notes()})  # type: ignore[dict-item]
