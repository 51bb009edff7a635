"""Functions run as their own packages: a process for each execution environment, which polls the Lambda Runtime API.

A function gets the environment that its configuration gives it and what AWS adds, nothing of the host's; the credentials are
those of its role. Time, memory and the sizes of payloads are bounded as AWS bounds them; what a function prints goes to its
log group, if its role lets it.
"""

import atexit
import base64
import hashlib
import io
import json
import shutil
import threading
import uuid
import zipfile
from collections import Counter
from pathlib import Path

from moto.awslambda.models import LambdaFunction
from moto.core.exceptions import JsonRESTError
from moto.core.utils import iso_8601_datetime_with_nanoseconds

from .roles import NotTrusted
from .sandbox import Sandbox

LARGEST_REQUEST = LARGEST_RESPONSE = 6 * 1024 * 1024
LARGEST_TAIL = 4096


class TooManyRequests(JsonRESTError):
    """All of a function's reserved concurrency is in use."""

    code = 429

    def __init__(self):
        super().__init__("TooManyRequestsException", "Rate Exceeded.")


class RequestTooLarge(JsonRESTError):
    code = 413

    def __init__(self, size: int):
        super().__init__(
            "RequestTooLargeException", f"{size} byte payload is too large for the RequestResponse invocation type"
        )


def install(endpoint: str, folder: str) -> "Functions":
    """Has moto's functions run here."""
    functions = Functions(endpoint, Path(folder))
    atexit.register(functions.close)

    def invoke(function, body, request_headers, response_headers):
        return functions.invoke(function, body, request_headers, response_headers)

    LambdaFunction.invoke = invoke
    date_updates()
    return functions


def date_updates() -> None:
    """moto's functions keep the date of their creation."""
    original = LambdaFunction.update_configuration

    def update_configuration(self, updates):
        self.last_modified = iso_8601_datetime_with_nanoseconds()
        return original(self, updates)

    LambdaFunction.update_configuration = update_configuration


class Functions:
    """The execution environments of all functions: idle ones are used again, as many as needed are made."""

    def __init__(self, endpoint: str, folder: Path):
        self.endpoint, self.folder = endpoint, folder
        self.idle: dict[str, list[Sandbox]] = {}
        self.running: Counter = Counter()
        self.lock = threading.Lock()
        self.closed = False
        for part in ("logs", "code", "ephemeral"):
            (folder / part).mkdir(parents=True, exist_ok=True)

    def invoke(self, function: LambdaFunction, body: bytes | str, request_headers, response_headers) -> bytes:
        """Calls a function. An error of the function is an answer too, and the header says which it is."""
        payload = (body.encode() if isinstance(body, str) else body) or b"{}"
        if len(payload) > LARGEST_REQUEST:
            raise RequestTooLarge(len(payload))
        if request_headers.get("X-Amz-Invocation-Type") == "Event":
            threading.Thread(target=self.run, args=(function, payload), daemon=True).start()
            return b""
        failed, answer, printed = self.run(function, payload)
        if failed:
            response_headers["x-amz-function-error"] = "Unhandled"
        # The end of what the function printed, for whoever asks for it.
        response_headers["x-amz-log-result"] = base64.b64encode(printed[-LARGEST_TAIL:].encode()).decode()
        return answer

    def run(self, function: LambdaFunction, payload: bytes) -> tuple[bool, bytes, str]:
        request = str(uuid.uuid4())
        self.enter(function)
        try:
            try:
                sandbox = self.take(function)
            except (OSError, NotTrusted) as cause:
                return failure("Runtime.InvalidEntrypoint", f"RequestId: {request} Error: {cause}")
            failed, answer, printed = sandbox.invoke(request, payload)
            self.note(function, failed, answer, sandbox)
            self.give_back(sandbox)
        finally:
            self.leave(function)
        if len(answer) > LARGEST_RESPONSE:
            return failure(
                "Function.ResponseSizeTooLarge",
                f"Response payload size exceeded maximum allowed payload size ({LARGEST_RESPONSE} bytes).",
            )
        return failed, answer, printed

    def note(self, function: LambdaFunction, failed: bool, answer: bytes, sandbox: Sandbox) -> None:
        """Keeps a line about each call, for the tests: those that a state machine makes are seen nowhere else."""
        kind = json.loads(answer).get("errorType") if failed else None
        line = {"function": function.function_name, "kind": kind, "bytes": len(answer), "kilobytes": sandbox.peak}
        with self.lock, (self.folder / "calls.jsonl").open("a") as journal:
            journal.write(f"{json.dumps(line)}\n")

    def enter(self, function: LambdaFunction) -> None:
        with self.lock:
            reserved = function.reserved_concurrency
            if reserved is not None and self.running[function.function_name] >= int(reserved):
                raise TooManyRequests
            self.running[function.function_name] += 1

    def leave(self, function: LambdaFunction) -> None:
        with self.lock:
            self.running[function.function_name] -= 1

    def take(self, function: LambdaFunction) -> Sandbox:
        """An execution environment of the function as it is configured now."""
        revision = revision_of(function)
        with self.lock:
            idle = self.idle.setdefault(function.function_arn, [])
            stale = [sandbox for sandbox in idle if sandbox.revision != revision or not sandbox.alive()]
            current = [sandbox for sandbox in idle if sandbox not in stale]
            taken = current.pop() if current else None
            self.idle[function.function_arn] = current
        for sandbox in stale:
            sandbox.close()
        return taken or Sandbox(function, revision, self.unpacked(function), self.endpoint, self.folder)

    def give_back(self, sandbox: Sandbox) -> None:
        with self.lock:
            kept = sandbox.alive() and not self.closed
            if kept:
                self.idle.setdefault(sandbox.function_arn, []).append(sandbox)
        if not kept:
            sandbox.close()

    def unpacked(self, function: LambdaFunction) -> Path:
        """The package's folder; all environments of a function read the same one."""
        folder = self.folder / "code" / hashlib.sha256(function.code_bytes).hexdigest()[:16]
        with self.lock:
            if not folder.exists():
                with zipfile.ZipFile(io.BytesIO(function.code_bytes)) as package:
                    package.extractall(folder)
                    for entry in package.infolist():
                        (folder / entry.filename).chmod((entry.external_attr >> 16) & 0o777 or 0o644)
        return folder

    def close(self) -> None:
        """Ends every process."""
        with self.lock:
            self.closed = True
            sandboxes = [sandbox for idle in self.idle.values() for sandbox in idle]
            self.idle.clear()
        for sandbox in sandboxes:
            sandbox.close()
        shutil.rmtree(self.folder / "code", ignore_errors=True)


def failure(kind: str, message: str) -> tuple[bool, bytes, str]:
    return True, json.dumps({"errorType": kind, "errorMessage": message}).encode(), ""


def revision_of(function: LambdaFunction) -> str:
    """What makes an execution environment out of date: any update of the function does, even one that changes nothing."""
    return f"{function.code_sha_256} {function.last_modified}"
