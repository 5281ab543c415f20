"""What may be tried on hooks: row 049 of the checklist. The others are proven where commands are tested."""

from pathlib import Path
from typing import Any

import pytest

from holdfast import FILES, Agent, CommandHook, Config, DiskFiles, Runtime
from holdfast.drivers.sim import Sim
from holdfast.errors import ConfigError


@pytest.mark.parametrize(
    "way", ["itself", "as an argument", "from where it runs", "by a link", "around", "in a shell line"]
)
async def test_s049_a_script_that_the_agent_can_write_is_no_hook(way: str, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    script = work / "hook.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    (tmp_path / "link.sh").symlink_to(script)
    run: dict[str, Any] = {
        "itself": {"argv": (str(script),)},
        "as an argument": {"argv": ("/bin/sh", str(script))},
        "from where it runs": {"argv": ("/bin/sh", "hook.sh"), "cwd": str(work)},
        "by a link": {"argv": (str(tmp_path / "link.sh"),)},
        "around": {"argv": (f"{tmp_path}/work/../work/hook.sh",)},
        "in a shell line": {"shell": f"true && sh '{script}';true"},
    }[way]
    hook = CommandHook(**{"id": "t:hook", "point": "before_tool", "cwd": "/", "guard": True, **run})
    agent = Agent(model=Sim.always("Hi."), capabilities=["files"], config=Config(hooks=(hook,)))
    async with Runtime(services={FILES: DiskFiles(work, writable=True)}) as runtime:
        with pytest.raises(ConfigError, match="the agent may write"):
            await runtime.session(agent)
