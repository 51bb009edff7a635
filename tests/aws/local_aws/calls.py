"""Derives the IAM actions, resources and condition keys of a request to AWS.

Resources are derived only for the services that the functions and the state machine call. For other services the
resource is unknown, so that only a policy for `*` allows the action.
"""

import json
import re
from urllib.parse import parse_qs, unquote
from xml.etree import ElementTree

from . import function_urls
from .policies import Call

CREDENTIAL = re.compile(r"Credential=([^/]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")


class Request:
    """A request: method, path, query, some headers and, if it is needed, the body."""

    def __init__(self, environ: dict, account: str, body: bytes):
        self.method = environ["REQUEST_METHOD"]
        self.path = environ.get("RAW_URI", environ["PATH_INFO"]).split("?")[0]
        self.query = {
            key: values[0] for key, values in parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True).items()
        }
        self.host = environ.get("HTTP_HOST", "")
        self.target = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        self.copy_source = unquote(environ.get("HTTP_X_AMZ_COPY_SOURCE", "")).lstrip("/")
        self.account, self.body = account, body
        credential = CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
        self.key, self.region, self.service = credential.groups() if credential else ("", "", "")

    def arn(self, service: str, resource: str) -> str:
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"

    def json(self) -> dict:
        return json.loads(self.body or b"{}")

    def form(self) -> dict[str, str]:
        return {key: values[0] for key, values in parse_qs(self.body.decode(errors="replace")).items()}


def calls_of(request: Request) -> list[Call]:
    """Returns the calls that a request makes. All of them must be allowed."""
    of_service = SERVICES.get(request.service)
    if of_service:
        return of_service(request)
    action = request.target or request.form().get("Action") or f"{request.method} {request.path}"
    return [Call(f"{request.service}:{action}", "*")]


def s3(request: Request) -> list[Call]:
    bucket, _, key = unquote(request.path).lstrip("/").partition("/")
    if not bucket:
        return [Call("s3:ListAllMyBuckets", "*")]
    return s3_object(request, bucket, key) if key else s3_bucket(request, bucket)


def s3_bucket(request: Request, bucket: str) -> list[Call]:
    arn = f"arn:aws:s3:::{bucket}"
    if request.method == "POST" and "delete" in request.query:
        keys = [element.text for element in ElementTree.fromstring(request.body).iter() if element.tag.endswith("Key")]
        return [Call("s3:DeleteObject", f"{arn}/{key}") for key in keys]
    listing = {"list-type", "prefix", "delimiter", "max-keys", "marker", "continuation-token", "start-after", "encoding-type"}
    if request.method in ("GET", "HEAD") and not set(request.query) - listing - {"x-id", "fetch-owner"}:
        context = {f"s3:{name}": request.query[name] for name in ("prefix", "delimiter", "max-keys") if name in request.query}
        return [Call("s3:ListBucket", arn, context)]
    if request.method == "GET" and "uploads" in request.query:
        return [Call("s3:ListBucketMultipartUploads", arn)]
    return [Call(f"s3:{request.method} ?{'&'.join(request.query)}", arn)]


def s3_object(request: Request, bucket: str, key: str) -> list[Call]:
    arn = f"arn:aws:s3:::{bucket}/{key}"
    upload, version = "uploadId" in request.query, "versionId" in request.query
    subresource = next(
        (name for name in ("tagging", "acl", "attributes", "retention", "legal-hold") if name in request.query), None
    )
    if subresource:
        return [Call(f"s3:{request.method} ?{subresource}", arn)]
    match request.method:
        case "GET" | "HEAD" if not upload:
            return [Call("s3:GetObjectVersion" if version else "s3:GetObject", arn)]
        case "GET":
            return [Call("s3:ListMultipartUploadParts", arn)]
        case "PUT" | "POST":
            copied = [Call("s3:GetObject", f"arn:aws:s3:::{request.copy_source}")] if request.copy_source else []
            return [Call("s3:PutObject", arn), *copied]
        case "DELETE" if upload:
            return [Call("s3:AbortMultipartUpload", arn)]
        case "DELETE":
            return [Call("s3:DeleteObjectVersion" if version else "s3:DeleteObject", arn)]
    return [Call(f"s3:{request.method}", arn)]


