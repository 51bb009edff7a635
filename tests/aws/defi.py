"""The `defi` command: it serves a recording, and makes in a folder the lake that AWS should have."""

import csv
import io
import json
import re
import subprocess
from datetime import date, timedelta
from pathlib import Path

from aws import bare_environment
from packages import BUILT, REPOSITORY

# Both APIs ask for it. It is known by nothing else, so that it is found wherever it leaks to.
API_KEY = "key-0f5c2b7d9e"
RECORDING = REPOSITORY.parent / "shared" / "data" / "recordings" / "golden-two-protocols"


class Served:
    """`defi serve` over a recording, or over the sample chain. It ends with this value."""

    def __init__(self, recording: Path | None = RECORDING):
        self.recording = recording

    def __enter__(self) -> "Served":
        chain = ["--recording", self.recording] if self.recording else []
        command = [BUILT / "defi", "serve", *chain, "--port", "0"]
        environment = {**bare_environment(), "DEFI_SERVE_API_KEY": API_KEY}
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        urls = {}
        # What it is, then the first and the last day.
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
    """A lake that `defi run` makes in a folder."""

    def __init__(self, folder: Path, served: Served):
        self.folder, self.served = folder, served

    def run(self, first: str, as_of: str) -> None:
        urls = ["--graph-url", self.served.graph_url, "--transpose-url", self.served.transpose_url]
        self.defi("run", *urls, "--from", first, "--as-of", as_of)

    def objects(self) -> dict[str, bytes]:
        """What is in it, apart from the runs' own files and the catalog."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        named = {path.relative_to(self.folder).as_posix(): path for path in files}
        return {name: path.read_bytes() for name, path in named.items() if not name.startswith(("runs/", "catalog/", ".lock"))}

    def tables(self) -> dict[str, dict]:
        """The catalog, by database and table."""
        files = sorted(self.folder.glob("catalog/*/*.json"))
        return {f"{file.parent.name}.{file.stem}": json.loads(file.read_text()) for file in files}

    def partitions(self, table: str) -> dict[tuple[str, ...], str]:
        """A table's partitions, by their values: where their objects are."""
        files = (self.folder / "catalog" / table.replace(".", "/")).glob("*.json")
        found = [json.loads(file.read_text()) for file in files]
        return {tuple(partition["values"]): partition["location"] for partition in found}

    def counts(self, tables: list[str]) -> dict[str, int]:
        """The number of rows of each table, as the command counts them."""
        question = " union all ".join(f"select '{table}' as name, count(*) as rows from {table}" for table in tables)
        answer = self.defi("query", "--format", "csv", question)
        return {row["name"]: int(row["rows"]) for row in csv.DictReader(io.StringIO(answer))}

    def defi(self, command: str, *arguments: str) -> str:
        environment = {**bare_environment(), "GRAPH_API_KEY": API_KEY, "TRANSPOSE_API_KEY": API_KEY}
        done = subprocess.run(
            [BUILT / "defi", command, "--lake", self.folder, *arguments], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"defi {command}: {done.stderr}"
        return done.stdout


def days() -> tuple[str, str]:
    """The first and the last day of the recording."""
    manifest = json.loads((RECORDING / "manifest.json").read_text())
    return manifest["first_day"], manifest["last_day"]


def moved(folder: Path, last: date) -> Path:
    """The recording as if it had ended on that day: what a default of "today" needs."""
    later = last - date.fromisoformat(days()[1])
    for file in RECORDING.iterdir():
        (folder / file.name).write_text(moved_text(file.name, file.read_text(), later))
    return folder


def moved_text(name: str, text: str, later: timedelta) -> str:
    """Markets and positions have no time but their block's, which stays."""
    if name == "blocks.jsonl":
        return re.sub(r'(?<="timestamp": )\d+', lambda time: str(int(time[0]) + int(later.total_seconds())), text)
    if name in ("lending_events.jsonl", "manifest.json"):
        return re.sub(
            r'("(?:timestamp|first_day|last_day)": ")(\d{4}-\d\d-\d\d)',
            lambda day: day[1] + (date.fromisoformat(day[2]) + later).isoformat(),
            text,
        )
    return text
