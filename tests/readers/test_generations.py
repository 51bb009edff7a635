"""Readers beside a run that makes a published day again see the old set or the new one, and a set that fails its checks
is never seen.

The environment variable DEFI_BIN is the folder of the defi command.
"""

import contextlib
import json
import os
import re
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

DEFI = Path(os.environ["DEFI_BIN"]) / "defi"
FOLDER = Path("analytics/features/defi_features")
CHAIN = ("--wallets", "60", "--days", "8")
FAILING_CHECKS = "unpriced_share = { warn = 0.05, fail = -1 }"


@contextlib.contextmanager
def served(seed: int) -> Iterator[tuple[list[str], str, str]]:
    """Serves a sample chain. Returns the options of a run over it, and its first and last day."""
    command = [DEFI, "serve", *CHAIN, "--seed", str(seed), "--port", "0"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        first, last = re.findall(r"\d{4}-\d\d-\d\d", process.stdout.readline())[:2]
        urls = {}
        while len(urls) < 2:
            source, _, url = process.stdout.readline().strip().rpartition("  ")
            urls[source.strip()] = url
        options = ["--graph-url", urls["The Graph"], "--transpose-url", urls["Transpose"]]
        yield [*options, "--from", first, "--as-of", last], first, last
    finally:
        process.terminate()
        process.wait()


def run(lake: Path, options: list[str], **environment: str) -> int:
    """Runs the pipeline and returns the exit code."""
    command = [DEFI, "run", "--lake", lake, *options]
    return subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=False).returncode


def rows(connection: duckdb.DuckDBPyConnection, files: str) -> tuple:
    """Reads a set of features with DuckDB, as something that can be compared."""
    query = f"SELECT * FROM read_parquet('{files}', hive_partitioning = false) ORDER BY wallet_address"
    return tuple(connection.execute(query).fetchall())


def by_catalog(lake: Path, connection: duckdb.DuckDBPyConnection) -> tuple:
    entry = json.loads((lake / "catalog/db_analytics_dev/defi_features.json").read_text())
    return rows(connection, str(lake / entry["location"] / "*.parquet"))


def by_folder(lake: Path, connection: duckdb.DuckDBPyConnection) -> tuple:
    return rows(connection, str(lake / FOLDER / "*" / "*.parquet"))


class Poll:
    """Counts in the background what readers see: sets by the catalog, and of the folder its rows and the bytes of single
    objects."""

    def __init__(self, lake: Path):
        self.lake, self.ended = lake, threading.Event()
        self.sets, self.objects, self.rows = Counter(), Counter(), Counter()
        self.thread = threading.Thread(target=self.poll)

    def poll(self) -> None:
        with duckdb.connect() as connection:
            while not self.ended.is_set():
                self.sets[by_catalog(self.lake, connection)] += 1
                self.rows.update(by_folder(self.lake, connection))
                for file in (self.lake / FOLDER).rglob("*.parquet"):
                    with contextlib.suppress(FileNotFoundError):
                        self.objects[file.read_bytes()] += 1

    def __enter__(self) -> "Poll":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.ended.set()
        self.thread.join()


def objects(lake: Path) -> set[bytes]:
    return {file.read_bytes() for file in (lake / FOLDER).rglob("*.parquet")}


@pytest.fixture
def published(tmp_path: Path) -> tuple[Path, tuple]:
    """Returns a lake with one published set, and the rows of the set."""
    lake = tmp_path / "lake"
    with served(seed=1) as (options, _, _):
        assert run(lake, options) == 0
    with duckdb.connect() as connection:
        return lake, by_catalog(lake, connection)


def test_readers_beside_a_rebuild_see_one_set_or_the_other(published):
    lake, old = published
    old_objects = objects(lake)
    with served(seed=2) as (options, _, _), Poll(lake) as poll:
        assert run(lake, [*options, "--force"]) == 0
    with duckdb.connect() as connection:
        new = by_catalog(lake, connection)
        assert by_folder(lake, connection) == new
    assert new != old
    assert poll.sets.keys() <= {old, new} and poll.sets[old] > 5
    # While the objects are copied the folder has some of each set, but no other rows.
    assert poll.rows.keys() <= {*old, *new} and poll.rows.keys() >= {*old}
    assert poll.objects.keys() <= old_objects | objects(lake)


def test_set_that_fails_its_checks_is_never_seen(published, tmp_path):
    lake, old = published
    old_objects = objects(lake)
    config = Path("shared/config.toml").read_text()
    failing = re.sub(r"unpriced_share = .*", FAILING_CHECKS, config)
    assert failing != config
    (tmp_path / "config.toml").write_text(failing)
    with served(seed=2) as (options, _, _), Poll(lake) as poll:
        assert run(lake, [*options, "--force"], DEFI_CONFIG=str(tmp_path / "config.toml")) != 0
    assert poll.sets.keys() == {old} and poll.sets[old] > 5
    assert poll.objects.keys() == old_objects and objects(lake) == old_objects
    assert poll.rows.keys() == {*old}
    with served(seed=1) as (options, _, _), Poll(lake) as poll:
        assert run(lake, [*options, "--force"]) == 0, "the old chain again, with checks that pass"
    assert poll.sets.keys() == {old} and objects(lake) == old_objects, "an equal set moves nothing"
    assert poll.rows.keys() == {*old}
    with duckdb.connect() as connection:
        assert by_folder(lake, connection) == old
