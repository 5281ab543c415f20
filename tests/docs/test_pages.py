"""What exists is documented, what is documented exists, and every link leads somewhere."""

import importlib
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

import holdfast
from holdfast import errors, events
from holdfast.cli import main
from holdfast.config import CONFIG_FIELDS, DEFAULT_LIMITS, Limits
from holdfast.follow import Signal
from holdfast.hook import Point
from holdfast.messages import CallStatus
from holdfast.registry import CAPABILITIES, DRIVERS
from tests.conftest import ROOT
from tests.docs.pages import DOCS, PAGES

TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
CODE = re.compile(r"^```.*?^```[ \t]*$", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@cache
def prose(path: Path) -> str:
    """The page without its code."""
    return CODE.sub("", path.read_text(encoding="utf-8"))


def first_columns(page: str) -> list[str]:
    """What stands in backticks at the beginning of the rows of a page's tables."""
    return re.findall(r"^\| `([^`]+)` ", prose(DOCS / page), re.M)


def row(page: str, name: str) -> str:
    """The row of a page's tables that begins with this name."""
    found = re.search(rf"^\| `{re.escape(name)}` .*$", prose(DOCS / page), re.M)
    assert found, f"docs/{page} has no row for {name}"
    return found.group()


def missing(page: str, names: Iterable[str]) -> list[str]:
    """Those of the names that the page does not mention in backticks."""
    mentioned = set(re.findall(r"`([^`\n]+)`", prose(DOCS / page)))
    return [name for name in names if name not in mentioned]


def anchors(path: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_linked_from_the_map() -> None:
    linked = set(LINK.findall(prose(DOCS / "README.md")))
    pages = {page.name for page in PAGES} - {"README.md"}
    assert pages - linked == set(), "link these in docs/README.md"


def test_every_example_is_linked_from_the_map() -> None:
    linked = set(LINK.findall(prose(DOCS / "README.md")))
    examples = {f"../examples/{path.name}" for path in (ROOT / "examples").glob("*.py")}
    assert examples - linked == set(), "link these in docs/README.md"


def test_every_decision_is_linked_from_their_list() -> None:
    linked = set(LINK.findall(prose(DOCS / "decisions" / "README.md")))
    assert {page.name for page in (DOCS / "decisions").glob("0*.md")} - linked == set()


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if link.startswith(("https://", "http://")):
            continue
        target, _, anchor = link.partition("#")
        place = (page.parent / target).resolve() if target else page
        assert place.exists(), f"{link} leads nowhere"
        assert place.is_relative_to(ROOT), f"{link} leaves the repository"
        assert not anchor or anchor in anchors(place), f"{link}: no such heading; there are {anchors(place)}"


def test_the_reference_lists_exactly_the_public_names() -> None:
    listed = [name for name in first_columns("reference.md") if "." not in name]
    assert len(listed) == len(set(listed)), "listed twice"
    assert {"holdfast." + name if name == "__version__" else name for name in holdfast.__all__} <= {
        *first_columns("reference.md")
    }
    assert set(listed) <= set(holdfast.__all__)


def test_what_the_reference_lists_beside_them_exists() -> None:
    for dotted in first_columns("reference.md"):
        if "." in dotted:
            module, _, name = dotted.rpartition(".")
            assert hasattr(importlib.import_module(module), name), dotted


def test_every_kind_of_fact_is_documented_with_its_fields() -> None:
    for kind, fact in events.KINDS.items():
        assert set(fact.__struct_fields__) - in_backticks(row("events.md", kind)) == set(), kind


def test_every_signal_is_documented_with_its_tag_and_fields() -> None:
    for signal in get_args(Signal):
        stands = in_backticks(row("events.md", signal.__name__))
        assert {signal.__struct_config__.tag, *signal.__struct_fields__} - stands == set(), signal


def in_backticks(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def test_every_field_of_the_envelope_is_documented() -> None:
    for fields in (events.Event, events.EventContext):
        assert not missing("events.md", fields.__struct_fields__)


def test_every_error_is_documented() -> None:
    classes = {
        name
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, errors.HoldfastError)
    }
    listed = [name for name in first_columns("errors.md") if name[0].isupper()]
    assert set(listed) == classes
    assert len(listed) == len(classes), "listed twice"


def test_every_limit_is_documented_with_its_default() -> None:
    defaults = msgspec.structs.asdict(DEFAULT_LIMITS)
    for name in Limits.__struct_fields__:
        default = defaults[name]
        shown = "none" if default is None else f"{default:,.0f}"
        assert f"| {shown} |" in row("configuration.md", name)


LITERALS: dict[str, tuple[str, Any]] = {
    "stop reasons": ("turns-and-streaming.md", events.TurnStop),
    "call statuses": ("tools.md", CallStatus),
    "effect classes": ("tools.md", events.Effect),
    "points of hooks": ("hooks-and-policies.md", Point),
    "failures of models": ("models.md", errors.DriverErrorKind),
    "refusals of files": ("files.md", errors.WorkspaceCode),
}

NAMES: dict[str, tuple[str, Iterable[str]]] = {
    "fields of a layer": ("configuration.md", CONFIG_FIELDS),
    "fields of a result": ("turns-and-streaming.md", holdfast.TurnResult.__struct_fields__),
    "settings of a model": ("models.md", holdfast.Settings.__struct_fields__),
    "drivers": ("models.md", DRIVERS),
    "capabilities": ("configuration.md", CAPABILITIES),
}


@pytest.mark.parametrize("what", LITERALS)
def test_every_value_is_documented(what: str) -> None:
    page, literal = LITERALS[what]
    assert not missing(page, get_args(literal))


@pytest.mark.parametrize("what", NAMES)
def test_every_name_is_documented(what: str) -> None:
    page, names = NAMES[what]
    assert not missing(page, names)


def test_whether_a_failure_is_tried_again_is_documented_as_it_is() -> None:
    for kind in get_args(errors.DriverErrorKind):
        assert ("| yes |" in row("models.md", kind)) is (kind in errors.RETRYABLE), kind


def test_how_a_turn_ends_is_documented_as_it_is() -> None:
    ends = {"interrupted": "failed", "invalid_output": "failed", "error": "failed", "cancelled": "cancelled"}
    for stop in get_args(events.TurnStop):
        assert f"| `{ends.get(stop, 'completed')}` |" in row("turns-and-streaming.md", stop)


def test_every_command_and_option_of_the_command_line_is_documented() -> None:
    commands = {"holdfast": main, **main.commands}
    options = [
        option
        for command in commands.values()
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("-") and option != "--version"
    ]
    assert not missing("command-line.md", [*main.commands, *options])
