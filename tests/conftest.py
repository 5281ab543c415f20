"""What every test shares: one event loop backend, and the recorded material next to the repository."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.postgres import postgres_url, schema

__all__ = ["postgres_url", "schema"]

# The suites that ship in the package fail as readably as tests do.
pytest.register_assert_rewrite("holdfast.testing")

ROOT = Path(__file__).resolve().parent.parent

# How wide the terminal is, where whoever started the tests says so: what the command line prints must not depend on it.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

# The machines that run these tests are shared; a deadline would only measure the neighbours.
settings.register_profile("holdfast", deadline=None)
settings.load_profile("holdfast")


LONGEST = (
    "tests/stores/postgres/test_races.py",
    "tests/crash/test_kills.py",
    "tests/testing/test_crashtest.py",
    "tests/crash/test_boundaries.py",
    "tests/test_turn_handle.py",
    "tests/testing/test_providers.py",
    "tests/testing/test_simulation.py",
    "tests/scripts/test_torture.py",
    "tests/stores/test_state_machine.py",
    "tests/drivers/test_openai_responses_cassettes.py",
    "tests/test_transaction_kills.py",
)
"""The files that take longest, about a minute or two each."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the files (`make test`) the long ones begin first: none is left over at the end.

    A test is called the same in every process, or they cannot share them.
    """
    if unstable := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"give these tests ids without addresses: {unstable[:3]}")
    if hasattr(config, "workerinput"):
        place = {ROOT / name: rank for rank, name in enumerate(LONGEST)}
        items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Holdfast runs on asyncio and nothing else."""
    return "asyncio"


def shared_fixtures() -> Path:
    """The folder of third-party recordings: `$HOLDFAST_FIXTURES`, or `../shared/fixtures` beside the checkout.

    May be called while tests are collected (to parametrise over files) or inside a test. Without the folder
    the caller is skipped with the reason; with `CI=true` it fails: a green build has read every recording.
    """
    place = os.environ.get("HOLDFAST_FIXTURES")
    path = Path(place) if place else ROOT.parent / "shared" / "fixtures"
    if path.is_dir():
        return path
    reason = f"no recordings at {path}: put them there or set HOLDFAST_FIXTURES"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)


@pytest.fixture(name="shared_fixtures")
def _shared_fixtures() -> Path:
    return shared_fixtures()
