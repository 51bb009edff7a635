"""Measures the same job done by this project and by other tools, each as a whole process, and prints a table for each size.

usage: compare.py NAME:LAKE:DAY … --repetitions N --limit SECONDS --json FILE. The jobs take turns, so that a machine that gets
slower does so for all of them. The first result of each tool is held to ours by check.py; a difference ends the benchmark. The
floor is no job but a part of ours, and says itself how long it took.
"""

import argparse
import json
import os
import re
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

BENCH = Path(__file__).resolve().parent
OURS, FLOOR = "ours", "decode and encode alone"
PEERS = ("duckdb", "polars", "pandas")
# How often a process's memory is looked at. Its end is noticed at once.
WATCH_SECONDS = 0.05
WANT_OF_MEMORY = re.compile("out of memory|MemoryError|memory allocation of|bad_alloc", re.IGNORECASE)
PAGE = os.sysconf("SC_PAGE_SIZE")
MB = 1e6


class Size(NamedTuple):
    """A lake to measure with, and the day that features are built for."""

    name: str
    lake: Path
    as_of: str


class Run(NamedTuple):
    """What one process took. The peak is never below that of this script, about 15 MB."""

    wall_seconds: float
    cpu_seconds: float
    peak_mb: float


def measure(command: list[str], limit_seconds: float, limit_bytes: int) -> Run | str:
    """Runs a process to its end, or to a limit of time or memory; returns what it took, or why it did not come to its end."""
    with tempfile.TemporaryFile() as errors:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        exceeded = watch(process.pid, begun + limit_seconds, limit_bytes)
        if exceeded:
            process.kill()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if exceeded:
            return exceeded
        if process.returncode:
            errors.seek(0)
            return failure(process.returncode, errors.read().decode(errors="replace"))
        return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / MB)


def watch(pid: int, deadline: float, limit_bytes: int) -> str | None:
    """Waits for the end of a process; returns the limit that it came to before."""
    handle = os.pidfd_open(pid)
    try:
        while not select.select([handle], [], [], WATCH_SECONDS)[0]:
            if time.perf_counter() > deadline:
                return "out of time"
            if resident_bytes(pid) > limit_bytes:
                return "out of memory"
        return None
    finally:
        os.close(handle)


def resident_bytes(pid: int) -> int:
    """The memory that a process holds; none if it has just ended."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * PAGE


def failure(code: int, errors: str) -> str:
    """Why a process failed: for want of memory (the kernel kills with signal 9), or as its last line says."""
    if code == -9 or WANT_OF_MEMORY.search(errors):
        return "out of memory"
    return f"failed: {next(filter(str.strip, reversed(errors.splitlines())), f'exit code {code}')}"


def command_of(job: str, binary: Path, size: Size, out: Path) -> list[str]:
    """How a job is started."""
    if job == OURS:
        return [str(binary), "rebuild", str(size.lake), size.as_of]
    script = BENCH / "peers" / f"{job}_job.py"
    return [sys.executable, str(script), "--lake", str(size.lake), "--out", str(out), "--as-of", size.as_of]


def clear(job: str, lake: Path, out: Path) -> None:
    """Removes what an earlier run of the job left, and lets the disk come to rest."""
    mine = [lake / name for name in ("analytics", "state", "catalog", "runs")] if job == OURS else []
    for folder in (*mine, out):
        shutil.rmtree(folder, ignore_errors=True)
    os.sync()


def warm(lake: Path) -> None:
    """Reads the job's input once, so that the first to run is not the one that waits for the disk."""
    for file in (lake / "stage").rglob("*.parquet"):
        file.read_bytes()


def check(size: Size, job: str, out: Path) -> None:
    """Holds a peer's result to ours.

    Raises:
        SystemExit: They differ.
    """
    command = [sys.executable, str(BENCH / "check.py"), "--ours", str(size.lake), "--theirs", str(out)]
    found = subprocess.run([*command, "--as-of", size.as_of], check=False, capture_output=True, text=True)
    if found.returncode:
        sys.exit(f"{size.name}: the result of {job} is not ours\n{found.stdout}{found.stderr}")


