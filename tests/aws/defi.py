"""Runs the `defi` command: serves a recording, and produces the expected lake in a folder."""

import csv
import io
import json
import re
import subprocess
from datetime import date, timedelta
from pathlib import Path

from aws import clean_environment
from packages import BUILT, REPOSITORY

# The key that both APIs require. It is unique, so that a test finds it wherever it leaks.
API_KEY = "key-0f5c2b7d9e"
RECORDING = REPOSITORY.parent / "shared" / "data" / "recordings" / "golden-two-protocols"


class ServeProcess:
    """Runs `defi serve` over a recording or the sample chain, until the context ends."""

    def __init__(self, recording: Path | None = RECORDING):
        self.recording = recording

    def __enter__(self) -> "ServeProcess":
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
        return self

    def __exit__(self, *_) -> None:
        self.process.terminate()
        self.process.wait()


class FolderLake:
    """A lake in a folder, produced by `defi run`."""

    def __init__(self, folder: Path, server: ServeProcess):
        self.folder, self.server = folder, server

    def run(self, first: str, as_of: str) -> None:
        urls = ["--graph-url", self.server.graph_url, "--transpose-url", self.server.transpose_url, "--send-keys"]
        self.defi("run", *urls, "--from", first, "--as-of", as_of)

    def objects(self) -> dict[str, bytes]:
        """Returns the objects by key, without those of runs, the catalog and the lock file."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        by_key = {path.relative_to(self.folder).as_posix(): path for path in files}
        return {key: path.read_bytes() for key, path in by_key.items() if not key.startswith(("runs/", "catalog/", ".lock"))}

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
        environment = {**clean_environment(), "GRAPH_API_KEY": API_KEY, "TRANSPOSE_API_KEY": API_KEY}
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
