"""The server that the tests beside this one run on is never missing in silence."""

import os

import pytest

from tests import postgres
from tests.stores.postgres import server
from tests.stores.postgres.server import NoServer, Server


def missing() -> None:
    raise NoServer("for a test")


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_without_a_server_tests_are_skipped_with_the_reason_and_fail_where_they_must_run(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(server, "binaries", missing)
    with pytest.raises(outcome, match="no Postgres: for a test"):
        postgres.started(fsync=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_as_root_the_server_runs_as_nobody(own_server: Server) -> None:
    assert own_server._process is not None
    assert os.stat(f"/proc/{own_server._process.pid}").st_uid == server.NOBODY
