"""A lake whose logs come from Parquet files has the bytes of one that is filled from the node alone."""

import shutil
import subprocess
from pathlib import Path

import pytest
from history import CountingNode, History, write_days, write_ranges
from trees import all_objects, differences


@pytest.fixture(scope="session")
def history(chain):
    with CountingNode(chain.url) as node:
        history = History(node.url)
        assert node.methods["eth_getLogs"] > 0, "these requests are noticed"
    return history


@pytest.fixture(scope="session")
def days(history, tmp_path_factory):
    folder = tmp_path_factory.mktemp("days")
    write_days(history, folder)
    return folder


def run(chain, lake: Path, files: Path):
    """Runs over the files, and returns how often the node was asked what."""
    with CountingNode(chain.url) as node:
        chain.run(lake, "--logs", str(files), url=node.url)
    return node.methods


def test_days_give_the_lake_of_the_node(chain, lake, days, tmp_path):
    methods = run(chain, tmp_path, days)
    assert len(all_objects(lake)) > 100 and differences(all_objects(tmp_path), all_objects(lake)) == []
    assert methods["eth_call"] > 0 and methods["eth_getLogs"] == methods["eth_getTransactionReceipt"] == 0, methods


def test_ranges_give_the_lake_of_the_node(chain, lake, history, tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    write_ranges(history, files)
    methods = run(chain, tmp_path / "lake", files)
    assert differences(all_objects(tmp_path / "lake"), all_objects(lake)) == []
    # There are no files of transactions.
    assert methods["eth_getLogs"] == 0 and methods["eth_getTransactionReceipt"] > 0, methods


def test_days_that_are_there_twice_change_nothing(chain, lake, days, tmp_path):
    files = tmp_path / "files"
    shutil.copytree(days, files)
    for path in sorted(files.rglob("*.parquet"))[::2]:
        shutil.copy(path, path.with_name("part-00001-2.snappy.parquet"))
    run(chain, tmp_path / "lake", files)
    assert differences(all_objects(tmp_path / "lake"), all_objects(lake)) == []


def test_times_that_are_wrong_are_those_of_the_node(chain, lake, history, tmp_path):
    write_days(history, tmp_path / "files", late=1)
    run(chain, tmp_path / "lake", tmp_path / "files")
    assert differences(all_objects(tmp_path / "lake"), all_objects(lake)) == []


def test_files_that_lack_logs_are_noticed(chain, days, tmp_path):
    files = tmp_path / "files"
    shutil.copytree(days, files)
    day = sorted((files / "logs").iterdir())[-4]
    shutil.copy(sorted((files / "logs").iterdir())[0] / "part-00000-1.snappy.parquet", day)
    result = chain.defi("run", "--as-of", chain.as_of, "--logs", str(files), lake=tmp_path / "lake")
    assert result.returncode != 0 and "differ from those in its receipts" in result.stderr, result.stderr
    shutil.rmtree(day)
    result = chain.defi("run", "--as-of", chain.as_of, "--logs", str(files), lake=tmp_path / "lake")
    assert result.returncode != 0 and "the files of a day are missing" in result.stderr, result.stderr


def test_files_need_a_node(chain, days, tmp_path):
    environment = {name: value for name, value in chain.environment().items() if name != "ETHEREUM_RPC_URL"}
    command = chain.command("run", "--logs", str(days), lake=tmp_path / "lake")
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 2 and "--logs needs an Ethereum node" in result.stderr, result.stderr
