"""dbt reads the tables of the lake with the project that the command writes, and notices a broken row.

The environment variable DEFI_LAKE is the folder of a lake with several published sets, DEFI_BIN that of the defi command.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

LAKE = Path(os.environ["DEFI_LAKE"]).resolve()
DEFI = Path(os.environ["DEFI_BIN"]).resolve() / "defi"


def dbt(project, *arguments, lake=LAKE):
    command = [Path(sys.executable).parent / "dbt", "--no-use-colors", *arguments, "--vars", json.dumps({"lake": str(lake)})]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dbt") / "project"
    subprocess.run([DEFI, "dbt", folder, "--lake", LAKE], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def built(project):
    # Without the option: the lake is the one of the project.
    done = subprocess.run([Path(sys.executable).parent / "dbt", "build"], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "Deprecat" not in done.stdout, done.stdout
    return json.loads((project / "target/run_results.json").read_text())["results"]


def test_all_tests_pass_over_a_lake(built):
    tests = [result for result in built if result["unique_id"].startswith("test.")]
    assert len(tests) > 50 and {result["status"] for result in tests} == {"pass"}
    for kind in ("not_null", "in_range", "unique_rows"):
        assert any(kind in result["unique_id"] for result in tests), kind


def test_sources_describe_every_table_and_column(project, built):
    manifest = json.loads((project / "target/manifest.json").read_text())
    nodes = [*manifest["sources"].values(), *(node for node in manifest["nodes"].values() if node["resource_type"] == "model")]
    found = {node["name"] if node["resource_type"] == "model" else f"{node['source_name']}.{node['name']}": node for node in nodes}
    for file in sorted((LAKE / "catalog").glob("db_*_dev/*.json")):
        entry = json.loads(file.read_text())
        node = found.pop(file.stem if file.stem == "defi_features" else f"{file.parent.name}.{file.stem}")
        described = {column["name"]: column["description"] for column in node["columns"].values()}
        assert described == {column["name"]: column["comment"] for column in entry["columns"]}, file.stem
    assert not found


def test_model_has_the_newest_published_rows(project, built):
    newest = json.loads((LAKE / "catalog/db_analytics_dev/defi_features.json").read_text())["location"]
    query = "SELECT * FROM {} ORDER BY wallet_address"
    expected = duckdb.sql(query.format(f"read_parquet('{LAKE / newest}/*.parquet', hive_partitioning = false)")).fetchall()
    with duckdb.connect(project / "defi.duckdb", read_only=True) as database:
        assert database.execute(query.format("defi_features")).fetchall() == expected
    assert expected


def test_query_reads_partitions_as_strings(project, built):
    query = (
        "select as_of, month, count(*) as rows from {{ source('db_analytics_dev', 'defi_features_history') }}, "
        "(select distinct month from {{ source('db_analytics_dev', 'transpose_borrow_events') }}) group by all order by all"
    )
    done = dbt(project, "--quiet", "show", "--inline", query, "--limit", "100", "--output", "json")
    assert done.returncode == 0, done.stdout
    rows = json.loads(done.stdout[done.stdout.index("{") :])["show"]
    folders = sorted((LAKE / "analytics/features/defi_features").iterdir())
    counts = [duckdb.sql(f"SELECT count(*) FROM '{folder}/*.parquet'").fetchall()[0][0] for folder in folders]
    assert rows == [
        {"as_of": folder.name.removeprefix("as_of="), "month": "01", "rows": count}
        for folder, count in zip(folders, counts, strict=True)
    ]


def test_broken_row_fails_the_tests(project, built, tmp_path):
    lake = tmp_path / "lake"
    shutil.copytree(LAKE, lake)
    shard = next(file for file in sorted((lake / "analytics/features/defi_features").rglob("*.parquet")) if file.stat().st_size)
    rows = f"SELECT * FROM read_parquet('{shard}', hive_partitioning = false)"
    broken = f"""
        SELECT * REPLACE (-1 AS borrow_count) FROM ({rows} LIMIT 1)
        UNION ALL SELECT * REPLACE (NULL AS risk_factor) FROM ({rows})
    """
    duckdb.sql(broken).write_parquet(str(tmp_path / "broken.parquet"))
    shutil.move(tmp_path / "broken.parquet", shard)
    done = dbt(project, "test", "--select", "source:db_analytics_dev.defi_features_history", lake=lake)
    assert done.returncode == 1, done.stdout
    results = json.loads((project / "target/run_results.json").read_text())["results"]
    failed = {result["unique_id"] for result in results if result["status"] == "fail"}
    for name in ("in_range_db_analytics_dev_defi_features_history_borrow_count", "not_null_db_analytics_dev_defi_features_history_risk_factor",
                 "unique_rows_db_analytics_dev_defi_features_history"):  # fmt: skip
        assert any(name in test for test in failed), (name, failed)
    assert len(failed) == 3, failed
