"""Compares the output of a peer with ours: features row by row, other tables by columns, row counts, sums and order.

usage: check.py --ours LAKE --theirs OUT --as-of DAY, or check.py --ours FILE --theirs FILE --key COLUMNS, which compares
two Parquet files row by row. Prints one line per difference. The exit code is 1 if any is found.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb

# Relative tolerance: sums in different orders differ by at most this.
RELATIVE_TOLERANCE = 1e-9
# Features that are differences of two sums. Their tolerance is relative to the sums, which may cancel.
DIFFERENCES = {
    "borrow_repay_diff_eth": ("borrow_amount_sum_eth", "repay_amount_sum_eth"),
    "withdraw_deposit_diff_eth": ("withdraw_amount_sum_eth", "deposit_amount_sum_eth"),
}
CATEGORIES = ("borrow", "deposit", "liquidation", "repay", "withdraw")
# For each table, by its folder: the columns whose sums are compared, and the columns by which a file is sorted.
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


def relation(files: str) -> str:
    """Returns a SQL relation with the rows of files, their names and their row numbers."""
    return f"read_parquet('{files}', hive_partitioning = false, union_by_name = true, filename = true, file_row_number = true)"


def table_relation(root: Path, table: str) -> str:
    """Returns a SQL relation with the rows of a table."""
    return relation(f"{root}/analytics/{table}/**/*.parquet")


def single_row(database: duckdb.DuckDBPyConnection, query: str) -> tuple:
    """Returns the row of a query with one row."""
    return database.execute(query).fetchall()[0]


def columns_of(database: duckdb.DuckDBPyConnection, relation: str) -> dict[str, str]:
    """Returns the types of a relation's columns by name."""
    described = database.execute(f"DESCRIBE SELECT * EXCLUDE (filename, file_row_number) FROM {relation}").fetchall()
    return {name: kind for name, kind, *_ in described}


def is_close(ours: str, theirs: str, scale: str = "0") -> str:
    """Returns the SQL condition that two numbers are equal within the tolerance."""
    largest = f"greatest(abs({ours}), abs({theirs}), {scale})"
    return f"({ours} IS NOT DISTINCT FROM {theirs} OR abs({ours} - {theirs}) <= {RELATIVE_TOLERANCE} * {largest})"


def is_same(column: str, kind: str) -> str:
    """Returns the SQL condition that the value of a feature is the same in both results."""
    if kind != "DOUBLE":
        return f"(ours.{column} IS NOT DISTINCT FROM theirs.{column})"
    scale = " + ".join(f"ours.{part}" for part in DIFFERENCES.get(column, ())) or "0"
    return is_close(f"ours.{column}", f"theirs.{column}", scale)


def row_differences(database: duckdb.DuckDBPyConnection, name: str, ours: str, theirs: str, key: str) -> Iterator[str]:
    """Yields the differences in rows with a unique key: rows that only one result has, and values."""
    if (expected := columns_of(database, ours)) != (found := columns_of(database, theirs)):
        yield f"{name}: columns {found}, expected {expected}"
        return
    example = f"min(concat_ws(' ', {key}))"
    for what, left, right in (("missing", ours, theirs), ("unexpected", theirs, ours)):
        query = f"SELECT count(*), {example} FROM {left} AS l ANTI JOIN {right} AS r USING ({key})"
        count, first = single_row(database, query)
        if count:
            yield f"{name}: {count} {what} rows, for example {first}"
    mismatches = ", ".join(
        f"{example} FILTER ({is_same(column, kind)} IS NOT TRUE), count(*) FILTER ({is_same(column, kind)} IS NOT TRUE)"
        for column, kind in expected.items()
    )
    values = single_row(database, f"SELECT {mismatches} FROM {ours} AS ours JOIN {theirs} AS theirs USING ({key})")
    for column, first, count in zip(expected, values[::2], values[1::2], strict=True):
        if count:
            yield f"{name}: {column} of {count} rows differs, for example {first}"


def summary(database: duckdb.DuckDBPyConnection, relation: str, sums: tuple[str, ...]) -> dict[str, float]:
    """Returns the number of rows of a table and the sums of the given columns."""
    columns = ", ".join(f"coalesce(fsum({column}), 0) AS {column}" for column in sums)
    values = single_row(database, f"SELECT count(*), {columns} FROM {relation}")
    return dict(zip(("rows", *sums), values, strict=True))


def out_of_order(database: duckdb.DuckDBPyConnection, relation: str, sorted_by: tuple[str, ...]) -> int:
    """Returns the number of rows that follow a row with a larger sort key."""
    key = f"struct_pack({', '.join(f'{column} := {column}' for column in sorted_by)})"
    before = f"lag({key}) OVER (PARTITION BY filename ORDER BY file_row_number)"
    query = f"SELECT count(*) FROM (SELECT {key} < {before} AS unordered FROM {relation}) WHERE unordered"
    return single_row(database, query)[0]


def table_differences(database: duckdb.DuckDBPyConnection, ours: Path, theirs: Path, table: str) -> Iterator[str]:
    """Yields the differences in a table: columns, row count, sums, and the order of rows within files."""
    sums, sorted_by = TABLES[table]
    our_rows, their_rows = table_relation(ours, table), table_relation(theirs, table)
    if (expected := columns_of(database, our_rows)) != (found := columns_of(database, their_rows)):
        yield f"{table}: columns {found}, expected {expected}"
        return
    expected = summary(database, our_rows, sums)
    for name, value in summary(database, their_rows, sums).items():
        if abs(value - expected[name]) > RELATIVE_TOLERANCE * abs(expected[name]):
            yield f"{table}: {name} {value}, expected {expected[name]}"
    if count := out_of_order(database, their_rows, sorted_by):
        yield f"{table}: {count} rows are out of order"


def differences(ours: Path, theirs: Path, as_of: str) -> Iterator[str]:
    """Yields all differences, one line each."""
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        # Our rebuild ends with the build of the features, before they are checked and published.
        our_rows = table_relation(ours, f"features/builds/as_of={as_of}")
        their_rows = table_relation(theirs, f"features/defi_features/as_of={as_of}")
        yield from row_differences(database, "defi_features", our_rows, their_rows, "wallet_address")
        for table in TABLES:
            yield from table_differences(database, ours, theirs, table)


def file_differences(ours: Path, theirs: Path, key: str) -> Iterator[str]:
    """Yields the differences in the rows of two Parquet files, one line each."""
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        yield from row_differences(database, theirs.name, relation(str(ours)), relation(str(theirs)), key)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ours", type=Path, required=True, help="the lake with our tables, or our file")
    parser.add_argument("--theirs", type=Path, required=True, help="the folder with the peer's tables, or its file")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--as-of", metavar="DAY", help="the as-of day of the features")
    what.add_argument("--key", metavar="COLUMNS", help="compare files by these columns, with commas between")
    arguments = parser.parse_args()
    compare, by = (file_differences, arguments.key) if arguments.key else (differences, arguments.as_of)
    found = list(compare(arguments.ours, arguments.theirs, by))
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
