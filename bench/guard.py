"""Compares the kernels' instruction counts, measured by callgrind, with the committed ones.

The counts do not depend on the load of the machine.

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

COMMITTED_COUNTS = Path(__file__).with_name("instructions.json")
KERNELS = ["parse-events-page", "parse-positions-page", "stage-a-day", "price-a-day", "value-a-day", "fold-a-day"]
# The function that runs a kernel. A count ends with each call, and the first count is that of the preparation.
KERNEL_FUNCTION = "defi_bench::kernels::counted_kernel"
ALLOWED_INCREASE = 0.05


def count(bench: Path) -> dict[str, int]:
    """Returns the number of instructions of each kernel, on all threads."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out",
                   f"--dump-after={KERNEL_FUNCTION}", str(bench), "kernels"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"callgrind failed: {done.stderr}")
        # The dumps are numbered, except for the last one, after all kernels.
        dumps = sorted(Path(folder).glob("out.[0-9]*"), key=lambda dump: int(dump.suffix[1:]))
        totals = [int(re.search(r"^(?:totals|summary): (\d+)", dump.read_text(), re.MULTILINE)[1]) for dump in dumps[1:]]
    if len(totals) != len(KERNELS):
        sys.exit(f"callgrind counted {len(totals)} kernels, expected {len(KERNELS)}")
    return dict(zip(KERNELS, totals, strict=True))


def main() -> None:
    """Compares the counts, or writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()
    counted = count(arguments.bench)
    if arguments.update:
        COMMITTED_COUNTS.write_text(json.dumps(counted, indent=2) + "\n")
        return
    committed = json.loads(COMMITTED_COUNTS.read_text())
    failed = False
    print("| kernel | instructions | committed | change |\n|---|---|---|---|")
    for kernel, instructions in counted.items():
        change = instructions / committed[kernel] - 1
        failed |= change > ALLOWED_INCREASE
        print(f"| {kernel} | {instructions:,} | {committed[kernel]:,} | {change:+.1%} |")
    if failed:
        sys.exit(f"a kernel takes over {ALLOWED_INCREASE:.0%} more instructions than committed; "
                 "if this is intended, run make bench-instructions and commit the new counts")


if __name__ == "__main__":
    main()
