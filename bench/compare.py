"""Measures the same job in this project and in other tools (the peers), as whole processes. Prints a table per size.

usage: compare.py NAME:LAKE:DAY[:PEERS] … --repetitions N --limit SECONDS --json FILE. The jobs take turns, so that a
machine that becomes slower affects all of them. check.py compares the first result of each peer with ours, and a
difference ends the benchmark. The floor is not a job but a part of ours, and reports its own time. A size may name its
peers, with commas between: at a large one, each takes minutes.
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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

BENCH = Path(__file__).resolve().parent
OURS, FLOOR = "ours", "decode and encode alone"
PEERS = ("duckdb", "polars", "pandas", "datafusion", "chdb")
# The interval at which the memory of a process is checked. The end of a process is noticed at once.
POLL_SECONDS = 0.05
OUT_OF_MEMORY = re.compile("out of memory|MemoryError|memory allocation of|bad_alloc", re.IGNORECASE)
PAGE = os.sysconf("SC_PAGE_SIZE")
MB = 1e6


class Size(NamedTuple):
    """A lake, the as-of day of its features, and the peers to compare with, if they are not those of all sizes."""

    name: str
    lake: Path
    as_of: str
    peers: tuple[str, ...] | None


class Run(NamedTuple):
    """The time and memory of one process. The peak is never below that of this script, about 15 MB."""

    wall_seconds: float
    cpu_seconds: float
    peak_mb: float


def measure(command: list[str], limit_seconds: float, limit_bytes: int) -> Run | str:
    """Runs a process until it ends or exceeds a limit. Returns its time and memory, or why it did not complete."""
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        exceeded = watch(process.pid, start + limit_seconds, limit_bytes)
        if exceeded:
            process.kill()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if exceeded:
            return exceeded
        if process.returncode:
            errors.seek(0)
            return failure(process.returncode, errors.read().decode(errors="replace"))
        return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / MB)


def watch(pid: int, deadline: float, limit_bytes: int) -> str | None:
    """Waits until a process ends, or returns the limit that it exceeds."""
    handle = os.pidfd_open(pid)
    try:
        while not select.select([handle], [], [], POLL_SECONDS)[0]:
            if time.perf_counter() > deadline:
                return "out of time"
            if resident_bytes(pid) > limit_bytes:
                return "out of memory"
        return None
    finally:
        os.close(handle)


def resident_bytes(pid: int) -> int:
    """Returns the resident memory of a process, or 0 if it has just ended."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * PAGE


def failure(code: int, errors: str) -> str:
    """Returns why a process failed: out of memory (the kernel kills with signal 9), or the last line of its output."""
    if code == -9 or OUT_OF_MEMORY.search(errors):
        return "out of memory"
    return f"failed: {next(filter(str.strip, reversed(errors.splitlines())), f'exit code {code}')}"


def command_of(job: str, binary: Path, size: Size, out: Path) -> list[str]:
    """Returns the command of a job."""
    if job == OURS:
        return [str(binary), "rebuild", str(size.lake), size.as_of]
    script = BENCH / "peers" / f"{job}_job.py"
    return [sys.executable, str(script), "--lake", str(size.lake), "--out", str(out), "--as-of", size.as_of]


def clear(job: str, lake: Path, out: Path) -> None:
    """Removes the output of an earlier run of the job, and waits until the disk is idle."""
    outputs = [lake / name for name in ("analytics", "state", "catalog", "runs")] if job == OURS else []
    for folder in (*outputs, out):
        shutil.rmtree(folder, ignore_errors=True)
    os.sync()


def warm(folder: Path) -> None:
    """Reads the input once, so that the first job does not have to wait for the disk."""
    for file in folder.rglob("*.parquet"):
        file.read_bytes()


