"""A proxy in front of a server on this machine that answers some requests with faults."""

import json
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Of so many requests, each of the faults is the answer to one.
EVERY = 25
# A status, and what a body becomes.
FAULTS = (
    (503, lambda body: b"unavailable"),
    (429, lambda body: b"{}"),
    (200, lambda body: body[: len(body) // 2]),
    (200, lambda body: json.dumps({"errors": [{"message": "bad indexers: {0xab: Timeout}"}]}).encode()),
    (502, lambda body: b"<html><h1>Bad Gateway</h1></html>"),
)


class FaultyProxy:
    """Forwards requests, and answers every fifth with a fault, until the context ends."""

    def __init__(self, target: str):
        self.target, self.requests, self.faults, self.lock = target, 0, 0, threading.Lock()

    def __enter__(self) -> "FaultyProxy":
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = proxy.answer(self.path, dict(self.headers), body)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        with self.lock:
            self.requests += 1
            number = self.requests
        kept = {name: value for name, value in headers.items() if name.lower() in ("authorization", "x-api-key", "content-type")}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.target + path, body, kept)) as response:
                status, answer = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, answer = error.code, error.read()
        if number % EVERY >= len(FAULTS) or status != 200:
            return status, answer
        with self.lock:
            self.faults += 1
        status, change = FAULTS[number % EVERY]
        return status, change(answer)
