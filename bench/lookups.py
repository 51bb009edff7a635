"""Measures how a lake is read, compared with peers: training rows, and all data of one wallet. Prints two tables.

usage: lookups.py LAKE DAY --repetitions N. The lake is one of `bench generate` after `bench rebuild` as of the day, as
compare.py leaves it. Its features are published first, which is not measured. As in compare.py, whole processes are timed
and take turns, and a first result that differs from ours ends the benchmark.

- Training rows: `defi features --at-borrows`, and the same rows by the ASOF joins of DuckDB and Polars: for each borrow
  all features as of just before its block.
- One wallet: `defi wallet --json`, and DuckDB over the same files: features, links, events and daily health.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

from compare import BENCH, OURS, table, take_turns, warm

TRAINING, WALLET = "training rows", "one wallet"
TRAINING_PEERS, WALLET_PEERS = ("duckdb", "polars"), ("duckdb",)


def run_script(name: str, *arguments: str | Path) -> list[str]:
    """Returns the command of a script beside this one."""
    return [sys.executable, str(BENCH / f"{name}.py"), *map(str, arguments)]


def defi(arguments: argparse.Namespace, command: str, *options: str | Path) -> list[str]:
    """Returns a command of our executable over the lake."""
    return [str(arguments.defi), command, *map(str, options), "--lake", str(arguments.lake)]


def publish(arguments: argparse.Namespace) -> None:
    """Checks and publishes the features, unless they are published."""
    if not (arguments.lake / "catalog/db_analytics_dev/defi_features.json").exists():
        for step in ("check-features", "publish-features"):
            command = defi(arguments, "step", step, json.dumps({"as_of": arguments.as_of}))
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def busiest_wallet(arguments: argparse.Namespace) -> str:
    """Returns the wallet with the most borrows."""
    command, quiet = defi(arguments, "features"), subprocess.DEVNULL
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=quiet, text=True) as process:
        rows = csv.DictReader(process.stdout)
        return max(rows, key=lambda row: int(row["borrow_count"]))["wallet_address"]


def training_rows(arguments: argparse.Namespace) -> str:
    """Measures training rows. Returns the table."""

    def out(job: str) -> Path:
        return arguments.work / f"{job}.parquet"

    def command(job: str) -> list[str]:
        out(job).unlink(missing_ok=True)
        os.sync()
        if job == OURS:
            return defi(arguments, "features", "--at-borrows", "--format", "parquet", "--output", out(job))
        return run_script(f"peers/{job}_training", "--lake", arguments.lake, "--out", out(job))

    def check(job: str) -> None:
        files = ("--ours", out(OURS), "--theirs", out(job))
        comparison = run_script("check", *files, "--key", "transaction_hash, log_index")
        if job != OURS and subprocess.run(comparison, check=False, stdout=sys.stderr).returncode:
            sys.exit(f"the training rows of {job} differ from ours")

    results = take_turns(TRAINING, (OURS, *TRAINING_PEERS), arguments.repetitions, arguments, command, check)
    return table("One training row per borrow", results)


def one_wallet(arguments: argparse.Namespace) -> str:
    """Measures the look-up of one wallet. Returns the table."""
    wallet = busiest_wallet(arguments)

    def command(job: str) -> list[str]:
        if job == OURS:
            return defi(arguments, "wallet", wallet, "--json")
        return run_script(f"peers/{job}_wallet", "--lake", arguments.lake, wallet)

    def check(job: str) -> None:
        if job == OURS:
            return
        outputs = (subprocess.run(command(name), check=True, capture_output=True).stdout for name in (OURS, job))
        ours, theirs = map(json.loads, outputs)
        if ours != theirs:
            sys.exit(f"the data of {wallet} in {job} differs from ours")

    results = take_turns(WALLET, (OURS, *WALLET_PEERS), arguments.repetitions, arguments, command, check)
    return table("All data of one wallet", results)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lake", type=Path, help="a lake after a rebuild")
    parser.add_argument("as_of", metavar="DAY", help="the as-of day of the rebuild")
    parser.add_argument("--repetitions", type=int, default=3, metavar="N", help="of each job (default 3)")
    parser.add_argument("--limit", type=float, default=1800, metavar="SECONDS", help="per process (default 1800)")
    parser.add_argument("--memory-limit", type=float, default=20, metavar="GIB", help="per process (default 20)")
    parser.add_argument("--defi", type=Path, default=BENCH.parent / "target/release/defi", help="our executable")
    parser.add_argument("--work", type=Path, default=BENCH.parent / "target/bench-peers", help="output of the jobs")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    arguments.work.mkdir(parents=True, exist_ok=True)
    publish(arguments)
    warm(arguments.lake / "analytics")
    for measured in (training_rows, one_wallet):
        print(measured(arguments), flush=True)


if __name__ == "__main__":
    main()