def compare(size: Size, repetitions: int, arguments: argparse.Namespace) -> dict[str, list[Run] | str]:
    """Runs the jobs in turns. One that a limit stopped, or that failed, has the reason in place of runs, and no more turns."""
    results: dict[str, list[Run] | str] = {}
    out = arguments.work / size.name
    warm(size.lake)
    for repetition in range(repetitions):
        for job in (OURS, *arguments.peers):
            runs = results.setdefault(job, [])
            if isinstance(runs, str):
                continue
            clear(job, size.lake, out)
            command = command_of(job, arguments.binary, size, out)
            run = measure(command, arguments.limit, int(arguments.memory_limit * 2**30))
            print(f"{size.name} {repetition + 1}/{repetitions} {job}: {run}", file=sys.stderr)
            if isinstance(run, Run):
                runs.append(run)
                if job in arguments.peers and repetition == 0:
                    check(size, job, out)
            elif job in arguments.peers:
                results[job] = run
            else:
                sys.exit(f"{size.name}: {job}: {run}")
    shutil.rmtree(out, ignore_errors=True)
    return results


def floor(size: Size, repetitions: int, binary: Path) -> float:
    """The seconds that only decoding the columns that are needed, and encoding what is left behind, take with all processors."""
    command = [str(binary), "floor", str(size.lake)]
    said = (subprocess.run(command, check=True, capture_output=True).stdout for _ in range(repetitions))
    return statistics.median(json.loads(line)["seconds"] for line in said)


def medians(runs: list[Run]) -> Run:
    """The median of each figure."""
    return Run(*(statistics.median(figures) for figures in zip(*runs, strict=True)))


def table(size: Size, results: dict[str, list[Run] | str], floor_seconds: float) -> str:
    """The results of a size as a Markdown table."""
    lines = [
        f"### {size.name}",
        "",
        "| job | wall s (median) | CPU s | peak MB | wall over ours | memory over ours |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    figures = {job: runs if isinstance(runs, str) else medians(runs) for job, runs in results.items()}
    ours = figures[OURS]
    assert isinstance(ours, Run), "without ours the benchmark has ended"
    for job, run in figures.items():
        if isinstance(run, str):
            lines.append(f"| {job} | {run} | | | | |")
        else:
            over = f"{run.wall_seconds / ours.wall_seconds:.2f} | {run.peak_mb / ours.peak_mb:.2f}"
            lines.append(f"| {job} | {run.wall_seconds:.2f} | {run.cpu_seconds:.2f} | {run.peak_mb:,.0f} | {over} |")
    lines.append(f"| {FLOOR} | {floor_seconds:.2f} | | | {floor_seconds / ours.wall_seconds:.2f} | |")
    return "\n".join(lines) + "\n"


def as_json(size: Size, results: dict[str, list[Run] | str], floor_seconds: float) -> dict:
    """The results of a size, every run among them."""
    jobs = {
        job: {"failed": runs}
        if isinstance(runs, str)
        else {"median": medians(runs)._asdict(), "runs": [run._asdict() for run in runs]}
        for job, runs in results.items()
    }
    return {"name": size.name, "as_of": size.as_of, "jobs": jobs, "floor_seconds": floor_seconds}


def parse_size(text: str) -> Size:
    """A size from NAME:LAKE:DAY."""
    name, lake, as_of = text.split(":")
    return Size(name, Path(lake), as_of)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="+", type=parse_size, metavar="NAME:LAKE:DAY", help="a lake and its last day")
    parser.add_argument(
        "--repetitions", nargs="+", type=int, default=[3], metavar="N", help="of all sizes, or one for each (default 3)"
    )
    parser.add_argument("--limit", type=float, default=1800, metavar="SECONDS", help="for a process (default 1800)")
    parser.add_argument("--memory-limit", type=float, default=20, metavar="GIB", help="for a process (default 20)")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS, help="whom to compare with (default all)")
    parser.add_argument("--binary", type=Path, default=BENCH.parent / "target/release/bench", help="our job")
    parser.add_argument("--work", type=Path, default=BENCH.parent / "target/bench-peers", help="where the peers write")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures are written as well")
    arguments = parser.parse_args()
    if len(arguments.repetitions) == 1:
        arguments.repetitions *= len(arguments.sizes)
    if len(arguments.repetitions) != len(arguments.sizes) or min(arguments.repetitions) < 1:
        parser.error("--repetitions takes one number, or one for each size")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    measured = []
    for size, repetitions in zip(arguments.sizes, arguments.repetitions, strict=True):
        results = compare(size, repetitions, arguments)
        floor_seconds = floor(size, repetitions, arguments.binary)
        print(table(size, results, floor_seconds), flush=True)
        measured.append(as_json(size, results, floor_seconds))
        # After each size, so that one that fails takes no other with it.
        if arguments.json:
            arguments.json.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
