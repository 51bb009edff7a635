"""The URLs of functions. moto stores them, and answers no request to them.

A request has the host of the URL, and goes to the endpoint of the local AWS. Like AWS, this refuses a request that is not
signed. `roles` checks whether the signer may call the function. The signature itself is not checked, as in all of moto.
moto does not store the alias of a URL: a request calls the newest code.
"""

import base64
import json
from urllib.parse import urlparse

from moto.awslambda.models import LambdaFunction, lambda_backends
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT


def function_of(host: str) -> LambdaFunction | None:
    """Returns the function whose URL has a host."""
    if ".lambda-url." not in host:
        return None
    region = host.split(".")[2]
    functions = lambda_backends[ACCOUNT][region].list_functions()
    return next((function for function in functions if function.url_config and urlparse(function.url_config.url).netloc == host), None)


class FunctionUrls:
    """Answers the requests to the URLs of functions."""

    def __call__(self, environ, start_response):
        function = function_of(environ["HTTP_HOST"])
        if function is None:
            return respond(start_response, 404, {"Message": None})
        if function.url_config.config["AuthType"] == "AWS_IAM" and not environ.get("HTTP_AUTHORIZATION"):
            return respond(start_response, 403, {"Message": "Forbidden"})
        headers: dict[str, str] = {}
        answer = json.loads(function.invoke(json.dumps(event_of(environ)), {}, headers))
        if "x-amz-function-error" in headers:
            return respond(start_response, 502, {"Message": "Internal Server Error"})
        if not isinstance(answer, dict) or "statusCode" not in answer:
            return respond(start_response, 200, answer)
        start_response(f"{answer['statusCode']} -", list(answer.get("headers", {}).items()))
        return [answer.get("body", "").encode()]


def event_of(environ: dict) -> dict:
    """Returns the event with which a request calls the function. A body that is no text is in base64."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    is_text = environ.get("CONTENT_TYPE", "").startswith(("application/json", "text/"))
    http = {"method": environ["REQUEST_METHOD"], "path": environ["PATH_INFO"], "protocol": "HTTP/1.1"}
    event = {"version": "2.0", "rawPath": environ["PATH_INFO"], "requestContext": {"http": http}, "isBase64Encoded": not is_text}
    return event | ({"body": body.decode() if is_text else base64.b64encode(body).decode()} if body else {})


def respond(start_response, status: int, body) -> list[bytes]:
    start_response(f"{status} -", [("Content-Type", "application/json")])
    return [json.dumps(body).encode()]
