"""Measures cold starts: the time from the start of a function's process until it requests its first invocation, its
peak memory until then, and the size of its package.

Usage: cold_start.py PACKAGES. A server on localhost simulates the Lambda Runtime API and Secrets Manager. The
measurements don't include the overhead of Lambda itself (downloading the package, starting the sandbox).
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
    """Simulates the Runtime API up to the first request for an invocation, and Secrets Manager."""

    ready = threading.Event()

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path.endswith("/runtime/invocation/next"):
            self.ready.set()
            time.sleep(60)  # there is no invocation

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"Name": "key", "SecretString": "key"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def environment(address: str, step: str) -> dict[str, str]:
    """Returns the environment variables that Lambda and Terraform set for a function."""
    variables = {
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
        variables |= {"GRAPH_SECRET": "key", "TRANSPOSE_SECRET": "key"}
    return variables


def start(folder: str, variables: dict[str, str]) -> tuple[float, float]:
    """Starts a function once. Returns the milliseconds until it requests an invocation, and its peak memory in MB until
    then."""
    Loopback.ready.clear()
    started = time.perf_counter()
    process = subprocess.Popen([f"{folder}/bootstrap"], cwd=folder, env=variables, stdout=subprocess.DEVNULL)
    is_ready = Loopback.ready.wait(10)
    elapsed = (time.perf_counter() - started) * 1000
    # The resource usage of a terminated child is not used: it includes the memory of this script before the exec.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    process.kill()
    process.wait()
    assert is_ready and peak, f"{folder} did not request an invocation"
    return elapsed, int(peak[1]) / 1000


def main(packages: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Loopback)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_port}"
    found = sorted(packages.glob("*.zip"))
    assert found, f"no packages in {packages}: build them with make package"
    print(f"{'function':28} {'zip MB':>7} {'median ms':>10} {'slowest ms':>11} {'peak MB':>8}")
    over = []
    for package in found:
        with tempfile.TemporaryDirectory() as folder:
            zipfile.ZipFile(package).extractall(folder)
            os.chmod(f"{folder}/bootstrap", 0o755)
            starts = [start(folder, environment(address, package.stem)) for _ in range(STARTS)]
        times, peaks = zip(*starts, strict=True)
        size = package.stat().st_size / 1e6
        print(f"{package.stem:28} {size:7.1f} {statistics.median(times):10.0f} {max(times):11.0f} {max(peaks):8.0f}")
        if size >= LARGEST_MB or statistics.median(times) >= SLOWEST_MS:
            over.append(package.stem)
    print(f"over {LARGEST_MB} MB or {SLOWEST_MS} ms: {', '.join(over) or 'none'}")


main(Path(sys.argv[1]))
