"""Runs functions from their packages: one process per execution environment, which polls the Lambda Runtime API.

A function has the environment variables of its configuration and those that AWS adds, none of the host, and the
credentials of its role. Time, memory and payload sizes have the limits of AWS. The output of a function is written to
its log group, if its role allows that. A version of a function runs the code and configuration with which it was
published.
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

from moto.awslambda.exceptions import InvalidParameterValueException
from moto.awslambda.models import LambdaBackend, LambdaFunction, LambdaStorage, lambda_backends
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.core.exceptions import JsonRESTError
from moto.core.utils import iso_8601_datetime_with_nanoseconds

from .controls import settings
from .roles import NotTrusted
from .sandbox import Sandbox

MAX_REQUEST_BYTES = MAX_RESPONSE_BYTES = 6 * 1024 * 1024
MAX_TAIL_BYTES = 4096


class TooManyRequests(JsonRESTError):
    """The reserved concurrency of a function is exhausted, or that of the account."""

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
    """Replaces the execution of moto's functions."""
    functions = Functions(endpoint, Path(folder))
    atexit.register(functions.close)

    def invoke(function, body, request_headers, response_headers):
        return functions.invoke(function, body, request_headers, response_headers)

    LambdaFunction.invoke = invoke
    date_updates()
    limit_memory()
    number_versions_once()
    return functions


def date_updates() -> None:
    """Sets the modification date of an updated function, which moto leaves at the date of creation."""
    original = LambdaFunction.update_configuration

    def update_configuration(self, updates):
        self.last_modified = iso_8601_datetime_with_nanoseconds()
        return original(self, updates)

    LambdaFunction.update_configuration = update_configuration


def limit_memory() -> None:
    """Limits the memory of a function as the account does. moto knows no limit."""
    create, update = LambdaBackend.create_function, LambdaFunction.update_configuration

    def check(values: dict) -> None:
        if int(values.get("MemorySize") or 0) > settings.function_memory:
            raise InvalidParameterValueException(
                "'MemorySize' value failed to satisfy constraint: "
                f"Member must have value less than or equal to {settings.function_memory}"
            )

    def create_function(self, spec):
        check(spec)
        return create(self, spec)

    def update_configuration(self, updates):
        check(updates)
        return update(self, updates)

    LambdaBackend.create_function = create_function
    LambdaFunction.update_configuration = update_configuration


def number_versions_once() -> None:
    """Never gives the number of a deleted version to another one. moto counts the versions that exist."""
    original = LambdaStorage.publish_version
    newest: dict[str, int] = {}

    def publish_version(self, name_or_arn, description=""):
        function = self.get_function_by_name_or_arn_forbid_qualifier(name_or_arn)
        published = len(self._functions[function.function_name]["versions"])
        version = original(self, name_or_arn, description)
        if len(self._functions[function.function_name]["versions"]) > published:
            version.set_version(max(version.version, newest.get(function.function_arn, 0) + 1))
            newest[function.function_arn] = version.version
            self._arns[version.function_arn] = version
        return version

    LambdaStorage.publish_version = publish_version


class Functions:
    """The execution environments of all functions. Idle environments are reused, and new ones are created as needed."""

    def __init__(self, endpoint: str, folder: Path):
        self.endpoint, self.folder = endpoint, folder
        self.idle: dict[str, list[Sandbox]] = {}
        self.running: Counter = Counter()
        self.lock = threading.Lock()
        self.closed = False
        for part in ("logs", "code", "ephemeral"):
            (folder / part).mkdir(parents=True, exist_ok=True)

    def invoke(self, function: LambdaFunction, body: bytes | str, request_headers, response_headers) -> bytes:
        """Calls a function. An error of the function is a response as well, marked by a header."""
        payload = (body.encode() if isinstance(body, str) else body) or b"{}"
        if len(payload) > MAX_REQUEST_BYTES:
            raise RequestTooLarge(len(payload))
        if request_headers.get("X-Amz-Invocation-Type") == "Event":
            threading.Thread(target=self.run, args=(function, payload), daemon=True).start()
            return b""
        failed, response, output = self.run(function, payload)
        if failed:
            response_headers["x-amz-function-error"] = "Unhandled"
        # The end of the output of the function.
        response_headers["x-amz-log-result"] = base64.b64encode(output[-MAX_TAIL_BYTES:].encode()).decode()
        return response

    def run(self, function: LambdaFunction, payload: bytes) -> tuple[bool, bytes, str]:
        request = str(uuid.uuid4())
        self.enter(function)
        try:
            try:
                sandbox = self.take(function)
            except (OSError, NotTrusted) as cause:
                return failure("Runtime.InvalidEntrypoint", f"RequestId: {request} Error: {cause}")
            failed, response, output = sandbox.invoke(request, payload)
            self.record(function, failed, response, sandbox)
            self.give_back(sandbox)
        finally:
            self.leave(function)
        if len(response) > MAX_RESPONSE_BYTES:
            return failure(
                "Function.ResponseSizeTooLarge",
                f"Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes).",
            )
        return failed, response, output

    def record(self, function: LambdaFunction, failed: bool, response: bytes, sandbox: Sandbox) -> None:
        """Writes a line about each call for the tests, which can't observe the calls of a state machine otherwise."""
        kind = json.loads(response).get("errorType") if failed else None
        version = str(function.version)
        line = {"function": function.function_name, "version": version, "kind": kind, "bytes": len(response), "kilobytes": sandbox.peak}
        with self.lock, (self.folder / "calls.jsonl").open("a") as journal:
            journal.write(f"{json.dumps(line)}\n")

    def enter(self, function: LambdaFunction) -> None:
        with self.lock:
            # All versions of a function share its reserved concurrency.
            reserved = latest(function).reserved_concurrency
            is_exhausted = reserved is not None and self.running[function.function_name] >= int(reserved)
            if is_exhausted or self.running.total() >= settings.concurrent_calls:
                raise TooManyRequests
            self.running[function.function_name] += 1

    def leave(self, function: LambdaFunction) -> None:
        with self.lock:
            self.running[function.function_name] -= 1

    def take(self, function: LambdaFunction) -> Sandbox:
        """Returns an execution environment with the current configuration of the function."""
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
        """Returns the folder with the unpacked package, which all environments of a function share."""
        folder = self.folder / "code" / hashlib.sha256(function.code_bytes).hexdigest()[:16]
        with self.lock:
            if not folder.exists():
                with zipfile.ZipFile(io.BytesIO(function.code_bytes)) as package:
                    package.extractall(folder)
                    for entry in package.infolist():
                        (folder / entry.filename).chmod((entry.external_attr >> 16) & 0o777 or 0o644)
        return folder

    def close(self) -> None:
        """Stops all processes."""
        with self.lock:
            self.closed = True
            sandboxes = [sandbox for idle in self.idle.values() for sandbox in idle]
            self.idle.clear()
        for sandbox in sandboxes:
            sandbox.close()
        shutil.rmtree(self.folder / "code", ignore_errors=True)


def latest(function: LambdaFunction) -> LambdaFunction:
    """Returns the function itself of a version of it."""
    return lambda_backends[ACCOUNT][function.region].get_function(function.function_name)


def failure(kind: str, message: str) -> tuple[bool, bytes, str]:
    return True, json.dumps({"errorType": kind, "errorMessage": message}).encode(), ""


def revision_of(function: LambdaFunction) -> str:
    """Returns a value that changes with every update of the function, after which its execution environments are
    outdated."""
    return f"{function.code_sha_256} {function.last_modified}"
