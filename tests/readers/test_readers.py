"""PyArrow and DuckDB read every file of the lake, and agree on its contents.

The environment variable DEFI_LAKE is the folder of a lake of the sample chain that the defi command produced, in the
environment "dev". The expected columns of a table are those of the lake's catalog.
"""

import json
import os
import re
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

ARROW_TYPES = {
    "string": pa.string(),
    "bigint": pa.int64(),
    "int": pa.int32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("ms", tz="UTC"),
    "decimal(38,0)": pa.decimal128(38, 0),
}

DUCKDB_TYPES = {
    "string": "VARCHAR",
    "bigint": "BIGINT",
    "int": "INTEGER",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "decimal(38,0)": "DECIMAL(38,0)",
}

# These tables are sorted by the values that strings represent. A footer can't declare such an order.
UNSORTED = re.compile(r"^raw/(transpose/transpose_|the_graph/the_graph_historical_market_data)")


class Table:
    """A table of the lake, as described by its catalog."""

    def __init__(self, lake: Path, description: Path):
        catalog = json.loads(description.read_text())
        self.name = f"{description.parent.name}.{description.stem}"
        self.location = catalog["location"]
        self.folder = lake / self.location
        self.columns = {column["name"]: column["type"] for column in catalog["columns"]}
        self.partitions = catalog["partition_columns"]
        self.parameters = catalog["parameters"]
        self.objects = sorted(self.folder.rglob("*.parquet"))

    def __repr__(self):
        return self.name

    def dataset(self) -> ds.Dataset:
        partitions = pa.schema([(name, pa.string()) for name in self.partitions])
        return ds.dataset(self.folder, format="parquet", partitioning=ds.partitioning(partitions, flavor="hive"))

    def duckdb_relation(self) -> str:
        hive = f"hive_partitioning = {bool(self.partitions)}, hive_types_autocast = false"
        return f"read_parquet('{self.folder}/**/*.parquet', {hive})"


def lake_folder() -> Path:
    folder = os.environ.get("DEFI_LAKE")
    if not folder:
        pytest.fail("DEFI_LAKE is not set: it must be the folder of a lake that the defi command produced", pytrace=False)
    if not (Path(folder) / "catalog").is_dir():
        pytest.fail(f"no lake in {folder}", pytrace=False)
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def tables() -> dict[str, Table]:
    lake = lake_folder()
    tables = [Table(lake, description) for description in sorted(lake.glob("catalog/db_*_dev/*.json"))]
    return {table.name: table for table in tables}


@pytest.fixture(scope="session")
def connection():
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def test_every_table_exists_and_has_objects(tables):
    layers = [name.split(".")[0] for name in tables]
    assert {layer: layers.count(layer) for layer in layers} == {"db_raw_dev": 8, "db_stage_dev": 7, "db_analytics_dev": 10}
    for table in tables.values():
        assert table.objects, f"{table} has no objects"


def test_objects_have_the_columns_of_the_catalog(tables):
    for table in tables.values():
        expected = [(name, ARROW_TYPES[kind]) for name, kind in table.columns.items()]
        for path in table.objects:
            schema = pq.read_schema(path)
            assert [(field.name, field.type) for field in schema] == expected, path


def test_lake_uses_all_tested_types(tables):
    used = {kind for table in tables.values() for kind in table.columns.values()}
    assert used == set(ARROW_TYPES)


# The string columns that are not compressed.
FEW_VALUES = {"category", "price_protocol", "price_unit", "protocol", "side"}


def test_objects_have_compression_indexes_and_metadata(tables):
    for table in tables.values():
        layer, _, folder = table.location.split("/")[:3]
        for path in table.objects:
            footer = pq.read_metadata(path)
            metadata = {key.decode(): value.decode() for key, value in footer.metadata.items() if key != b"ARROW:schema"}
            # The features of one day and of all days are the same objects.
            names = {f"{layer}.{folder}", f"{layer}.{folder}_history"}
            assert metadata["defi.table"] in names, path
            assert metadata["defi.schema_version"].isdigit(), path
            assert metadata["defi.unit"].replace(" shard ", ".").replace(" ", ".") == unit(path), path
            for group in range(footer.num_row_groups):
                sorted_by = {sorting.column_index for sorting in footer.row_group(group).sorting_columns}
                for index in range(footer.num_columns):
                    column = footer.row_group(group).column(index)
                    is_text = column.physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
                    expected = "ZSTD" if is_text and column.path_in_schema not in FEW_VALUES else "UNCOMPRESSED"
                    assert column.compression == expected, (path, column.path_in_schema)
                    is_packed = "DELTA_BINARY_PACKED" in column.encodings
                    assert is_packed == (column.physical_type == "INT64"), (path, column.path_in_schema)
                    assert column.has_offset_index, (path, column.path_in_schema)
                    # String columns have statistics only if the rows are sorted by them.
                    has_statistics = column.physical_type != "BYTE_ARRAY" or index in sorted_by
                    assert column.is_stats_set == has_statistics, (path, column.path_in_schema)
                    assert column.has_column_index == has_statistics, (path, column.path_in_schema)


