"""Holds the kernels' instruction counts, by callgrind, to the committed ones: counts do not depend on how busy a machine is.

    python bench/guard.py target/release/bench            compares with bench/instructions.json
    python bench/guard.py target/release/bench --update   writes it
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FIGURES = Path(__file__).with_name("instructions.json")
KERNELS = ["parse-events-page", "parse-positions-page", "stage-a-day", "price-a-day", "value-a-day", "fold-a-day"]
# The function that a kernel's work is done in: a count ends with each call of it, and the first is that of the preparation.
COUNTED = "defi_bench::kernels::counted_kernel"
ALLOWED = 0.05


def count(bench: Path) -> dict[str, int]:
    """The instructions of each kernel, on all threads."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out",
                   f"--dump-after={COUNTED}", str(bench), "kernels"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"the kernels can't be counted: {done.stderr}")
        # The dumps are numbered; the last one, of what comes after all kernels, has no number.
        dumps = sorted(Path(folder).glob("out.[0-9]*"), key=lambda dump: int(dump.suffix[1:]))
        totals = [int(re.search(r"^(?:totals|summary): (\d+)", dump.read_text(), re.MULTILINE)[1]) for dump in dumps[1:]]
    if len(totals) != len(KERNELS):
        sys.exit(f"{len(totals)} kernels were counted where there are {len(KERNELS)}")
    return dict(zip(KERNELS, totals, strict=True))


def main() -> None:
    """Compares, or writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()
    counted = count(arguments.bench)
    if arguments.update:
        FIGURES.write_text(json.dumps(counted, indent=2) + "\n")
        return
    committed = json.loads(FIGURES.read_text())
    failed = False
    print("| kernel | instructions | committed | change |\n|---|---|---|---|")
    for kernel, instructions in counted.items():
        change = instructions / committed[kernel] - 1
        failed |= change > ALLOWED
        print(f"| {kernel} | {instructions:,} | {committed[kernel]:,} | {change:+.1%} |")
    if failed:
        sys.exit(f"a kernel takes over {ALLOWED:.0%} more instructions than committed; "
                 "if that is meant to be, run make bench-instructions and commit the new figures")


if __name__ == "__main__":
    main()
