"""The same workloads beside other libraries, in one run on one machine.

The other side (a harness, and a file for each library) lies beside the checkout and is not ours: it is copied to a
temporary folder and run there. It makes a virtual environment for each library with uv and keeps those for next time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.cold import ROOT

PEERS = ROOT.parent / "shared" / "bench" / "peers"
OURS = Path(__file__).with_name("peer_holdfast.py")


class Unavailable(Exception):
    """The other side cannot be run; says what is missing."""


def compare(peers: str, workloads: str, *, place: Path = PEERS, out: Path | None = None) -> int:
    """Run both sides and print their tables; the other harness's exit code. `peers` and `workloads` are comma lists.

    `raw` (the same work by hand, without a library) is the reference of the ratios, so it always runs.
    Raises `Unavailable`.
    """
    environment = {**os.environ, "PATH": _path_with_uv()}
    if not (place / "run_all.py").is_file():
        raise Unavailable(f"there is no run_all.py in {place}; give its folder with --peers-from")
    names = dict.fromkeys(["raw", *peers.split(",")])
    with tempfile.TemporaryDirectory(prefix="holdfast-peers-") as folder:
        copy = Path(folder, "peers")
        shutil.copytree(place, copy)
        copy.chmod(0o755)
        command = [
            sys.executable,
            str(copy / "run_all.py"),
            *("--workloads", workloads, "--peers", ",".join(names), "--reference", "raw:mem"),
            *("--extra", f"holdfast={OURS}@{sys.executable}"),
            *("--out", str(out.resolve() if out else copy / "results.json")),
        ]
        return subprocess.run(command, env=environment, check=False).returncode


def _path_with_uv() -> str:
    """Where commands are looked for, with our own environment's first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    if shutil.which("uv", path=path) is None:
        raise Unavailable("the other libraries' environments are made with uv: `.venv/bin/pip install uv`")
    return path