def listings_of(call: Call) -> list[Call]:
    """Returns the calls of which one must be allowed before S3 reports an object as missing: the listing of its key."""
    bucket, _, key = call.resource.partition("/")
    return [Call("s3:ListBucket", bucket, {"s3:prefix": key}), Call("s3:ListBucket", bucket)]


def glue(request: Request) -> list[Call]:
    """Returns the calls of a request to Glue, which checks permissions on the catalog, the database and the table."""
    parameters = request.json()
    resources = ["catalog"]
    database = parameters.get("DatabaseName") or parameters.get("DatabaseInput", {}).get("Name")
    if "Database" in request.target and "Name" in parameters:
        database = parameters["Name"]
    if database:
        resources.append(f"database/{database}")
        table = parameters.get("TableName") or parameters.get("TableInput", {}).get("Name")
        if request.target == "GetTables":
            resources.append(f"table/{database}/*")
        elif "Table" in request.target or "Partition" in request.target:
            resources.append(f"table/{database}/{table or parameters.get('Name', '*')}")
    return [Call(f"glue:{request.target}", request.arn("glue", resource)) for resource in resources]


def secretsmanager(request: Request) -> list[Call]:
    from moto.secretsmanager.models import secretsmanager_backends

    name = request.json().get("SecretId", "*")
    secrets = secretsmanager_backends[request.account][request.region].secrets
    known = next((secret.arn for secret in secrets.values() if name in (secret.arn, secret.name)), None)
    return [Call(f"secretsmanager:{request.target}", known or request.arn("secretsmanager", f"secret:{name}"))]


def states(request: Request) -> list[Call]:
    parameters = request.json()
    names = ("stateMachineArn", "executionArn", "mapRunArn", "activityArn")
    return [Call(f"states:{request.target}", next((parameters[name] for name in names if name in parameters), "*"))]


def sns(request: Request) -> list[Call]:
    parameters = request.form()
    return [Call(f"sns:{parameters.get('Action') or request.target}", parameters.get("TopicArn") or parameters.get("TargetArn", "*"))]


def logs(request: Request) -> list[Call]:
    parameters = request.json()
    group = parameters.get("logGroupName") or parameters.get("logGroupIdentifier", "*").split(":log-group:")[-1]
    stream = parameters.get("logStreamName")
    resource = (
        f"log-group:{group}:log-stream:{stream}" if stream and request.target == "PutLogEvents" else f"log-group:{group}:*"
    )
    return [Call(f"logs:{request.target}", request.arn("logs", resource))]


def lambda_(request: Request) -> list[Call]:
    path = unquote(request.path)
    if function := function_urls.function_of(request.host):
        return [Call(f"lambda:{action}", f"{function.function_arn}:live") for action in ("InvokeFunctionUrl", "InvokeFunction")]
    invoked = re.fullmatch(r"/2015-03-31/functions/(.+)/invocations", path)
    if not invoked:
        return [Call(f"lambda:{request.method} {path}", "*")]
    name, qualifier = invoked[1], request.query.get("Qualifier")
    arn = name if name.startswith("arn:") else request.arn("lambda", f"function:{name}")
    return [Call("lambda:InvokeFunction", f"{arn}:{qualifier}" if qualifier else arn)]


def sts(request: Request) -> list[Call]:
    parameters = request.form()
    return [Call(f"sts:{parameters.get('Action')}", parameters.get("RoleArn", "*"))]


SERVICES = {
    "s3": s3,
    "glue": glue,
    "secretsmanager": secretsmanager,
    "states": states,
    "sns": sns,
    "logs": logs,
    "lambda": lambda_,
    "sts": sts,
}
