"""Cold starts: the time from a function's process start to its first question for work, its memory by then, and the size of its package.

usage: cold_start.py PACKAGES. The function meets the Lambda Runtime API and, for its API key, Secrets Manager on loopback; what
Lambda itself adds (fetching the package, starting the sandbox) is not in the figures.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

STARTS = 15
LARGEST_MB = 15
SLOWEST_MS = 150


class Loopback(BaseHTTPRequestHandler):
    """The Runtime API, as far as the first question, and Secrets Manager."""

    asked = threading.Event()

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path.endswith("/runtime/invocation/next"):
            self.asked.set()
            time.sleep(60)  # there is no work

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"Name": "key", "SecretString": "key"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def environment(address: str, step: str) -> dict[str, str]:
    """What Lambda and Terraform give a function."""
    names = {
        "AWS_LAMBDA_RUNTIME_API": address,
        "AWS_LAMBDA_FUNCTION_NAME": step,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_ENDPOINT_URL": f"http://{address}",
        "LAKE": "s3://none",
        "DEFI_CONFIG": "config.toml",
    }
    if step.startswith("extract-"):
        names |= {"GRAPH_SECRET": "key", "TRANSPOSE_SECRET": "key"}
    return names


def start(folder: str, names: dict[str, str]) -> tuple[float, float]:
    """Starts a function once; the milliseconds until it asks for work, and the MB that it held at most by then."""
    Loopback.asked.clear()
    began = time.perf_counter()
    process = subprocess.Popen([f"{folder}/bootstrap"], cwd=folder, env=names, stdout=subprocess.DEVNULL)
    asked = Loopback.asked.wait(10)
    took = (time.perf_counter() - began) * 1000
    # Not the usage that the kernel tells at a process's end: that begins with this script's own, from before the exec.
    held = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    process.kill()
    process.wait()
    assert asked and held, f"{folder} never asked for work"
    return took, int(held[1]) / 1000


def main(packages: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Loopback)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_port}"
    found = sorted(packages.glob("*.zip"))
    assert found, f"there is no package in {packages}: make package builds them"
    print(f"{'function':28} {'zip MB':>7} {'median ms':>10} {'slowest ms':>11} {'MB held':>8}")
    over = []
    for package in found:
        with tempfile.TemporaryDirectory() as folder:
            zipfile.ZipFile(package).extractall(folder)
            os.chmod(f"{folder}/bootstrap", 0o755)
            starts = [start(folder, environment(address, package.stem)) for _ in range(STARTS)]
        times, held = zip(*starts, strict=True)
        size = package.stat().st_size / 1e6
        print(f"{package.stem:28} {size:7.1f} {statistics.median(times):10.0f} {max(times):11.0f} {max(held):8.0f}")
        if size >= LARGEST_MB or statistics.median(times) >= SLOWEST_MS:
            over.append(package.stem)
    print(f"over {LARGEST_MB} MB or {SLOWEST_MS} ms: {', '.join(over) or 'none'}")


main(Path(sys.argv[1]))
