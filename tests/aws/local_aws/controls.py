"""What tests control in a running local AWS: how far it is from an ideal one, and answers of S3 that they order in
advance.

`PUT /_local-aws/settings` changes settings and returns all. `POST /_local-aws/answers` orders an answer, and
`DELETE /_local-aws/answers` cancels those for an `object` and returns the ones that were not given. No name of a bucket
begins with an underscore, so that no request to S3 has such a path.
"""

import fnmatch
import json
import threading
import time
from dataclasses import asdict, dataclass
from http import HTTPStatus
from urllib.parse import unquote

from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT

from .calls import Request

PATH = "/_local-aws/"

# The services whose calls have a latency: those that a step calls often.
LATENT = ("s3", "glue")


@dataclass
class Settings:
    """The settings of a local AWS. By default it is an ideal one."""

    # The time in milliseconds that a call takes at least.
    latency_ms: int = 0
    # The time in seconds until ListExecutions shows the start or the end of an execution.
    listing_delay: float = 0.0
    # The time in seconds until DescribeExecution shows the end of an execution, and until it knows of a new one.
    description_delay: float = 0.0
    unknown_delay: float = 0.0
    # The seconds by which DescribeExecution shows the end of a stopped execution earlier than it was: nobody waits for the
    # functions that it called.
    stopped_earlier: float = 0.0
    # The factor by which the intervals of Retry rules are multiplied. They are minutes in AWS.
    retry_interval_factor: float = 1.0
    # The limits of the account: concurrent calls of functions, and the memory of a function in MB.
    concurrent_calls: int = 1000
    function_memory: int = 10240

    def change(self, values: dict) -> None:
        for name, value in values.items():
            if name not in asdict(self):
                raise ValueError(f"no setting {name}")
            setattr(self, name, type(getattr(self, name))(value))


settings = Settings()


@dataclass
class Answer:
    """An answer that S3 gives to the next requests of a kind instead of its own."""

    # The HTTP method, and a pattern of the bucket and the key: `lake/raw/*`.
    method: str
    object: str
    status: int
    # The error code in the body. The response to a HEAD has no body, whatever the status.
    code: str = ""
    # The number of requests.
    times: int = 1
    # The name of a parameter that the query must have, for example `uploadId`. By default it must have none of those that
    # distinguish the calls of a multipart upload.
    query: str = ""
    # Whether the requests have their effect, so that only the answer is lost.
    is_done: bool = False

    def matches(self, request: Request) -> bool:
        if request.method != self.method or not fnmatch.fnmatchcase(unquote(request.path).lstrip("/"), self.object):
            return False
        return self.query in request.query if self.query else not {"uploads", "uploadId"} & request.query.keys()

    def body(self) -> bytes:
        message = "A test ordered this answer."
        if self.method == "HEAD" or not self.code:
            return b""
        return f'<?xml version="1.0"?>\n<Error><Code>{self.code}</Code><Message>{message}</Message></Error>'.encode()


class Controls:
    """The WSGI middleware that applies the settings to requests, and gives the ordered answers."""

    def __init__(self, app):
        self.app, self.lock = app, threading.Lock()
        self.answers: list[Answer] = []

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"].startswith(PATH):
            return self.control(environ, start_response)
        request = Request(environ, ACCOUNT, b"")
        if request.service in LATENT:
            # Each request has its own thread.
            time.sleep(settings.latency_ms / 1000)
        answer = self.next_answer(request) if request.service == "s3" else None
        if answer is None:
            return self.app(environ, start_response)
        if answer.is_done:
            for _ in self.app(environ, lambda *_: None):
                pass
        return respond(start_response, answer.status, "application/xml", answer.body())

    def next_answer(self, request: Request) -> Answer | None:
        with self.lock:
            answer = next((answer for answer in self.answers if answer.times > 0 and answer.matches(request)), None)
            if answer:
                answer.times -= 1
            return answer

    def control(self, environ, start_response):
        """Handles a request of a test."""
        values = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        with self.lock:
            match environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix(PATH):
                case "PUT", "settings":
                    settings.change(values)
                    result = asdict(settings)
                case "POST", "answers":
                    self.answers.append(Answer(**values))
                    result = asdict(self.answers[-1])
                case "DELETE", "answers":
                    cancelled = [answer for answer in self.answers if answer.object == values["object"]]
                    self.answers = [answer for answer in self.answers if answer not in cancelled]
                    result = [asdict(answer) for answer in cancelled if answer.times > 0]
                case _:
                    return respond(start_response, 404, "text/plain", b"")
        return respond(start_response, 200, "application/json", json.dumps(result).encode())


def respond(start_response, status: int, content_type: str, body: bytes) -> list[bytes]:
    headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
    start_response(f"{status} {HTTPStatus(status).phrase}", headers)
    return [body]