def check(size: Size, job: str, out: Path) -> None:
    """Compares a peer's result with ours.

    Raises:
        SystemExit: The results differ.
    """
    command = [sys.executable, str(BENCH / "check.py"), "--ours", str(size.lake), "--theirs", str(out)]
    done = subprocess.run([*command, "--as-of", size.as_of], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{size.name}: the result of {job} differs from ours\n{done.stdout}{done.stderr}")


def take_turns(
    name: str,
    jobs: Iterable[str],
    repetitions: int,
    limits: argparse.Namespace,
    prepare: Callable[[str], list[str]],
    check: Callable[[str], None],
) -> dict[str, list[Run] | str]:
    """Runs the jobs in turns. A peer that fails or exceeds a limit gets no more turns, and its result is the reason.

    `prepare` returns the command of a job, and `check` is called after the first run of each.
    """
    results: dict[str, list[Run] | str] = {}
    for repetition in range(repetitions):
        for job in jobs:
            runs = results.setdefault(job, [])
            if isinstance(runs, str):
                continue
            run = measure(prepare(job), limits.limit, int(limits.memory_limit * 2**30))
            print(f"{name} {repetition + 1}/{repetitions} {job}: {run}", file=sys.stderr)
            if isinstance(run, Run):
                runs.append(run)
                if repetition == 0:
                    check(job)
            elif job == OURS:
                sys.exit(f"{name}: {job}: {run}")
            else:
                results[job] = run
    return results


def compare(size: Size, repetitions: int, arguments: argparse.Namespace) -> dict[str, list[Run] | str]:
    """Measures the jobs of a size."""
    out = arguments.work / size.name

    def prepare(job: str) -> list[str]:
        clear(job, size.lake, out)
        return command_of(job, arguments.binary, size, out)

    def check_peer(job: str) -> None:
        if job != OURS:
            check(size, job, out)

    warm(size.lake / "stage")
    peers = arguments.peers if size.peers is None else size.peers
    results = take_turns(size.name, (OURS, *peers), repetitions, arguments, prepare, check_peer)
    shutil.rmtree(out, ignore_errors=True)
    return results


def floor(size: Size, repetitions: int, binary: Path) -> float:
    """Returns the seconds that decoding the input columns and encoding the output take on all CPUs."""
    command = [str(binary), "floor", str(size.lake)]
    outputs = (subprocess.run(command, check=True, capture_output=True).stdout for _ in range(repetitions))
    return statistics.median(json.loads(line)["seconds"] for line in outputs)


def medians(runs: list[Run]) -> Run:
    """Returns the median of each value."""
    return Run(*(statistics.median(values) for values in zip(*runs, strict=True)))


def table(name: str, results: dict[str, list[Run] | str], floor_seconds: float | None = None) -> str:
    """Returns the results of a comparison as a Markdown table."""
    lines = [
        f"### {name}",
        "",
        "| job | wall s (median) | CPU s | peak MB | wall over ours | memory over ours |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    summaries = {job: runs if isinstance(runs, str) else medians(runs) for job, runs in results.items()}
    ours = summaries[OURS]
    assert isinstance(ours, Run), "a failure of our job ends the benchmark"
    for job, run in summaries.items():
        if isinstance(run, str):
            lines.append(f"| {job} | {run} | | | | |")
        else:
            ratios = f"{run.wall_seconds / ours.wall_seconds:.2f} | {run.peak_mb / ours.peak_mb:.2f}"
            lines.append(f"| {job} | {run.wall_seconds:.2f} | {run.cpu_seconds:.2f} | {run.peak_mb:,.0f} | {ratios} |")
    if floor_seconds is not None:
        lines.append(f"| {FLOOR} | {floor_seconds:.2f} | | | {floor_seconds / ours.wall_seconds:.2f} | |")
    return "\n".join(lines) + "\n"


def as_json(size: Size, results: dict[str, list[Run] | str], floor_seconds: float) -> dict:
    """Returns the results of a size, with every run, for the JSON file."""
    jobs = {
        job: {"failed": runs}
        if isinstance(runs, str)
        else {"median": medians(runs)._asdict(), "runs": [run._asdict() for run in runs]}
        for job, runs in results.items()
    }
    return {"name": size.name, "as_of": size.as_of, "jobs": jobs, "floor_seconds": floor_seconds}


def parse_size(text: str) -> Size:
    """Parses NAME:LAKE:DAY[:PEERS]."""
    name, lake, as_of, *named = text.split(":")
    peers = tuple(named[0].split(",")) if named else None
    if unknown := set(peers or ()) - set(PEERS):
        raise argparse.ArgumentTypeError(f"no peer is named {', '.join(sorted(unknown))}")
    return Size(name, Path(lake), as_of, peers)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "sizes", nargs="+", type=parse_size, metavar="NAME:LAKE:DAY[:PEERS]", help="a lake, its as-of day, its peers"
    )
    parser.add_argument(
        "--repetitions", nargs="+", type=int, default=[3], metavar="N", help="of all sizes, or one for each (default 3)"
    )
    parser.add_argument("--limit", type=float, default=1800, metavar="SECONDS", help="per process (default 1800)")
    parser.add_argument("--memory-limit", type=float, default=20, metavar="GIB", help="per process (default 20)")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS, help="peers to compare with (default all)")
    parser.add_argument("--binary", type=Path, default=BENCH.parent / "target/release/bench", help="our executable")
    parser.add_argument("--work", type=Path, default=BENCH.parent / "target/bench-peers", help="output of the peers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
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
        print(table(size.name, results, floor_seconds), flush=True)
        measured.append(as_json(size, results, floor_seconds))
        # Write after each size, so that a later failure does not lose the earlier results.
        if arguments.json:
            arguments.json.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
