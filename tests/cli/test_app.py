"""The `holdfast` command as a whole."""

import subprocess
import sys

import pytest

from holdfast.cli.app import holdfast
from tests.cli.kit import Cli


def test_every_command_explains_itself(cli: Cli) -> None:
    text = cli.ok("--help")
    for name in holdfast.commands:
        assert f"  {name} " in text
        assert "Usage: " in cli.ok(name, "--help")


@pytest.mark.parametrize("name", list(holdfast.commands))
def test_a_command_s_summary_fits_on_its_line(cli: Cli, name: str) -> None:
    assert not holdfast.commands[name].get_short_help_str(65).endswith("...")


def test_an_error_is_one_line_and_a_traceback_only_on_request(cli: Cli) -> None:
    result = cli("run", "--model", "nobody/x", "hi")
    assert (result.exit_code, result.stderr.splitlines()[-1][:7]) == (2, "error: ")
    assert "Traceback" not in result.stderr
    assert type(cli("--debug", "run", "--model", "nobody/x", "hi").exception).__name__ == "UnknownModel"


def test_the_version_is_the_package_s(cli: Cli) -> None:
    assert cli.ok("--version").startswith("holdfast, version 0.")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def test_without_its_extra_the_command_says_what_to_install() -> None:
    done = python("import sys; sys.modules['click'] = None; import holdfast.cli")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "the command line needs 'click'; install it with: pip install 'holdfast[cli]'\n"


def test_help_waits_for_neither_rich_nor_a_provider() -> None:
    done = python("import sys, holdfast.cli; sys.stdout.write(' '.join(sys.modules))")
    assert done.returncode == 0, done.stderr
    assert not {"rich", "httpx2", "openai", "starlette"} & {
        name.partition(".")[0] for name in done.stdout.split()
    }
