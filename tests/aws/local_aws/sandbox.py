"""An execution environment: a process of a function's package, and the Runtime API that it polls."""

import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from moto.awslambda.models import LambdaFunction

from . import roles
from .log_groups import Log

# The interval at which the memory of a running call is checked.
POLL_SECONDS = 0.05
INIT_SECONDS = 10
NEXT = "/2018-06-01/runtime/invocation/next"


class Sandbox:
    """Serves one call at a time until its process ends."""

    def __init__(self, function: LambdaFunction, revision: str, code: Path, endpoint: str, folder: Path):
        self.function_arn, self.revision = function.function_arn, revision
        self.timeout, self.megabytes = float(function.timeout), int(function.memory_size)
        self.calls: queue.Queue = queue.Queue()
        self.responses: queue.Queue = queue.Queue()
        self.is_initialized, self.peak = False, 0
        self.ephemeral = tempfile.mkdtemp(dir=folder / "ephemeral")
        assumed = roles.assume(
            function.role, "lambda.amazonaws.com", function.function_name, function.function_arn, function.region
        )
        session = roles.Session(assumed.arn, assumed.role_arn)
        self.log = Log(
            session, function.logs_group_name, function.region, folder / "logs" / f"{function.function_name}.log", str(function.version)
        )
        self.api = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(self))
        self.api.daemon_threads = True
        threading.Thread(target=self.api.serve_forever, daemon=True).start()
        try:
            self.process = subprocess.Popen(
                [code / "bootstrap"],
                env=self.environment(function, assumed, code, endpoint),
                cwd=code,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError:
            self.api.shutdown()
            raise
        self.log.follow(self.process.stdout)

    def environment(self, function: LambdaFunction, assumed, code: Path, endpoint: str) -> dict[str, str]:
        """Returns the variables that AWS sets for every function and those of the configuration, and the endpoint of
        the local AWS and the temporary folder, which only the local AWS sets."""
        return {
            "_HANDLER": function.handler or "bootstrap",
            "AWS_REGION": function.region,
            "AWS_DEFAULT_REGION": function.region,
            "AWS_ACCESS_KEY_ID": assumed.access_key_id,
            "AWS_SECRET_ACCESS_KEY": assumed.secret_access_key,
            "AWS_SESSION_TOKEN": assumed.session_token,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.api.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": function.function_name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_size),
            "AWS_LAMBDA_FUNCTION_VERSION": str(function.version),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": function.logs_group_name,
            "AWS_LAMBDA_LOG_STREAM_NAME": self.log.stream,
            "LAMBDA_TASK_ROOT": str(code),
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "LANG": "en_US.UTF-8",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "TZ": ":UTC",
            "AWS_ENDPOINT_URL": endpoint,
            "TMPDIR": self.ephemeral,
            **(function.environment_vars or {}),
        }

    def invoke(self, request: str, payload: bytes) -> tuple[bool, bytes, str]:
        """Calls the function. Returns whether the call failed, its response, and the output during the call."""
        self.log.start(request)
        start = time.monotonic()
        # The timeout starts after the initialisation, for which the first call has additional time.
        limit = self.timeout + (0 if self.is_initialized else INIT_SECONDS)
        self.calls.put((request, payload))
        failed, response = self.wait_for_response(request, start + limit)
        self.peak = max(self.peak, self.memory("VmHWM"))
        output = self.log.end(request, time.monotonic() - start, self.peak)
        return failed, response, output

    def wait_for_response(self, request: str, deadline: float) -> tuple[bool, bytes]:
        while True:
            try:
                return self.responses.get(timeout=POLL_SECONDS)
            except queue.Empty:
                pass
            failure = self.failure(deadline)
            if failure and self.responses.empty():
                self.close()
                kind, message = failure
                return True, json.dumps({"errorType": kind, "errorMessage": f"RequestId: {request} Error: {message}"}).encode()

    def failure(self, deadline: float) -> tuple[str, str] | None:
        """Returns the error of a call that ended without a response, or None if it still runs."""
        status = self.process.poll()
        if status is not None:
            reason = f"signal: {-status}" if status < 0 else f"exit status {status}"
            return "Runtime.ExitError", f"Runtime exited with error: {reason}"
        # Anonymous memory only, without the pages of the executable.
        if self.memory("RssAnon") > self.megabytes * 1024:
            return "Runtime.ExitError", "Runtime exited with error: signal: killed"
        if time.monotonic() > deadline:
            return "Sandbox.Timedout", f"Task timed out after {self.timeout:.2f} seconds"
        return None

    def memory(self, field: str) -> int:
        """Returns a memory value of the process in KB, or 0 after the process has ended."""
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)

    def alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        # Ends a pending request for the next call.
        self.calls.put(None)
        # Stopping the server takes up to half a second, which no call needs to wait for.
        threading.Thread(target=self.stop_api, daemon=True).start()
        shutil.rmtree(self.ephemeral, ignore_errors=True)

    def stop_api(self) -> None:
        self.api.shutdown()
        self.api.server_close()


def handler_of(sandbox: Sandbox) -> type[BaseHTTPRequestHandler]:
    """Returns the handler of the Runtime API of one execution environment."""

    class RuntimeApi(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Otherwise a body waits until the function's kernel acknowledges the headers: 40 ms in each call.
        disable_nagle_algorithm = True

        def log_message(self, *_):
            pass

        def do_GET(self):
            if self.path != NEXT:
                return self.reply(404)
            sandbox.is_initialized = True
            call = sandbox.calls.get()
            if call is None:
                self.close_connection = True
                return None
            request, payload = call
            headers = {
                "Content-Type": "application/json",
                "Lambda-Runtime-Aws-Request-Id": request,
                "Lambda-Runtime-Deadline-Ms": str(int((time.time() + sandbox.timeout) * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": sandbox.function_arn,
                "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{os.urandom(12).hex()};Sampled=0",
            }
            return self.reply(200, payload, headers)

        def do_POST(self):
            body = self.body()
            # runtime/init/error, runtime/invocation/{request}/response or runtime/invocation/{request}/error
            sandbox.responses.put((self.path.endswith("/error"), body))
            self.reply(202, b'{"status":"OK"}')

        def body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)

        def reply(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None):
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    return RuntimeApi
