"""What may be tried on hooks: row 049 of the checklist. The others are proven where commands are tested."""

from pathlib import Path

import pytest

from holdfast import FILES, Agent, CommandHook, Config, DiskFiles, Runtime
from holdfast.drivers.sim import Sim
from holdfast.errors import ConfigError


@pytest.mark.parametrize("way", ["itself", "as an argument", "from where it runs", "by a link", "around"])
async def test_s049_a_script_that_the_agent_can_write_is_no_hook(way: str, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    script = work / "hook.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    (tmp_path / "link.sh").symlink_to(script)
    argv, cwd = {
        "itself": ((str(script),), "/"),
        "as an argument": (("/bin/sh", str(script)), "/"),
        "from where it runs": (("/bin/sh", "hook.sh"), str(work)),
        "by a link": ((str(tmp_path / "link.sh"),), "/"),
        "around": ((f"{tmp_path}/work/../work/hook.sh",), "/"),
    }[way]
    hook = CommandHook(id="t:hook", point="before_tool", argv=argv, cwd=cwd, guard=True)
    agent = Agent(model=Sim.always("Hi."), capabilities=["files"], config=Config(hooks=(hook,)))
    async with Runtime(services={FILES: DiskFiles(work, writable=True)}) as runtime:
        with pytest.raises(ConfigError, match="the agent may write"):
            await runtime.session(agent)
