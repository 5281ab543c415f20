"""What a directory brings with it runs only as it was trusted: any change, link or trick on the way ends that."""

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast import Agent, CapabilityRef, Config, Runtime
from holdfast.commands.brought import MAX_FILES, find_hooks
from holdfast.commands.trust import Trust
from holdfast.drivers.sim import Sim, say
from holdfast.errors import ConfigError, HooksRefused

SHOUT = """
import json, sys
told = json.loads(sys.stdin.readline())
print(json.dumps({"nonce": told["nonce"], "decision": "modify", "message": "WORD"}))
"""
HOOKS = f"""
[[hooks]]
id = "shout"
point = "before_turn"
command = ["{sys.executable}", "-I", "scripts/shout.py"]
guard = true
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A repository that was cloned."""
    place = tmp_path / "work"
    (place / ".holdfast").mkdir(parents=True)
    (place / ".holdfast" / "hooks.toml").write_text(HOOKS)
    (place / "scripts").mkdir()
    (place / "scripts" / "shout.py").write_text(SHOUT.replace("WORD", "trusted"))
    return place


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data directory."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "holdfast"


def trust(work: Path) -> None:
    found = find_hooks(work)
    assert found is not None
    Trust().trust(found)


async def heard(work: Path) -> str:
    """What the model is told of an input, in a session that works there."""
    model = Sim.storyboard(say("ok"))
    capability = CapabilityRef(name="workspace_hooks", config={"directories": [str(work)]})
    async with Runtime() as runtime:
        session = await runtime.session(Agent("x", model=model, config=Config(capabilities=(capability,))))
        await session.run("hello")
    return model.requests[0].messages[0].text


