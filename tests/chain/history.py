"""All blocks, transactions and logs of a chain, as Parquet files: by day as in AWS's public data set, and by ranges of
blocks as cryo writes them."""

import collections
import datetime
import http.server
import json
import threading
import urllib.request
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

BATCH = 200


def post(url: str, body: bytes) -> bytes:
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return response.read()


class History:
    """What a node says of all blocks up to its head."""

    def __init__(self, url: str):
        self.url = url
        self.head = int(self.ask("eth_blockNumber", [[]])[0], 16)
        numbers = [hex(number) for number in range(self.head + 1)]
        self.blocks = self.ask("eth_getBlockByNumber", [[number, True] for number in numbers])
        ranges = [{"fromBlock": hex(n), "toBlock": hex(min(n + 99, self.head))} for n in range(0, self.head + 1, 100)]
        self.logs = [log for logs in self.ask("eth_getLogs", [[part] for part in ranges]) for log in logs]
        self.times = {int(block["number"], 16): int(block["timestamp"], 16) for block in self.blocks}

    def ask(self, method: str, calls: list) -> list:
        answers = []
        for start in range(0, len(calls), BATCH):
            part = enumerate(calls[start : start + BATCH])
            batch = [{"jsonrpc": "2.0", "id": id, "method": method, "params": params} for id, params in part]
            replies = json.loads(post(self.url, json.dumps(batch).encode()))
            answers += [reply["result"] for reply in sorted(replies, key=lambda reply: reply["id"])]
        return answers

    def transactions(self) -> list[dict]:
        return [transaction for block in self.blocks for transaction in block["transactions"]]


def number(rows: list[dict], key: str, kind: pa.DataType) -> pa.Array:
    return pa.array([int(row[key], 16) for row in rows], kind)


def raw(values: list) -> pa.Array:
    return pa.array([None if value is None else bytes.fromhex(value[2:]) for value in values], pa.binary())


def write_days(history: History, folder: Path, late: int = 0) -> None:
    """Writes the files of AWS's public data set: hex text, one folder for each day and table. The times of all blocks but
    the first of each day are `late` seconds too late."""
    is_first = lambda number: history.times[number] // 86_400 != history.times.get(number - 1, 0) // 86_400  # noqa: E731

    def day(row: dict, key: str) -> str:
        return str(datetime.datetime.fromtimestamp(history.times[int(row[key], 16)], datetime.UTC).date())

    def times(rows: list[dict], key: str) -> pa.Array:
        numbers = [int(row[key], 16) for row in rows]
        seconds = [history.times[number] + (0 if is_first(number) else late) for number in numbers]
        return pa.array([time * 1_000_000 for time in seconds], pa.timestamp("us"))

    def text(rows: list[dict], key: str) -> pa.Array:
        return pa.array([row[key] for row in rows], pa.string())

    def logs(rows):
        return {
            "log_index": number(rows, "logIndex", pa.int64()),
            "transaction_hash": text(rows, "transactionHash"),
            "transaction_index": number(rows, "transactionIndex", pa.int64()),
            "address": text(rows, "address"),
            "data": text(rows, "data"),
            "topics": pa.array([row["topics"] for row in rows], pa.list_(pa.string())),
            "block_timestamp": times(rows, "blockNumber"),
            "block_number": number(rows, "blockNumber", pa.int64()),
            "block_hash": text(rows, "blockHash"),
        }

    def transactions(rows):
        return {
            "hash": text(rows, "hash"),
            "from_address": text(rows, "from"),
            "block_timestamp": times(rows, "blockNumber"),
            "block_number": number(rows, "blockNumber", pa.int64()),
        }

    def blocks(rows):
        return {
            "timestamp": times(rows, "number"),
            "number": number(rows, "number", pa.int64()),
            "hash": text(rows, "hash"),
            "parent_hash": text(rows, "parentHash"),
        }

    for table, rows, key, columns in [
        ("logs", history.logs, "blockNumber", logs),
        ("transactions", history.transactions(), "blockNumber", transactions),
        ("blocks", history.blocks, "number", blocks),
    ]:
        days = {day(block, "number"): [] for block in history.blocks}
        for row in rows:
            days[day(row, key)].append(row)
        for name, of_day in days.items():
            path = folder / table / f"date={name}" / "part-00000-1.snappy.parquet"
            path.parent.mkdir(parents=True)
            # Old versions of Spark write times as INT96.
            int96 = table == "blocks"
            pq.write_table(pa.table(columns(of_day)), path, row_group_size=500, use_deprecated_int96_timestamps=int96)


def write_ranges(history: History, folder: Path, size: int = 100) -> None:
    """Writes the files of cryo: bytes, one file for each range of blocks and kind of data."""

    def topic(rows: list[dict], index: int) -> pa.Array:
        return raw([row["topics"][index] if index < len(row["topics"]) else None for row in rows])

    def logs(rows):
        return {
            "block_number": number(rows, "blockNumber", pa.uint32()),
            "transaction_index": number(rows, "transactionIndex", pa.uint32()),
            "log_index": number(rows, "logIndex", pa.uint32()),
            "transaction_hash": raw([row["transactionHash"] for row in rows]),
            "address": raw([row["address"] for row in rows]),
            **{f"topic{index}": topic(rows, index) for index in range(4)},
            "data": raw([row["data"] for row in rows]),
        }

    for first in range(0, history.head + 1, size):
        last = min(first + size - 1, history.head)
        rows = [row for row in history.logs if first <= int(row["blockNumber"], 16) <= last]
        path = folder / f"ethereum__logs__{first:08}_to_{last:08}.parquet"
        pq.write_table(pa.table(logs(rows)), path, compression="lz4")


class CountingNode:
    """A server that passes requests on to a node, and counts them by method."""

    def __init__(self, url: str):
        self.methods = methods = collections.Counter()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                calls = json.loads(body)
                methods.update(call["method"] for call in (calls if isinstance(calls, list) else [calls]))
                answer = post(url, body)
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
