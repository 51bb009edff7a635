"""A function that does as it is told, and what else the tests of the local AWS itself are made of."""

import io
import json
import sys
import zipfile

# The other end of the Runtime API in as little as that takes.
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
        case "fail": outcome, answer = "error", {{"errorType": event["kind"], "errorMessage": "as told"}}
        case "answer": answer = "x" * event["bytes"]
        case "process": answer = os.getpid()
    print("did", event.get("do"), flush=True)
    http.urlopen(http.Request(api + "/invocation/" + request + "/" + outcome, json.dumps(answer).encode())).read()
"""


def package() -> bytes:
    """The function, packed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        archive.writestr(entry, BOOTSTRAP.format(python=sys.executable))
    return packed.getvalue()


def document(*statements: dict) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: str | list[str], resource: str | list[str], **conditions: dict) -> dict:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **({"Condition": conditions} if conditions else {})}


def call(local_aws, name: str, **event):
    """What a function answers; an error as its kind and message."""
    answer = local_aws.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event))
    payload = json.loads(answer["Payload"].read())
    return (payload["errorType"], payload["errorMessage"]) if "FunctionError" in answer else payload


def code_of(refused) -> str:
    return refused.value.response["Error"]["Code"]
