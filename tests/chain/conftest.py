"""Local chains with the contracts of Aave v2 and Compound v2, and the defi command over them.

DEFI_BIN is the folder of the defi command. `DAYS` and `SEEDS` choose the chains."""

import contextlib
import datetime
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DAYS = int(os.environ.get("DAYS", "20"))
START = "2021-04-26"  # so that the chains, which have at least 8 days, are in two months
SEEDS = [int(seed) for seed in os.environ.get("SEEDS", "1 2").split()]


@dataclass(frozen=True)
class Chain:
    """A chain whose node runs: its URL, and the folder with what the contracts and the transactions did."""

    url: str
    folder: Path

    @property
    def days(self) -> list[str]:
        """The days, without that of the deployment."""
        days = json.loads((self.folder / "days.json").read_text())
        return [str(datetime.datetime.fromtimestamp(day["timestamp"], datetime.UTC).date()) for day in days]

    @property
    def as_of(self) -> str:
        """The last day."""
        return self.days[-1]

    def defi(self, *args: str, lake: Path, url: str | None = None) -> subprocess.CompletedProcess:
        """Runs the command over the chain."""
        return subprocess.run(self.command(*args, lake=lake), env=self.environment(url), capture_output=True, text=True)

    def command(self, *args: str, lake: Path) -> list[str]:
        return [f"{os.environ['DEFI_BIN']}/defi", *args, "--lake", str(lake)]

    def environment(self, url: str | None = None) -> dict[str, str]:
        named = {"DEFI_CONFIG": str(self.folder / "config.toml"), "ETHEREUM_RPC_URL": url or self.url}
        return os.environ | named

    def run(self, lake: Path, *options: str, url: str | None = None, as_of: str | None = None) -> None:
        """Runs the pipeline up to a day, by default the last one of the chain."""
        result = self.defi("run", "--as-of", as_of or self.as_of, *options, lake=lake, url=url)
        assert result.returncode == 0, result.stdout + result.stderr


@contextlib.contextmanager
def build(folder: Path, *options: str):
    """Builds a chain, whose node runs until the end of the block."""
    command = ["node", str(HERE / "serve.mjs"), *options, "--out", str(folder)]
    node = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        ready = node.stdout.readline()
        assert ready, "the chain was not built"
        yield Chain(json.loads(ready)["url"], folder)
    finally:
        node.stdin.close()
        node.wait(timeout=30)


@pytest.fixture(scope="session", params=SEEDS, ids=lambda seed: f"seed{seed}")
def chain(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"chain{request.param}")
    with build(folder, "--start", START, "--days", str(DAYS), "--seed", str(request.param)) as chain:
        yield chain


@pytest.fixture(scope="session")
def small_chain(tmp_path_factory):
    """A chain of a few days and users, for tests with many runs."""
    with build(tmp_path_factory.mktemp("small"), "--days", "4", "--wallets", "12") as chain:
        yield chain


@pytest.fixture(scope="session")
def lake(chain, tmp_path_factory):
    """A lake that was filled from the chain."""
    lake = tmp_path_factory.mktemp("lake")
    chain.run(lake)
    return lake