async def test_nothing_of_a_directory_runs_before_it_is_trusted(
    work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert await heard(work) == "hello"
    assert f"holdfast trust {work}" in caplog.text


async def test_what_is_trusted_runs(work: Path) -> None:
    trust(work)
    assert await heard(work) == "trusted"


async def test_what_somebody_writes_after_it_was_loaded_does_not_run(work: Path) -> None:
    trust(work)
    model = Sim.storyboard(say("ok"), say("ok"))
    capability = CapabilityRef(name="workspace_hooks", config={"directories": [str(work)]})
    async with Runtime() as runtime:
        session = await runtime.session(Agent("x", model=model, config=Config(capabilities=(capability,))))
        await session.run("hello")
        (work / "scripts" / "shout.py").write_text(SHOUT.replace("WORD", "evil"))
        await session.run("again")
    assert [message.text for message in model.requests[1].messages if message.role == "user"] == [
        "trusted"
    ] * 2


CHANGES: dict[str, Callable[[Path], Any]] = {
    "a command file": lambda work: (work / "scripts/shout.py").write_text("import os"),
    "the list": lambda work: (work / ".holdfast/hooks.toml").write_text(HOOKS.replace("guard = true", "")),
    "a file beside the list": lambda work: (work / ".holdfast/sitecustomize.py").write_text("import os"),
    "a permission": lambda work: (work / "scripts/shout.py").chmod(0o755),
    "a file that is gone": lambda work: (work / "scripts/shout.py").unlink(),
    "a list that is gone": lambda work: (work / ".holdfast/hooks.toml").unlink(),
    "a list that is broken": lambda work: (work / ".holdfast/hooks.toml").write_text("[["),
    "a link to the same content": lambda work: (
        (work / "scripts/shout.py").rename(work / "kept.py"),
        (work / "scripts/shout.py").symlink_to(work / "kept.py"),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_any_change_ends_the_trust_and_refuses_to_go_on_without_the_guard(
    work: Path, change: str
) -> None:
    trust(work)
    CHANGES[change](work)
    with pytest.raises(HooksRefused):
        await heard(work)
    assert Trust().revoke(work)
    assert await heard(work) == "hello"


async def test_the_old_content_is_not_trusted_any_more_once_other_content_is(work: Path) -> None:
    trust(work)
    (work / "scripts/shout.py").write_text(SHOUT.replace("WORD", "second"))
    trust(work)
    assert await heard(work) == "second"
    (work / "scripts/shout.py").write_text(SHOUT.replace("WORD", "trusted"))
    with pytest.raises(HooksRefused):
        await heard(work)


async def test_the_same_content_elsewhere_is_not_trusted(work: Path, tmp_path: Path) -> None:
    trust(work)
    work.rename(tmp_path / "moved")
    assert await heard(tmp_path / "moved") == "hello"


async def test_a_link_to_a_trusted_directory_is_that_directory(work: Path, tmp_path: Path) -> None:
    trust(work)
    (tmp_path / "link").symlink_to(work)
    assert await heard(tmp_path / "link") == "trusted"


def test_another_directory_put_in_its_place_is_not_trusted(work: Path, tmp_path: Path) -> None:
    trust(work)
    work.rename(tmp_path / "away")
    (tmp_path / "evil" / ".holdfast").mkdir(parents=True)
    (tmp_path / "evil" / ".holdfast" / "hooks.toml").write_text(HOOKS)
    work.symlink_to(tmp_path / "evil")
    assert Trust().look(work)[0] == "new"


ODD: dict[str, Callable[[Path], Any]] = {
    "the folder is a link": lambda work: (
        (work / ".holdfast").rename(work / "other"),
        (work / ".holdfast").symlink_to(work / "other"),
    ),
    "the list is a link": lambda work: (
        (work / ".holdfast/hooks.toml").rename(work / "other"),
        (work / ".holdfast/hooks.toml").symlink_to(work / "other"),
    ),
    "a command leads through a link": lambda work: (
        (work / "scripts").rename(work / "other"),
        (work / "scripts").symlink_to(work / "other"),
    ),
    "a pipe": lambda work: os.mkfifo(work / ".holdfast/pipe"),
    "a link in the folder": lambda work: (work / ".holdfast/passwd").symlink_to("/etc/passwd"),
    "a dangling link": lambda work: (work / ".holdfast/gone").symlink_to("/no/such"),
    "too many files": lambda work: [
        (work / f".holdfast/{number}").write_text("") for number in range(MAX_FILES + 1)
    ],
    "too much": lambda work: (work / ".holdfast/big").write_bytes(bytes(5_000_000)),
    "a whole path": lambda work: (work / ".holdfast/hooks.toml").write_text(
        HOOKS.replace("scripts/shout.py", str(work / "scripts/shout.py"))
    ),
    "a way out": lambda work: (work / ".holdfast/hooks.toml").write_text(
        HOOKS.replace("scripts/shout.py", "scripts/../../evil.py")
    ),
    "no TOML": lambda work: (work / ".holdfast/hooks.toml").write_text("hooks = ["),
    "no text": lambda work: (work / ".holdfast/hooks.toml").write_bytes(b"\xff"),
    "an unknown key": lambda work: (work / ".holdfast/hooks.toml").write_text(HOOKS + "trusted = true\n"),
    "an unknown point": lambda work: (work / ".holdfast/hooks.toml").write_text(
        HOOKS.replace("before_turn", "always")
    ),
    "many directories": lambda work: [
        (work / f".holdfast/{number}").mkdir() for number in range(MAX_FILES + 1)
    ],
    "deep directories": lambda work: (work / ".holdfast" / "/".join("d" * (MAX_FILES + 1))).mkdir(
        parents=True
    ),
    "a name that is no text": lambda work: os.mkdir(os.fsencode(work) + b"/.holdfast/\xff"),
    "a file whose name is no text": lambda work: os.close(
        os.open(os.fsencode(work) + b"/.holdfast/\xff", os.O_CREAT)
    ),
    "a NUL in a command": lambda work: (work / ".holdfast/hooks.toml").write_text(
        HOOKS.replace("scripts/shout.py", "scripts/\\u0000shout.py")
    ),
    "two of one id": lambda work: (work / ".holdfast/hooks.toml").write_text(HOOKS * 2),
}


@pytest.mark.parametrize("odd", ODD)
async def test_what_is_odd_is_neither_trusted_nor_run(work: Path, odd: str) -> None:
    ODD[odd](work)
    with pytest.raises(HooksRefused, match="work"):
        find_hooks(work)
    assert await heard(work) == "hello"


@pytest.mark.parametrize(
    "line", ["command = []", 'command = ["sh"]\ntimeout = 31.0', 'command = ["sh"]\nshell = "x"']
)
def test_hooks_that_could_never_run_cannot_be_trusted(work: Path, line: str) -> None:
    (work / ".holdfast/hooks.toml").write_text(f'[[hooks]]\nid = "h"\npoint = "after_turn"\n{line}\n')
    with pytest.raises(HooksRefused, match="hook h"):
        trust(work)
    assert Trust().listed() == ()


async def test_what_says_so_is_the_users_alone(work: Path, home: Path) -> None:
    trust(work)
    assert stat.S_IMODE((home / "trust.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    (home / "trust.json").chmod(0o666)
    with pytest.raises(HooksRefused, match="may be written by others"):
        await heard(work)
    (home / "trust.json").chmod(0o600)
    home.chmod(0o777)
    with pytest.raises(HooksRefused, match="may be written by others"):
        await heard(work)


async def test_a_link_in_place_of_what_says_so_is_not_followed(work: Path, home: Path) -> None:
    trust(work)
    (home / "trust.json").rename(home / "real.json")
    (home / "trust.json").symlink_to(home / "real.json")
    with pytest.raises(HooksRefused, match="cannot be read"):
        await heard(work)


async def test_a_copy_that_was_changed_is_made_anew(work: Path, home: Path) -> None:
    trust(work)
    assert await heard(work) == "trusted"
    [copy] = (home / "hooks").iterdir()
    script = copy / "scripts" / "shout.py"
    script.chmod(0o600)
    script.write_text(SHOUT.replace("WORD", "evil"))
    (copy / "json.py").write_text("raise SystemExit(1)")
    assert await heard(work) == "trusted"


async def test_a_hook_runs_among_copies_and_is_told_where_the_directory_is(
    work: Path, tmp_path: Path
) -> None:
    out = tmp_path / "seen"
    (work / "scripts/shout.py").write_text(
        f"import json, os\nopen({str(out)!r}, 'w').write(json.dumps([os.getcwd(), os.environ['HOLDFAST_WORKSPACE']]))\n"
    )
    (work / ".holdfast/hooks.toml").write_text(HOOKS.replace("guard = true", ""))
    trust(work)
    await heard(work)
    cwd, workspace = json.loads(out.read_text())
    assert workspace == str(work)
    assert not Path(cwd).is_relative_to(work)


async def test_a_program_of_the_directory_runs_where_it_is_executable(work: Path) -> None:
    script = work / "scripts" / "shout.py"
    script.write_text(f"#!{sys.executable}\n{SHOUT.replace('WORD', 'direct')}")
    script.chmod(0o755)
    (work / ".holdfast/hooks.toml").write_text(
        '[[hooks]]\nid = "h"\npoint = "before_turn"\ncommand = ["./scripts/shout.py"]\n'
    )
    trust(work)
    assert await heard(work) == "direct"


async def test_what_a_line_for_a_shell_names_is_trusted_and_copied_with_it(work: Path) -> None:
    line = f"cd . && '{sys.executable}' -I scripts/shout.py; true"
    (work / ".holdfast/hooks.toml").write_text(
        f'[[hooks]]\nid = "h"\npoint = "before_turn"\nshell = "{line}"\n'
    )
    trust(work)
    assert await heard(work) == "trusted"
    (work / "scripts/shout.py").write_text(SHOUT.replace("WORD", "evil"))
    with pytest.raises(HooksRefused):
        await heard(work)


async def test_a_missing_program_is_found_when_the_manifest_is_made(work: Path) -> None:
    (work / ".holdfast/hooks.toml").write_text(
        '[[hooks]]\nid = "h"\npoint = "before_turn"\ncommand = ["./scripts/none"]\n'
    )
    trust(work)
    with pytest.raises(ConfigError, match="no such program"):
        await heard(work)


def test_revoking_what_was_never_trusted_is_no_error(work: Path) -> None:
    assert not Trust().revoke(work)
    assert find_hooks(work / "scripts") is None
