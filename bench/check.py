"""Holds the tables that another job left behind to ours: the features row by row, the others by their columns, rows and sums.

usage: check.py --ours LAKE --theirs OUT --as-of DAY. Every difference is a line; with any, the exit code is 1.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb

# Sums in another order differ by this much of themselves.
RELATIVE = 1e-9
# What is left of two large sums where they cancel, which no share of the difference could bound.
DIFFERENCES = {
    "borrow_repay_diff_eth": ("borrow_amount_sum_eth", "repay_amount_sum_eth"),
    "withdraw_deposit_diff_eth": ("withdraw_amount_sum_eth", "deposit_amount_sum_eth"),
}
CATEGORIES = ("borrow", "deposit", "liquidation", "repay", "withdraw")
# Each table by its folder: the columns whose sums are compared, and those that the rows of a file are sorted by.
TABLES = {
    **{
        f"transpose/transpose_{category}_events": (
            ("quantity_eth", "epoch_timestamp"),
            ("index_address", "transaction_hash", "log_index"),
        )
        for category in CATEGORIES
    },
    "features/wallet_links": (("since_epoch_timestamp",), ("wallet_address", "account_address")),
    "features/wallet_health_daily": (
        (
            "collateral_eth",
            "threshold_weighted_collateral_eth",
            "borrow_power_eth",
            "debt_eth",
            "available_borrows_eth",
        ),
        ("wallet_address", "account_address", "protocol"),
    ),
}


def rows_of(root: Path, table: str) -> str:
    """A table's rows as a relation of SQL; each knows its file and its place in it."""
    files = f"{root}/analytics/{table}/**/*.parquet"
    return f"read_parquet('{files}', hive_partitioning = false, union_by_name = true, filename = true, file_row_number = true)"


def only_row(database: duckdb.DuckDBPyConnection, query: str) -> tuple:
    """The one row that a query gives."""
    return database.execute(query).fetchall()[0]


def columns_of(database: duckdb.DuckDBPyConnection, relation: str) -> dict[str, str]:
    """The names of a relation's columns with their types."""
    described = database.execute(f"DESCRIBE SELECT * EXCLUDE (filename, file_row_number) FROM {relation}").fetchall()
    return {name: kind for name, kind, *_ in described}


def close(ours: str, theirs: str, scale: str = "0") -> str:
    """The condition that two numbers are equal but for the order of a sum."""
    largest = f"greatest(abs({ours}), abs({theirs}), {scale})"
    return f"({ours} IS NOT DISTINCT FROM {theirs} OR abs({ours} - {theirs}) <= {RELATIVE} * {largest})"


def same(column: str, kind: str) -> str:
    """The condition that a feature of a wallet is the same in both."""
    if kind != "DOUBLE":
        return f"(ours.{column} IS NOT DISTINCT FROM theirs.{column})"
    scale = " + ".join(f"ours.{part}" for part in DIFFERENCES.get(column, ())) or "0"
    return close(f"ours.{column}", f"theirs.{column}", scale)


def feature_differences(database: duckdb.DuckDBPyConnection, ours: str, theirs: str) -> Iterator[str]:
    """What differs in the features: wallets that only one of both has, and values."""
    for name, here, there in (("missing", ours, theirs), ("unexpected", theirs, ours)):
        alone = f"SELECT count(*), min(wallet_address) FROM {here} AS here ANTI JOIN {there} AS there USING (wallet_address)"
        count, example = only_row(database, alone)
        if count:
            yield f"defi_features: {count} {name} wallets, such as {example}"
    kinds = columns_of(database, ours)
    wrong = ", ".join(
        f"min(wallet_address) FILTER ({same(column, kind)} IS NOT TRUE), "
        f"count(*) FILTER ({same(column, kind)} IS NOT TRUE)"
        for column, kind in kinds.items()
    )
    both = f"{ours} AS ours JOIN {theirs} AS theirs USING (wallet_address)"
    found = only_row(database, f"SELECT {wrong} FROM {both}")
    for column, example, count in zip(kinds, found[::2], found[1::2], strict=True):
        if count:
            yield f"defi_features: {column} of {count} wallets differs, such as {example}"


def summary(database: duckdb.DuckDBPyConnection, relation: str, sums: tuple[str, ...]) -> dict[str, float]:
    """The number of rows of a table and the sums of some columns."""
    columns = ", ".join(f"coalesce(fsum({column}), 0) AS {column}" for column in sums)
    values = only_row(database, f"SELECT count(*), {columns} FROM {relation}")
    return dict(zip(("rows", *sums), values, strict=True))


def out_of_order(database: duckdb.DuckDBPyConnection, relation: str, sorted_by: tuple[str, ...]) -> int:
    """How many rows come before one that should come first."""
    key = f"struct_pack({', '.join(f'{column} := {column}' for column in sorted_by)})"
    before = f"lag({key}) OVER (PARTITION BY filename ORDER BY file_row_number)"
    return only_row(database, f"SELECT count(*) FROM (SELECT {key} < {before} AS odd FROM {relation}) WHERE odd")[0]


def table_differences(database: duckdb.DuckDBPyConnection, ours: Path, theirs: Path, table: str) -> Iterator[str]:
    """What differs in a table: columns, rows, sums, and the order in a file."""
    sums, sorted_by = TABLES[table]
    here, there = rows_of(ours, table), rows_of(theirs, table)
    if columns_of(database, here) != (found := columns_of(database, there)):
        yield f"{table}: the columns are {found}"
        return
    expected = summary(database, here, sums)
    for name, value in summary(database, there, sums).items():
        if abs(value - expected[name]) > RELATIVE * abs(expected[name]):
            yield f"{table}: {name} {value}, not {expected[name]}"
    if count := out_of_order(database, there, sorted_by):
        yield f"{table}: {count} rows are out of order"


def differences(ours: Path, theirs: Path, as_of: str) -> Iterator[str]:
    """Every difference, as a line."""
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        features = f"features/defi_features/as_of={as_of}"
        here, there = rows_of(ours, features), rows_of(theirs, features)
        if columns_of(database, here) == (found := columns_of(database, there)):
            yield from feature_differences(database, here, there)
        else:
            yield f"defi_features: the columns are {found}"
        for table in TABLES:
            yield from table_differences(database, ours, theirs, table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ours", type=Path, required=True, metavar="LAKE", help="the lake with our tables")
    parser.add_argument(
        "--theirs", type=Path, required=True, metavar="OUT", help="the folder with another job's tables"
    )
    parser.add_argument("--as-of", required=True, metavar="DAY", help="the day that the features are for")
    arguments = parser.parse_args()
    found = list(differences(arguments.ours, arguments.theirs, arguments.as_of))
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
