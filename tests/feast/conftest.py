"""A Feast repository over a lake of the sample chain with several published sets.

The environment variable DEFI_LAKE is the folder of the lake, DEFI_BIN that of the defi command.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

# The machine of a user need not be in UTC. DuckDB and Python take the time zone from here.
os.environ["TZ"] = "Asia/Tokyo"
time.tzset()

import pytest  # noqa: E402

LAKE = Path(os.environ["DEFI_LAKE"]).resolve()


def defi(*arguments, check=True):
    command = [Path(os.environ["DEFI_BIN"]).resolve() / "defi", *arguments]
    return subprocess.run(command, check=check, capture_output=True, text=True)


def feast(repository, *arguments):
    """Runs the feast command, which prints what it did to either output."""
    command = [Path(sys.executable).parent / "feast", *arguments]
    done = subprocess.run(command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="session")
def lake():
    return LAKE


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("feast") / "repository"
    defi("feast", folder, "--lake", LAKE)
    feast(folder, "apply")
    return folder


@pytest.fixture(scope="session")
def store(repository):
    from feast import FeatureStore

    return FeatureStore(repository)
