"""Measures one more day on histories of different lengths: bench/daily.py BENCH LAKE FIRST_DAY DAYS…

The days before are rebuilt once for each length, which is not measured. Prints a table of the steps' seconds.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

REPETITIONS = 5
STEPS = ("link-wallets", "price-events", "value-positions", "build-features")


def run(bench: str, command: str, lake: Path, as_of: date) -> dict[str, float]:
    """Runs a bench command and returns the seconds of each step."""
    done = subprocess.run([bench, command, lake, str(as_of)], check=True, capture_output=True, text=True)
    return {line["step"]: line["seconds"] for line in map(json.loads, done.stdout.splitlines())}


def remove_day(lake: Path, as_of: date) -> None:
    """Removes the output of an as-of day, so that the day can be processed again."""
    analytics = lake / "analytics"
    states = lake.glob(f"state/*/*/as_of={as_of}")
    for folder in (*states, analytics / "features/builds" / f"as_of={as_of}"):
        shutil.rmtree(folder, ignore_errors=True)
    for day in (as_of, as_of - timedelta(days=1)):
        for file in analytics.rglob(f"{day}.parquet"):
            is_earlier_health = "wallet_health_daily" in str(file) and day != as_of
            if not is_earlier_health:
                file.unlink()
    os.sync()


def main() -> None:
    """Measures each length."""
    bench, lake, first = sys.argv[1], Path(sys.argv[2]), date.fromisoformat(sys.argv[3])
    print("| days before | " + " | ".join(f"{step} s" for step in STEPS) + " | all s |")
    print("|---:|" + "---:|" * (len(STEPS) + 1))
    for days in map(int, sys.argv[4:]):
        for folder in ("analytics", "state", "catalog", "runs"):
            shutil.rmtree(lake / folder, ignore_errors=True)
        as_of = first + timedelta(days=days)
        run(bench, "rebuild", lake, as_of)
        runs = []
        for _ in range(REPETITIONS):
            remove_day(lake, as_of + timedelta(days=1))
            runs.append(run(bench, "daily", lake, as_of + timedelta(days=1)))
        medians = [statistics.median(seconds[step] for seconds in runs) for step in STEPS]
        # Pricing and valuing run concurrently.
        total = medians[0] + max(medians[1], medians[2]) + medians[3]
        print(f"| {days} | " + " | ".join(f"{seconds:.3f}" for seconds in (*medians, total)) + " |", flush=True)


if __name__ == "__main__":
    main()
