"""A Lambda function that is controlled by its input, and other helpers of the tests of the local AWS itself."""

import io
import json
import sys
import zipfile

# A minimal client of the Runtime API.
BOOTSTRAP = """#!{python}
import json, os, sys, time, urllib.request as http
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime"
if os.environ.get("FAIL_TO_START"):
    body = json.dumps({{"errorType": "Internal", "errorMessage": "no configuration"}}).encode()
    http.urlopen(http.Request(api + "/init/error", body)).read()
    sys.exit(1)
while True:
    call = http.urlopen(api + "/invocation/next")
    request, event, kept = call.headers["Lambda-Runtime-Aws-Request-Id"], json.load(call), None
    outcome, answer = "response", event
    match event.get("do"):
        case "environment": answer = dict(os.environ)
        case "sleep": time.sleep(event["seconds"])
        case "allocate": kept = bytearray(event["megabytes"] << 20); time.sleep(0.3)
        case "exit": os._exit(3)
        case "fail": outcome, answer = "error", {{"errorType": event["kind"], "errorMessage": "simulated failure"}}
        case "answer": answer = "x" * event["bytes"]
        case "process": answer = os.getpid()
    print("did", event.get("do"), flush=True)
    http.urlopen(http.Request(api + "/invocation/" + request + "/" + outcome, json.dumps(answer).encode())).read()
"""


def package(comment: str = "") -> bytes:
    """Returns the zip file of the function. A comment changes its bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        archive.writestr(entry, BOOTSTRAP.format(python=sys.executable) + comment)
    return packed.getvalue()


def document(*statements: dict) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: str | list[str], resource: str | list[str], **conditions: dict) -> dict:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **({"Condition": conditions} if conditions else {})}


def call(local_aws, name: str, **event):
    """Calls a function and returns its response. An error is returned as its kind and message."""
    response = local_aws.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event))
    payload = json.loads(response["Payload"].read())
    return (payload["errorType"], payload["errorMessage"]) if "FunctionError" in response else payload


def code_of(error) -> str:
    """Returns the AWS error code of an exception that `pytest.raises` caught."""
    return error.value.response["Error"]["Code"]
