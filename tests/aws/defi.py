"""Runs the `defi` command: serves a recording or a node, and produces the expected lake in a folder."""

import contextlib
import csv
import io
import json
import re
import subprocess
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from aws import clean_environment
from packages import BUILT, REPOSITORY, config

# The key that both APIs require. It is unique, so that a test finds it wherever it leaks.
API_KEY = "key-0f5c2b7d9e"
RECORDING = REPOSITORY.parent / "shared" / "data" / "recordings" / "golden-two-protocols"
# What the URL of the node has in its path and in its query, as the URLs of providers do.
NODE_KEYS = ("node-key-8c1d6f20a94e", "node-token-37b5e0d2f8")
CHAIN = REPOSITORY / "tests" / "chain"
# The source is a node on this machine, and the queries of the tests are short.
NODE_RATES = """
[requests_per_second]
the_graph = 20
transpose = 5
ethereum = 500

[publish]
wait_for_readers_seconds = 5
"""


class ServeProcess:
    """Runs `defi serve` over a recording or the sample chain, until the context ends."""

    def __init__(self, recording: Path | None = RECORDING):
        self.recording = recording
        # That of the rows of Aave.
        self.schema = "messari" if recording else "aave"

    def __enter__(self) -> "ServeProcess":
        self.folder = tempfile.TemporaryDirectory()
        self.config = Path(self.folder.name) / "config.toml"
        self.config.write_text(config(self.schema))
        chain = ["--recording", self.recording] if self.recording else []
        command = [BUILT / "defi", "serve", *chain, "--port", "0"]
        environment = {**clean_environment(), "DEFI_SERVE_API_KEY": API_KEY}
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        urls = {}
        # The first line is the name of the chain, with its first and its last day.
        self.days = re.findall(r"\d{4}-\d\d-\d\d", self.process.stdout.readline())
        for line in self.process.stdout:
            source, _, url = line.strip().rpartition("  ")
            urls[source.strip()] = url
            if {"The Graph", "Transpose"} <= urls.keys():
                break
        self.graph_url, self.transpose_url = urls["The Graph"], urls["Transpose"]
        # What Terraform, Secrets Manager and the `defi` command are given.
        self.variables = {"graph_url": self.graph_url, "transpose_url": self.transpose_url}
        self.secrets = {"graph": API_KEY, "transpose": API_KEY}
        self.arguments = ["--graph-url", self.graph_url, "--transpose-url", self.transpose_url, "--send-keys"]
        self.environment = {"GRAPH_API_KEY": API_KEY, "TRANSPOSE_API_KEY": API_KEY, "DEFI_CONFIG": str(self.config)}
        return self

    def __exit__(self, *_) -> None:
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


class NodeProcess:
    """Runs an Ethereum node with a small chain, and `defi serve` in front of it, which accepts a URL with keys, until the
    context ends."""

    schema = "aave"

    def __init__(self, folder: Path):
        self.folder, self.stack = folder, contextlib.ExitStack()

    def __enter__(self) -> "NodeProcess":
        with self.stack:
            options = ["--days", "8", "--wallets", "15", "--seed", "3", "--out", self.folder]
            node = json.loads(self.first_line(["node", CHAIN / "serve.mjs", *options]))["url"]
            server = self.first_line([BUILT / "defi", "serve", "--port", "0", "--node-url", node]).split()[-1]
            # The processes end with the context of this object.
            self.stack = self.stack.pop_all()
        self.url = f"{server.rstrip('/')}/v2/{NODE_KEYS[0]}?token={NODE_KEYS[1]}"
        self.config = self.folder / "config.toml"
        self.config.write_text(self.config.read_text() + NODE_RATES)
        last = json.loads((self.folder / "days.json").read_text())[-1]["timestamp"]
        self.as_of = datetime.fromtimestamp(last, UTC).date().isoformat()
        self.variables = {"data_source": "chain"}
        self.secrets = {"ethereum": self.url}
        self.arguments: list[str] = []
        self.environment = {"ETHEREUM_RPC_URL": self.url, "DEFI_CONFIG": str(self.config)}
        return self

    def first_line(self, command: list) -> str:
        """Starts a process, which ends with the context or when its standard input is closed, and returns the first line
        of its output."""
        process = subprocess.Popen(
            command, env=clean_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.stack.callback(process.wait)
        self.stack.callback(process.terminate)
        line = process.stdout.readline()
        assert line, f"{command[0]} did not start"
        return line

    def __exit__(self, *_) -> None:
        self.stack.close()


class FolderLake:
    """A lake in a folder, produced by `defi run`."""

    def __init__(self, folder: Path, server: ServeProcess | NodeProcess):
        self.folder, self.server = folder, server

    def run(self, *days: str) -> None:
        """Makes a run with the options for its days."""
        self.defi("run", *self.server.arguments, *days)

    def objects(self) -> dict[str, bytes]:
        """Returns the objects by key, without those of runs, and without what only a folder has: the catalog, the lock
        file, and the chain that the lake holds."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        by_key = {path.relative_to(self.folder).as_posix(): path for path in files}
        without = ("runs/", "catalog/", ".lock", "chain.json")
        return {key: path.read_bytes() for key, path in by_key.items() if not key.startswith(without)}

    def tables(self) -> dict[str, dict]:
        """Returns the tables of the catalog by `database.table`."""
        files = sorted(self.folder.glob("catalog/*/*.json"))
        return {f"{file.parent.name}.{file.stem}": json.loads(file.read_text()) for file in files}

    def partitions(self, table: str) -> dict[tuple[str, ...], str]:
        """Returns the locations of a table's partitions, by partition values."""
        files = (self.folder / "catalog" / table.replace(".", "/")).glob("*.json")
        found = [json.loads(file.read_text()) for file in files]
        return {tuple(partition["values"]): partition["location"] for partition in found}

    def counts(self, tables: list[str]) -> dict[str, int]:
        """Returns the number of rows of each table, counted by `defi query`."""
        sql = " union all ".join(f"select '{table}' as name, count(*) as rows from {table}" for table in tables)
        result = self.defi("query", "--format", "csv", sql)
        return {row["name"]: int(row["rows"]) for row in csv.DictReader(io.StringIO(result))}

    def defi(self, command: str, *arguments: str) -> str:
        environment = {**clean_environment(), **self.server.environment}
        result = subprocess.run(
            [BUILT / "defi", command, "--lake", self.folder, *arguments], env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, f"defi {command}: {result.stderr}"
        return result.stdout


def days() -> tuple[str, str]:
    """Returns the first and the last day of the recording."""
    manifest = json.loads((RECORDING / "manifest.json").read_text())
    return manifest["first_day"], manifest["last_day"]


def shift_recording(folder: Path, last: date) -> Path:
    """Copies the recording with all times shifted so that it ends on a given day, for inputs that default to today."""
    shift = last - date.fromisoformat(days()[1])
    for file in RECORDING.iterdir():
        (folder / file.name).write_text(shift_text(file.name, file.read_text(), shift))
    return folder


def shift_text(name: str, text: str, shift: timedelta) -> str:
    """Shifts the times in a file. Markets and positions refer to blocks by number and have no times."""
    if name == "blocks.jsonl":
        return re.sub(r'(?<="timestamp": )\d+', lambda time: str(int(time[0]) + int(shift.total_seconds())), text)
    if name in ("lending_events.jsonl", "manifest.json"):
        return re.sub(
            r'("(?:timestamp|first_day|last_day)": ")(\d{4}-\d\d-\d\d)',
            lambda day: day[1] + (date.fromisoformat(day[2]) + shift).isoformat(),
            text,
        )
    return text
