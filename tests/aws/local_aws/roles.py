"""Checks requests with a role's credentials against the role's policies, and all requests to a bucket against the
bucket's policy: action, resource and conditions.

moto's own check supports neither resources nor conditions outside S3, and applies to all requests or to none. Here the
policies of roles apply to their sessions. All other keys belong to the administrator, as whom Terraform and the tests
act.
"""

import io
import json
import threading
import uuid
from dataclasses import dataclass
from xml.sax.saxutils import escape

from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.iam.models import iam_backends
from moto.s3.models import s3_backends
from moto.sts.models import sts_backends

from .calls import Request, calls_of, listings_of
from .policies import Call, allowed, denied, trusts

SESSION_SECONDS = 12 * 3600
ADMINISTRATOR = f"arn:aws:iam::{ACCOUNT}:user/administrator"
lock = threading.Lock()


class AccessDenied(Exception):
    """Policies do not allow a call."""

    def __init__(self, arn: str, call: Call, reason: str):
        super().__init__(
            f"User: {arn} is not authorized to perform: {call.action} on resource: {call.resource} because {reason}"
        )


class NotTrusted(Exception):
    """The trust policy of a role does not allow a service to assume it."""


@dataclass(frozen=True)
class Session:
    """The session of an assumed role."""

    arn: str
    role_arn: str

    def require(self, call: Call) -> None:
        if not self.allows(call):
            raise AccessDenied(self.arn, call, f"no identity-based policy allows the {call.action} action")

    def allows(self, call: Call) -> bool:
        # All calls are considered to use TLS.
        context = {"aws:SecureTransport": "true", "aws:PrincipalArn": self.role_arn, **call.context}
        return allowed(self.policies(), Call(call.action, call.resource, context))

    def policies(self) -> list[str]:
        """Returns the current inline and attached policies of the role."""
        role = role_of(self.role_arn)
        attached = [policy.document for policy in role.managed_policies.values()]
        return [*role.policies.values(), *attached]


def role_of(role_arn: str):
    return iam_backends[ACCOUNT]["aws"].get_role_by_arn(role_arn)


def assume(role_arn: str, service: str, name: str, source_arn: str, region: str):
    """Returns the credentials of a role that an AWS service assumes for a resource, if the role trusts the service."""
    context = {"aws:SourceAccount": ACCOUNT, "aws:SourceArn": source_arn}
    if not trusts(json.dumps(trust_policy(role_arn)), service, context):
        raise NotTrusted(f"{role_arn} does not let {service} assume it for {source_arn}")
    with lock:
        return sts_backends[ACCOUNT]["aws"].assume_role(region, name, role_arn, "", SESSION_SECONDS, "")


def trust_policy(role_arn: str) -> dict:
    document = role_of(role_arn).assume_role_policy_document
    return json.loads(document) if isinstance(document, str) else document


def session_of(key: str, token: str) -> Session | None:
    """Returns the session of a role that a key belongs to, or None for the administrator."""
    if not key.startswith("ASIA"):
        return None
    assumed = sts_backends[ACCOUNT]["aws"].get_assumed_role_from_access_key(key)
    if assumed is None or assumed.session_token != token:
        raise LookupError("The security token included in the request is invalid")
    return Session(assumed.arn, assumed.role_arn)


class Gate:
    """The WSGI middleware that checks requests before the server handles them."""

    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        request = Request(environ, ACCOUNT, b"")
        try:
            session = session_of(request.key, environ.get("HTTP_X_AMZ_SECURITY_TOKEN", ""))
            if session:
                request.body = body_of(environ, request)
                self.check(session, request)
            if request.service == "s3":
                request.body = request.body or body_of(environ, request)
                check_bucket_policies(session.role_arn if session else ADMINISTRATOR, request)
        except (AccessDenied, LookupError) as error:
            return error_response(environ, start_response, request, error)
        return self.app(environ, start_response)

    def check(self, session: Session, request: Request) -> None:
        calls = calls_of(request)
        for call in calls:
            if call.action != "sts:GetCallerIdentity":
                session.require(call)
        # Without the permission to list an object, a caller must not learn that it is missing. AWS does not document
        # whether s3:prefix is then the key or missing, so that a role must allow both.
        if calls[0].action == "s3:GetObject" and not exists(calls[0].resource):
            for call in listings_of(calls[0]):
                session.require(call)


def check_bucket_policies(principal: str, request: Request) -> None:
    """Raises an error if the policy of a bucket denies a call. All calls are considered to use TLS."""
    for call in calls_of(request):
        bucket = s3_backends[ACCOUNT]["aws"].buckets.get(call.resource.removeprefix("arn:aws:s3:::").partition("/")[0])
        context = {"aws:SecureTransport": "true", "aws:PrincipalArn": principal, **call.context}
        if bucket and bucket.policy and denied(bucket.policy.decode(), Call(call.action, call.resource, context)):
            raise AccessDenied(principal, call, "of an explicit deny in a resource-based policy")


def exists(object_arn: str) -> bool:
    bucket, _, key = object_arn.removeprefix("arn:aws:s3:::").partition("/")
    found = s3_backends[ACCOUNT]["aws"].buckets.get(bucket)
    return found is None or key in found.keys


def body_of(environ: dict, request: Request) -> bytes:
    """Reads the body if the calls of the request depend on it, and restores it for the server. Skips the bodies of
    objects."""
    if request.service == "s3" and "delete" not in request.query:
        return b""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def error_response(environ: dict, start_response, request: Request, error: Exception) -> list[bytes]:
    """Sends an error in the format of the service."""
    code = "AccessDenied" if isinstance(error, AccessDenied) else "InvalidClientTokenId"
    if request.service in ("s3", "sts", "sns", "iam"):
        status, kind = "403 Forbidden", "application/xml"
        if request.service == "s3" and not isinstance(error, AccessDenied):
            status, code = "400 Bad Request", "InvalidToken"
        code = "AuthorizationError" if request.service == "sns" else code
        xml = f"<Error><Code>{code}</Code><Message>{escape(str(error))}</Message></Error>"
        body = xml if request.service == "s3" else f"<ErrorResponse>{xml}</ErrorResponse>"
    else:
        status = "403 Forbidden" if request.service == "lambda" else "400 Bad Request"
        kind, code = "application/x-amz-json-1.1", f"{code}Exception"
        body = json.dumps({"__type": code, "message": str(error), "Message": str(error)})
    body = b"" if environ["REQUEST_METHOD"] == "HEAD" else body.encode()
    headers = {"Content-Type": kind, "Content-Length": len(body), "x-amzn-RequestId": uuid.uuid4()}
    # The code of an error of S3 is only in its body, and the response to a HEAD has none.
    if request.service != "s3":
        headers["x-amzn-ErrorType"] = code
    start_response(status, [(name, str(value)) for name, value in headers.items()])
    return [body]
