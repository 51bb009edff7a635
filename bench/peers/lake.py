"""What the peers that speak SQL share: the tables of a lake, its files by day, and the arguments of a job."""

import argparse
import datetime
from collections.abc import Callable
from pathlib import Path

THREADS = 2
CATEGORIES = ("borrow", "deposit", "liquidation", "repay", "withdraw")
MARKETS = "the_graph/the_graph_historical_market_data"
POSITIONS = "the_graph/the_graph_historical_account_positions"
EPOCH = datetime.date(1970, 1, 1)
NATIVE_ETH = "('0x0000000000000000000000000000000000000000', '0xeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee')"
WETH = "'0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2'"


def day_of(file: Path) -> str:
    """Returns the day of a file of the lake."""
    return file.name[:10]


def number_of(day: str) -> int:
    """Returns a day as days since 1970."""
    return (datetime.date.fromisoformat(day) - EPOCH).days


def day_at(number: int) -> str:
    """Returns the day of a number of days since 1970."""
    return str(EPOCH + datetime.timedelta(days=number))


def files_of(lake: Path, table: str, last: str) -> list[Path]:
    """Returns the files of a stage table up to a day, in order."""
    files = sorted((lake / "stage" / table).glob("year=*/month=*/*.parquet"))
    return [file for file in files if day_of(file) <= last]


def file_of(folder: Path, day: str) -> Path:
    """Returns the path of a table's file of a day, and creates its folder."""
    file = folder / f"year={day[:4]}" / f"month={day[5:7]}" / f"{day}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def run_job(description: str, rebuild: Callable[[Path, Path, str], None]) -> None:
    """Calls a rebuild with the arguments of the command line."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--lake", type=Path, required=True, help="the lake with the stage tables")
    parser.add_argument("--out", type=Path, required=True, help="the output folder of the analytics tables")
    parser.add_argument("--as-of", required=True, metavar="DAY", help="the as-of day of the features")
    arguments = parser.parse_args()
    rebuild(arguments.lake, arguments.out, arguments.as_of)