def unit(path: Path) -> str:
    """Returns the name of an object's unit: its file name, for the features with the partition."""
    partition = path.parent.name
    return f"{partition.removeprefix('as_of=')}.{path.stem}" if partition.startswith("as_of=") else path.stem


def test_metadata_has_no_time_of_writing(tables):
    # A time of day, a date with a time, or an epoch time in any unit would differ between runs.
    timestamp = re.compile(r"\d\d:\d\d|\d{4}-\d\d-\d\dT|\b1[5-9]\d{8}(\d{3})*\b")
    allowed = {
        "defi.table", "defi.unit", "defi.schema_version", "defi.block", "defi.deployment", "defi.rows_in", "defi.rejected",
        "defi.repeats", "defi.rows", "defi.unpriced", "defi.supply_positions", "defi.null_is_collateral", "defi.closed",
        "defi.schema", "defi.sums", "defi.differing_sums", "defi.debt_deviation", "defi.supply_shortfall", "defi.supply_excess",
        "defi.price_age_days",
    }  # fmt: skip
    for table in tables.values():
        for path in table.objects:
            for key, value in pq.read_metadata(path).metadata.items():
                if key == b"ARROW:schema":
                    continue
                # Counts by protocol end with its name.
                assert ".".join(key.decode().split(".")[:2]) in allowed, f"{path}: {key} is new; check that it is equal in two equal runs"
                assert not timestamp.search(value.decode()), (path, key, value)


def test_rows_are_sorted_as_the_footer_declares(tables):
    for table in tables.values():
        for path in table.objects:
            file = pq.ParquetFile(path)
            orders = {file.metadata.row_group(group).sorting_columns for group in range(file.num_row_groups)}
            if not orders:
                assert file.metadata.num_rows == 0, path
                continue
            (order,) = orders
            assert bool(order) != bool(UNSORTED.match(table.location)), path
            assert not any(column.descending for column in order), path
            names = [file.schema_arrow.names[column.column_index] for column in order]
            # pq.ParquetFile keeps the order of the rows.
            keys = list(zip(*(column.to_pylist() for column in file.read(columns=names).select(names).columns)))
            assert keys == sorted(keys), path


def test_empty_objects_are_readable(tables, connection):
    empty = [(table, path) for table in tables.values() for path in table.objects if pq.read_metadata(path).num_rows == 0]
    assert empty, "no empty object: a day without rows must have one"
    for table, path in empty:
        assert pq.read_table(path, partitioning=None).num_rows == 0
        rows = connection.execute(f"SELECT * FROM read_parquet('{path}', hive_partitioning = false)")
        assert [column[0] for column in rows.description] == list(table.columns), path
        assert rows.fetchall() == [], path


def test_readers_agree_on_row_counts(tables, connection):
    for table in tables.values():
        dataset = table.dataset()
        in_footers = sum(pq.read_metadata(path).num_rows for path in table.objects)
        in_duckdb = connection.execute(f"SELECT COUNT(*) FROM {table.duckdb_relation()}").fetchall()[0][0]
        assert dataset.count_rows() == in_duckdb == in_footers > 0, table


def test_readers_agree_on_columns_and_partitions(tables, connection):
    for table in tables.values():
        columns = {**table.columns, **dict.fromkeys(table.partitions, "string")}
        dataset = table.dataset()
        assert {field.name: field.type for field in dataset.schema} == {
            name: ARROW_TYPES[kind] for name, kind in columns.items()
        }, table
        described = connection.execute(f"DESCRIBE SELECT * FROM {table.duckdb_relation()}").fetchall()
        assert {name: kind for name, kind, *_ in described} == {
            name: DUCKDB_TYPES[kind] for name, kind in columns.items()
        }, table


