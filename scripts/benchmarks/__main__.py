"""Measures the rows that are named, or all, and prints one table."""

import argparse
import json
import platform
import re
import signal
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from scripts.benchmarks import client, growth, memory, overhead, searching, server, starting, sweeps
from scripts.benchmarks.figures import Bench, Line, table
from scripts.benchmarks.processes import ROOT, CommandError
from sweeptrail.engines.processes.engine import available_cores
from sweeptrail.fashion_mnist import data

MODULES = (starting, overhead, searching, sweeps, memory, server, growth, client)
ROWS = {name: what for module in MODULES for name, what in module.ROWS.items()}


def arguments() -> argparse.Namespace:
    """Return what stands on the command line."""
    rows = "\n".join(f"  {name:9} {what}" for name, what in ROWS.items())
    parser = argparse.ArgumentParser(
        "scripts/bench",
        description=__doc__,
        epilog=f"rows:\n{rows}\n\nexample:\n  scripts/bench startup help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="what to measure; everything if none is named")
    parser.add_argument("--repeats", type=int, help="how often each is measured; what takes a second, twice as often")
    parser.add_argument("--quick", action="store_true", help="only show that the bench works: once, on few images")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every single measurement")
    given = parser.parse_args()
    unknown = [row for row in given.rows if row not in ROWS]
    if unknown:
        parser.error(f"unknown rows: {', '.join(unknown)}; the rows are {', '.join(ROWS)}")
    if given.repeats is not None and given.repeats < 1:
        parser.error(f"--repeats: expected a whole number from 1, got {given.repeats}")
    return given


def circumstances(bench: Bench) -> dict[str, str]:
    """Return when, where and with what the figures were measured."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "mlflow", "tensorboard"))
    quick = ", --quick: the figures say nothing" if bench.quick else ""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {available_cores()} cores, {platform.platform(terse=True)}",
        "versions": f"Python {platform.python_version()}, {packages}",
        "repeats": f"{bench.repeats}{quick}",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def report(lines: list[Line], bench: Bench, file: Path | None) -> None:
    """Print the table; write everything to a file if there is one."""
    about = circumstances(bench)
    print(*(f"{name}: {text}" for name, text in about.items()), "", table(lines), sep="\n")
    if file:
        table_lines = [{**asdict(line), "median": line.median, "verdict": line.verdict} for line in lines]
        written = {**about, "lines": table_lines, "measurements": bench.measurements}
        file.write_text(json.dumps(written, indent=1) + "\n")


def main() -> None:
    """Measure, and report what was measured even when it breaks off."""
    given = arguments()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that nothing is left running
    repeats = given.repeats or (1 if given.quick else 3)
    bench = Bench(repeats, given.quick, data.load(None, str(ROOT / "data")).folder)
    lines: list[Line] = []
    try:
        for module in MODULES:
            if wanted := [row for row in module.ROWS if row in (given.rows or ROWS)]:
                for line in module.measure(wanted, bench):
                    print(*line.cells(), sep="  ", file=sys.stderr, flush=True)
                    lines.append(line)
    except (CommandError, KeyboardInterrupt) as error:
        sys.exit(f"error: {str(error) or 'interrupted'}")
    finally:
        report(lines, bench, given.json)


if __name__ == "__main__":
    main()
