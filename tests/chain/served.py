"""A server in front of a chain's node, which puts faults into answers and counts requests."""

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass, field


@dataclass
class Served:
    """The server: its URL, and what it counted once it has ended."""

    url: str
    # The HTTP requests and the calls of each method.
    requests: dict[str, int] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)


@contextlib.contextmanager
def served(chain, faults: str):
    command = [f"{os.environ['DEFI_BIN']}/defi", "serve", "--port", "0", "--node-url", chain.url, "--node-faults", faults]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    node = Served(server.stdout.readline().split()[-1])
    try:
        yield node
    finally:
        server.send_signal(signal.SIGINT)
        output, _ = server.communicate(timeout=10)
    for line in output.splitlines():
        match line.split():
            case ["fault", name, count]:
                node.faults[name] = int(count)
            case [method, calls, "in", requests, "requests"]:
                node.calls[method], node.requests[method] = int(calls), int(requests)