def test_partition_values_are_strings_with_leading_zeros(tables, connection):
    partitioned = [table for table in tables.values() if table.partitions == ["year", "month"]]
    assert len(partitioned) == 22
    for table in partitioned:
        months = {path.parent for path in table.objects}
        expected = {(month.parent.name.removeprefix("year="), month.name.removeprefix("month=")) for month in months}
        assert all(re.fullmatch(r"\d{4}-\d{2}", "-".join(month)) for month in expected)
        rows = table.dataset().to_table(columns=["year", "month"]).to_pylist()
        read = {(row["year"], row["month"]) for row in rows}
        assert read and read <= expected, table
        in_duckdb = connection.execute(f"SELECT DISTINCT year, month FROM {table.duckdb_relation()}").fetchall()
        assert set(in_duckdb) == read, table


def test_readers_agree_on_large_amounts(tables, connection):
    """Compares the largest amounts exactly: they exceed the precision of a double."""
    table = tables["db_stage_dev.the_graph_historical_account_positions"]
    largest = connection.execute(f"SELECT MAX(balance), SUM(balance % 1000) FROM {table.duckdb_relation()}").fetchall()[0]
    balances = table.dataset().to_table(columns=["balance"])["balance"].to_pylist()
    assert largest == (max(balances), sum(int(balance) % 1000 for balance in balances))
    assert max(balances) > 2**53


def test_published_features_are_in_their_history(tables, connection):
    published, history = (tables[f"db_analytics_dev.{name}"] for name in ("defi_features", "defi_features_history"))
    days = connection.execute(f"SELECT as_of, COUNT(*) FROM {history.duckdb_relation()} GROUP BY as_of").fetchall()
    rows = connection.execute(f"SELECT COUNT(*) FROM {published.duckdb_relation()}").fetchall()[0][0]
    assert dict(days)[published.parameters["as_of"]] == rows
    in_pyarrow = history.dataset().to_table(columns=["as_of"])["as_of"].value_counts().to_pylist()
    assert {day["values"]: day["counts"] for day in in_pyarrow} == dict(days)


def test_features_match_the_health_of_their_day(tables, connection):
    features = tables["db_analytics_dev.defi_features"]
    health = tables["db_analytics_dev.wallet_health_daily"]
    columns = [name for name in features.columns if name != "wallet_address"]
    assert len(columns) == 28  # The 26 features, and two columns on their health.

    sums = ", ".join(f"SUM({name})" for name in columns)
    sums = connection.execute(f"SELECT {sums} FROM {features.duckdb_relation()}").fetchall()[0]
    without = [name for name, total in zip(columns, sums) if total is None]
    assert not without, f"no wallet has a value of {without}"

    joined = connection.execute(f"""
        SELECT wallet_address, total_collateral_eth, features.risk_factor, SUM(collateral_eth), MAX(health.risk_factor)
        FROM {features.duckdb_relation()} AS features
        JOIN {health.duckdb_relation()} AS health USING (wallet_address)
        WHERE health.day = DATE '{features.parameters["as_of"]}'
        GROUP BY ALL
    """).fetchall()
    assert joined, "no wallet has both features and health"
    for wallet, collateral, risk, collateral_of_accounts, risk_of_accounts in joined:
        assert collateral == pytest.approx(collateral_of_accounts, rel=1e-9, abs=0), wallet
        assert risk == risk_of_accounts, wallet


def test_features_sql_gives_the_published_features(tables):
    """The query that the integration tests run in DataFusion gives the same result in DuckDB."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'; CREATE SCHEMA db_stage_dev")
    for table in tables.values():
        if table.name.startswith("db_stage_dev."):
            connection.execute(f"CREATE VIEW {table.name} AS SELECT * FROM {table.duckdb_relation()}")
    published = tables["db_analytics_dev.defi_features"]
    query = (Path(__file__).parent.parent / "features.sql").read_text()
    expected = connection.execute(query, {"as_of": published.parameters["as_of"]}).fetchall()
    features = connection.execute(f"SELECT * FROM {published.duckdb_relation()} ORDER BY wallet_address").fetchall()
    assert [row[0] for row in expected] == [row[0] for row in features]
    for expected_row, row in zip(expected, features):
        for column, expected_value, value in zip(published.columns, expected_row, row):
            absolute = 1e-12 if column.endswith("_diff_eth") else 0
            if not isinstance(value, (str, type(None))):
                value = pytest.approx(value, rel=1e-9, abs=absolute)
            assert expected_value == value, f"{row[0]} {column}"
