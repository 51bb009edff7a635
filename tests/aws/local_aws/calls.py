"""What a request to AWS wants to do, in the words of IAM: its actions, their resources and condition keys.

Services that the functions and the state machine call are known down to the resource. Of any other the action is known but
not the resource, so that only a policy for `*` allows it.
"""

import json
import re
from urllib.parse import parse_qs, unquote
from xml.etree import ElementTree

from .policies import Call

CREDENTIAL = re.compile(r"Credential=([^/]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")


class Request:
    """A request as it arrives: method, path, query, headers and, where it matters, the body."""

    def __init__(self, environ: dict, account: str, body: bytes):
        self.method = environ["REQUEST_METHOD"]
        self.path = environ.get("RAW_URI", environ["PATH_INFO"]).split("?")[0]
        self.query = {
            key: values[0] for key, values in parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True).items()
        }
        self.target = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        self.copied = unquote(environ.get("HTTP_X_AMZ_COPY_SOURCE", "")).lstrip("/")
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
    """The calls that a request makes; all of them have to be allowed."""
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
            copied = [Call("s3:GetObject", f"arn:aws:s3:::{request.copied}")] if request.copied else []
            return [Call("s3:PutObject", arn), *copied]
        case "DELETE" if upload:
            return [Call("s3:AbortMultipartUpload", arn)]
        case "DELETE":
            return [Call("s3:DeleteObjectVersion" if version else "s3:DeleteObject", arn)]
    return [Call(f"s3:{request.method}", arn)]


def listings_of(call: Call) -> list[Call]:
    """What S3 may ask before it says that an object is missing: whether the caller may list its name."""
    bucket, _, key = call.resource.partition("/")
    return [Call("s3:ListBucket", bucket, {"s3:prefix": key}), Call("s3:ListBucket", bucket)]


def glue(request: Request) -> list[Call]:
    """Glue asks for the catalog, the database and the table of what a call touches."""
    asked = request.json()
    resources = ["catalog"]
    database = asked.get("DatabaseName") or asked.get("DatabaseInput", {}).get("Name")
    if "Database" in request.target and "Name" in asked:
        database = asked["Name"]
    if database:
        resources.append(f"database/{database}")
        table = asked.get("TableName") or asked.get("TableInput", {}).get("Name")
        if request.target == "GetTables":
            resources.append(f"table/{database}/*")
        elif "Table" in request.target or "Partition" in request.target:
            resources.append(f"table/{database}/{table or asked.get('Name', '*')}")
    return [Call(f"glue:{request.target}", request.arn("glue", resource)) for resource in resources]


def secretsmanager(request: Request) -> list[Call]:
    from moto.secretsmanager.models import secretsmanager_backends

    name = request.json().get("SecretId", "*")
    secrets = secretsmanager_backends[request.account][request.region].secrets
    known = next((secret.arn for secret in secrets.values() if name in (secret.arn, secret.name)), None)
    return [Call(f"secretsmanager:{request.target}", known or request.arn("secretsmanager", f"secret:{name}"))]


def states(request: Request) -> list[Call]:
    asked = request.json()
    names = ("stateMachineArn", "executionArn", "mapRunArn", "activityArn")
    return [Call(f"states:{request.target}", next((asked[name] for name in names if name in asked), "*"))]


def sns(request: Request) -> list[Call]:
    asked = request.form()
    return [Call(f"sns:{asked.get('Action') or request.target}", asked.get("TopicArn") or asked.get("TargetArn", "*"))]


def logs(request: Request) -> list[Call]:
    asked = request.json()
    group = asked.get("logGroupName") or asked.get("logGroupIdentifier", "*").split(":log-group:")[-1]
    stream = asked.get("logStreamName")
    resource = (
        f"log-group:{group}:log-stream:{stream}" if stream and request.target == "PutLogEvents" else f"log-group:{group}:*"
    )
    return [Call(f"logs:{request.target}", request.arn("logs", resource))]


def lambda_(request: Request) -> list[Call]:
    path = unquote(request.path)
    invoked = re.fullmatch(r"/2015-03-31/functions/(.+)/invocations", path)
    if not invoked:
        return [Call(f"lambda:{request.method} {path}", "*")]
    name, qualifier = invoked[1], request.query.get("Qualifier")
    arn = name if name.startswith("arn:") else request.arn("lambda", f"function:{name}")
    return [Call("lambda:InvokeFunction", f"{arn}:{qualifier}" if qualifier else arn)]


def sts(request: Request) -> list[Call]:
    asked = request.form()
    return [Call(f"sts:{asked.get('Action')}", asked.get("RoleArn", "*"))]


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
