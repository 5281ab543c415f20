"""The command line: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import msgspec
from msgspec import structs

from benchmarks import report, side_by_side
from benchmarks.figures import QUICK, Effort, Figure
from benchmarks.profiled import profile
from benchmarks.worker import PARTS, measure_apart


def main() -> int:
    """Measure, profile or compare; 0 when that worked, whatever the figures say."""
    options = _options().parse_args()
    effort = QUICK if options.quick else Effort()
    if options.repeats:
        effort = structs.replace(effort, repeats=options.repeats)
    if options.profile:
        print(profile(options.profile, structs.replace(effort, repeats=2, trace=False)))
        return 0
    if options.peers:
        return _compare(options)
    return _measure(options, effort)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast Holdfast is.")
    parser.add_argument(
        "--workloads", default=",".join(PARTS), type=_names, help="such as w1,w4; all by default"
    )
    parser.add_argument("--repeats", type=int, help="of each figure; 5 by default")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter repeats, no tracing")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the JSON here instead of printing it")
    parser.add_argument(
        "--profile", choices=list(PARTS), metavar="W", help="show where this workload's time goes"
    )
    parser.add_argument("--peers", metavar="NAMES", help="run beside other libraries, such as agno,strands")
    parser.add_argument(
        "--peers-from", type=Path, default=side_by_side.PEERS, metavar="FOLDER", help="where those are"
    )
    return parser


def _names(text: str) -> list[str]:
    names = text.split(",")
    if strange := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"no workload {', '.join(strange)}; there are {', '.join(PARTS)}")
    return names


def _compare(options: argparse.Namespace) -> int:
    workloads = ",".join(options.workloads)
    try:
        return side_by_side.compare(options.peers, workloads, place=options.peers_from, out=options.out)
    except side_by_side.Unavailable as error:
        print(error, file=sys.stderr)
        return 2


def _measure(options: argparse.Namespace, effort: Effort) -> int:
    figures: list[Figure] = []
    collectors, failed = set(), []
    for name in options.workloads:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            for measured in measure_apart(name, effort):
                figures += measured.figures
                collectors.add(measured.collector)
        except subprocess.SubprocessError as error:
            print(f"{name} failed: {error}", file=sys.stderr)
            failed.append(name)
    about = report.machine(", ".join(sorted(collectors)))
    if not options.json:
        _show(figures, about)
    body = msgspec.json.encode(report.as_data(figures, about)).decode()
    if options.out:
        options.out.write_text(body + "\n", encoding="utf-8")
    else:
        print(body)
    return 1 if failed else 0


def _show(figures: list[Figure], about: dict[str, str]) -> None:
    print("; ".join(f"{name} {value}" for name, value in about.items()))
    print()
    print(report.table(figures))
    print()
    for name in report.misses(figures):
        print(f"{name.upper()} misses what it must reach: python -m benchmarks --profile {name}")


if __name__ == "__main__":
    sys.exit(main())
