"""Adds the first block of each day to a lake of `bench generate`: bench/blocks.py LAKE

A rebuild does not read them, but rows as of an instant do.
"""

import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

# The numbers that `bench generate` gives to blocks.
BLOCKS_PER_DAY = 7200
BLOCK = pa.schema(
    [
        pa.field("day", pa.date32(), nullable=False),
        pa.field("block_number", pa.int64(), nullable=False),
        pa.field("timestamp", pa.timestamp("ms", "UTC"), nullable=False),
        pa.field("epoch_timestamp", pa.int64(), nullable=False),
        pa.field("block_hash", pa.string()),
    ]
)


def main() -> None:
    """Writes a file for each day that has positions."""
    lake = Path(sys.argv[1])
    files = (lake / "stage/the_graph/the_graph_historical_account_positions").rglob("*.parquet")
    for day in {date.fromisoformat(file.name[:10]) for file in files}:
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        block = {
            "day": day,
            "block_number": int(midnight.timestamp()) // 86400 * BLOCKS_PER_DAY,
            "timestamp": midnight,
            "epoch_timestamp": int(midnight.timestamp()),
        }
        target = lake / "raw/transpose/ethereum_daily_blocks" / f"{day:year=%Y/month=%m}/{day}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([block], BLOCK), target)


if __name__ == "__main__":
    main()
