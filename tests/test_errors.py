"""The tree of errors: as drawn, each with words of its own."""

import inspect
import re
from typing import get_args

import pytest

from holdfast import errors
from holdfast.errors import (
    RETRYABLE,
    DriverError,
    DriverErrorKind,
    HoldfastError,
    StoreFull,
    ToolError,
    UnknownModel,
    WorkspaceError,
)
from tests.conftest import ROOT

CLASSES = [it for _, it in inspect.getmembers(errors, inspect.isclass) if issubclass(it, HoldfastError)]


PAGE = (ROOT / "docs" / "errors.md").read_text().partition("## The whole tree")[2]


def drawn_tree(drawing: str) -> dict[str, str]:
    """Each class in the drawing, with the one it hangs on."""
    parents: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in drawing.splitlines():
        found = re.match(r"( *[│ ├└─]*)([A-Z]\w+)(?:  |$)", line)
        if found is None:
            continue
        depth, name = len(found[1]), found[2]
        while above and above[-1][0] >= depth:
            above.pop()
        parents[name] = above[-1][1] if above else ""
        above.append((depth, name))
    return parents


def test_the_tree_that_is_drawn_is_the_tree_and_the_docstring_has_its_branches() -> None:
    real = {it.__name__: it.__bases__[0].__name__ if it is not HoldfastError else "" for it in CLASSES}
    assert drawn_tree(PAGE) == real
    branches = drawn_tree(errors.__doc__ or "")
    assert {name for name, parent in real.items() if parent == "HoldfastError"} <= branches.keys()
    assert branches.items() <= real.items()


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_says_what_happened_without_being_told(kind: type[HoldfastError]) -> None:
    assert kind.__doc__
    if kind in (DriverError, WorkspaceError):
        return  # these are never raised without a message and a code
    assert str(kind()) == (kind.__doc__ if kind is not ToolError else "the tool did not say why it failed")
    assert str(kind("the disk is full")) == "the disk is full"


def test_one_except_catches_a_family() -> None:
    assert issubclass(UnknownModel, errors.ConfigError)
    assert issubclass(UnknownModel, errors.UsageError)
    assert issubclass(StoreFull, errors.StoreError)
    assert not issubclass(ToolError, errors.UsageError)


@pytest.mark.parametrize("kind", get_args(DriverErrorKind))
def test_a_driver_error_knows_whether_the_same_request_may_succeed_later(kind: DriverErrorKind) -> None:
    error = DriverError(kind, "it failed", status=500, retry_after=2.5)
    lasting = {"authentication", "quota", "too_large", "invalid_request", "content_policy", "unsupported"}
    assert error.retryable is (kind not in lasting)
    assert (error.kind, error.status, error.retry_after, str(error)) == (kind, 500, 2.5, "it failed")


def test_only_real_kinds_are_retryable() -> None:
    assert set(get_args(DriverErrorKind)) >= RETRYABLE


def test_a_workspace_error_has_a_code_beside_its_words() -> None:
    error = WorkspaceError("not-found", "/a.txt does not exist")
    assert (error.code, str(error)) == ("not-found", "/a.txt does not exist")
