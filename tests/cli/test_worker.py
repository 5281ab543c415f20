"""`holdfast worker` and `recover`, with real processes."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

from tests.cli.kit import ECHO, Cli, finished, until
from tests.cli.workers import CREW, Crew, noted, owing


async def test_two_workers_share_the_work_and_drain_on_sigterm(cli: Cli, crew: Crew, ledger: Path) -> None:
    sessions = await owing(cli.db, 12)
    workers = [crew.start("--sessions", "3", toil="0.2") for _ in range(2)]
    await noted(ledger, "end", 12)
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    ends = [await asyncio.to_thread(finished, worker) for worker in workers]
    assert [code for code, _, _ in ends] == [0, 0]
    lines = [line.split() for _, out, _ in ends for line in out.splitlines()]
    assert sorted(lines) == sorted([session_id, "completed"] for session_id in sessions)
    assert Counter(await noted(ledger, "begin", 12)) == dict.fromkeys(sessions, 1)


async def test_sigterm_lets_a_running_turn_rest_and_takes_up_nothing_more(
    cli: Cli, crew: Crew, ledger: Path
) -> None:
    await owing(cli.db, 2)
    worker = crew.start("--sessions", "1", gated=True, toil="0")
    begun = await noted(ledger, "begin", 1)
    worker.send_signal(signal.SIGTERM)
    await asyncio.to_thread(until, worker, "stopping", worker.stderr)
    crew.let_go()
    code, out, err = await asyncio.to_thread(finished, worker)
    assert code == 0, err
    assert out.split() == [begun[0], "completed"]
    assert ledger.read_text().splitlines() == [f"begin {begun[0]}", f"end {begun[0]}"]


async def test_a_second_signal_leaves_at_once_and_so_does_the_end_of_the_drain(
    cli: Cli, crew: Crew, ledger: Path
) -> None:
    await owing(cli.db, 1)
    worker = crew.start(toil="60")
    await noted(ledger, "begin", 1)
    worker.send_signal(signal.SIGTERM)
    await asyncio.to_thread(until, worker, "stopping", worker.stderr)
    worker.send_signal(signal.SIGINT)
    code, _, said = await asyncio.to_thread(finished, worker)
    assert code == 130, said
    impatient = crew.start("--drain", "0.1", "--lease", "0.5", toil="60")
    await noted(ledger, "begin", 2)
    impatient.send_signal(signal.SIGTERM)
    code, _, said = await asyncio.to_thread(finished, impatient)
    assert code == 0, said


async def test_the_sessions_of_a_killed_worker_are_taken_over(cli: Cli, crew: Crew, ledger: Path) -> None:
    sessions = await owing(cli.db, 3)
    victim = crew.start("--lease", "0.5", toil="60")
    await noted(ledger, "begin", 3)
    victim.kill()
    victim.communicate()
    crew.start(toil="0.01")
    assert sorted(await noted(ledger, "end", 3)) == sorted(sessions)


def test_recover_goes_on_at_once_with_what_a_dead_process_held(cli: Cli, crew: Crew, ledger: Path) -> None:
    (session_id,) = asyncio.run(owing(cli.db, 1))
    victim = crew.start(toil="60")
    asyncio.run(noted(ledger, "begin", 1))
    held = cli("recover", *CREW)
    assert held.exit_code == 1
    assert f"{session_id}  left: " in held.stdout
    victim.kill()
    victim.communicate()
    cli.env["TOIL"] = "0"
    assert cli.ok("recover", *CREW).split() == [session_id, "completed"]
    assert cli.ok("recover", *CREW) == ""


def test_recover_leaves_a_session_whose_agent_was_not_given_and_says_so(cli: Cli, ledger: Path) -> None:
    (session_id,) = asyncio.run(owing(cli.db, 1))
    result = cli("recover")
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{session_id}  left: ")
    assert "tool toil" in result.stdout


def test_agents_that_are_none_are_an_error_that_says_which(cli: Cli) -> None:
    cli.ok("run", *ECHO, "hi")
    for name, why in (
        ("tests.cli.crew:nobody", "is no Agent"),
        ("tests.cli.crew:missing", "has no 'missing'"),
        ("no.such.module:agents", "needs the package"),
        ("nothing", "does not name anything"),
    ):
        for command in ("worker", "recover"):
            result = cli(command, "--agents", name)
            assert result.exit_code == 2
            assert why in result.stderr
    assert cli("worker", "--sessions", "0").exit_code == 2


def test_an_agent_file_serves_a_worker_too(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "reader.md").write_text("---\nmodel: sim/echo\n---\nRead.\n")
    cli.ok("run", "--agent", str(tmp_path / "reader.md"), "hi")
    assert cli.ok("recover", "--agent", str(tmp_path / "reader.md")) == ""
