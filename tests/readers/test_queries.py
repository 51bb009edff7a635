"""Other engines read what `defi query` writes, and run the query of the view `lending_events` with the same result."""

import datetime
import json
import os
import subprocess
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from test_readers import Table, lake_folder

DEFI = Path(os.environ.get("DEFI_BIN", "")) / "defi"


def query(sql: str, *options) -> bytes:
    arguments = [DEFI, "query", "--lake", lake_folder(), *options, sql]
    return subprocess.run(arguments, check=True, capture_output=True).stdout


def rows(sql: str) -> list[dict]:
    return json.loads(query(sql, "--format", "json"))


def test_parquet_keeps_types_and_values(tmp_path):
    file = tmp_path / "answer.parquet"
    sql = """
        SELECT CAST(9007199254740993 AS DECIMAL(38,0)) AS big, 1.5e0 AS float, 7 AS integer, true AS flag, 'ä' AS text,
            CAST('b' AS VARCHAR) AS cast_text, CAST(NULL AS INT) AS missing, DATE '2023-01-31' AS day, timestamp AS time,
            from_iso8601_timestamp('2023-01-31T02:00:00+02:00') AS instant
        FROM lending_events ORDER BY timestamp LIMIT 1
    """
    query(sql, "--format", "parquet", "--output", file)
    utc = datetime.timezone.utc
    first = datetime.datetime.fromisoformat(rows("SELECT min(timestamp) AS t FROM lending_events")[0]["t"])
    expected = {
        "big": (pa.decimal128(38, 0), "DECIMAL(38,0)", Decimal(9007199254740993)),
        "float": (pa.float64(), "DOUBLE", 1.5),
        "integer": (pa.int64(), "BIGINT", 7),
        "flag": (pa.bool_(), "BOOLEAN", True),
        "text": (pa.string(), "VARCHAR", "ä"),
        "cast_text": (pa.string(), "VARCHAR", "b"),
        "missing": (pa.int32(), "INTEGER", None),
        "day": (pa.date32(), "DATE", datetime.date(2023, 1, 31)),
        "time": (pa.timestamp("ms", tz="UTC"), "TIMESTAMP WITH TIME ZONE", first),
        "instant": (pa.timestamp("ms", tz="UTC"), "TIMESTAMP WITH TIME ZONE", datetime.datetime(2023, 1, 31, tzinfo=utc)),
    }
    table = pq.read_table(file)
    assert {field.name: field.type for field in table.schema} == {name: types[0] for name, types in expected.items()}
    (row,) = table.to_pylist()
    assert row == {name: types[2] for name, types in expected.items()}
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    described = connection.execute(f"DESCRIBE SELECT * FROM '{file}'").fetchall()
    assert {name: kind for name, kind, *_ in described} == {name: types[1] for name, types in expected.items()}
    (values,) = connection.execute(f"SELECT * REPLACE (epoch_ms(time) AS time, epoch_ms(instant) AS instant) FROM '{file}'").fetchall()
    in_milliseconds = {name: round(row[name].timestamp() * 1000) for name in ("time", "instant")}
    assert dict(zip(expected, values, strict=True)) == {**row, **in_milliseconds}


def test_arrow_and_parquet_on_standard_output_are_the_answer(tmp_path):
    sql = "SELECT * FROM lending_events ORDER BY transaction_hash, log_index"
    parquet = pq.read_table(pa.BufferReader(query(sql, "--format", "parquet")))
    arrow = pa.ipc.open_file(query(sql, "--format", "arrow")).read_all()
    assert parquet.equals(arrow) and parquet.num_rows > 100


def test_view_has_equal_rows_in_duckdb():
    (definition,) = rows("SELECT definition FROM information_schema.views WHERE table_name = 'lending_events' AND table_schema = 'db_analytics_dev'")
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for description in sorted(lake_folder().glob("catalog/db_*_dev/*.json")):
        table = Table(lake_folder(), description)
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {description.parent.name}")
        connection.execute(f"CREATE VIEW {table.name} AS SELECT * FROM {table.duckdb_relation()}")
    order = "ORDER BY category, transaction_hash, log_index"
    theirs = connection.sql(f"SELECT * FROM ({definition['definition']}) {order}").to_arrow_table()
    ours = pq.read_table(pa.BufferReader(query(f"SELECT * FROM lending_events {order}", "--format", "parquet")))
    assert ours.column_names == theirs.column_names and ours.num_rows == theirs.num_rows > 100
    assert {"aave-v2-eth", "compound-v2-eth"} == set(ours["protocol"].to_pylist())
    for name in ours.column_names:
        expected, found = ours[name].to_pylist(), theirs[name].to_pylist()
        if ours[name].type == pa.float64():
            expected = [value if value is None else pytest.approx(value, rel=1e-12) for value in expected]
        assert found == expected, name
