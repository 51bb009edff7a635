"""Writes the output of a function to its log group, with the permissions of the function's role."""

import threading
import time
import uuid
from pathlib import Path
from typing import IO

from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.logs.models import logs_backends

from .policies import Call
from .roles import Session

creation_lock = threading.Lock()


class Log:
    """The log stream of one execution environment."""

    def __init__(self, session: Session, group: str, region: str, file: Path, version: str):
        self.group, self.region, self.file, self.version = group, region, file, version
        self.stream = f"{time.strftime('%Y/%m/%d')}/[{version}]{uuid.uuid4().hex}"
        self.lock = threading.Lock()
        self.lines: list[str] = []
        self.is_writable = self.create(session)

    def create(self, session: Session) -> bool:
        """Creates the stream if the role allows that, and returns whether it does. If not, the output is lost, as in
        AWS."""
        logs = logs_backends[ACCOUNT][self.region]
        group = f"arn:aws:logs:{self.region}:{ACCOUNT}:log-group:{self.group}"
        needed = [Call("logs:CreateLogStream", f"{group}:*"), Call("logs:PutLogEvents", f"{group}:log-stream:{self.stream}")]
        if self.group not in logs.groups:
            needed.append(Call("logs:CreateLogGroup", f"{group}:*"))
        if not all(session.allows(call) for call in needed):
            return False
        with creation_lock:
            if self.group not in logs.groups:
                logs.create_log_group(self.group, {})
            logs.create_log_stream(self.group, self.stream)
        return True

    def follow(self, output: IO[bytes]) -> None:
        """Writes the output of a process to the log, line by line, until the process ends."""
        threading.Thread(target=lambda: [self.write(line) for line in output], daemon=True).start()

    def start(self, request: str) -> None:
        with self.lock:
            self.lines.clear()
        self.write(f"START RequestId: {request} Version: {self.version}")

    def end(self, request: str, seconds: float, kilobytes: int) -> str:
        self.write(f"END RequestId: {request}")
        self.write(f"REPORT RequestId: {request}\tDuration: {seconds * 1000:.2f} ms\tMax Memory Used: {kilobytes // 1024} MB")
        with self.lock:
            return "\n".join(self.lines)

    def write(self, line: str | bytes) -> None:
        text = (line.decode(errors="replace") if isinstance(line, bytes) else line).rstrip("\n")
        event = {"timestamp": int(time.time() * 1000), "message": text}
        with self.lock:
            self.lines.append(text)
            with self.file.open("a") as file:
                file.write(f"{text}\n")
            logs = logs_backends[ACCOUNT][self.region]
            if self.is_writable and text and self.group in logs.groups:
                logs.put_log_events(self.group, self.stream, [event])
