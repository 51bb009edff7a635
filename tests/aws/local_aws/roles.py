"""Whoever calls with a role's credentials is held to that role's policies: action, resource and conditions.

moto's own check knows neither resources nor conditions outside S3, and asks everyone or no one. Here only sessions of roles are
asked; any other key is the administrator that Terraform and the tests are.
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
from .policies import Call, allowed, trusts

SESSION_SECONDS = 12 * 3600
lock = threading.Lock()


class Refused(Exception):
    """A role does not allow what was asked."""

    def __init__(self, session: "Session", call: Call):
        super().__init__(
            f"User: {session.arn} is not authorized to perform: {call.action} on resource: {call.resource} "
            f"because no identity-based policy allows the {call.action} action"
        )


class NotTrusted(Exception):
    """A role does not let a service assume it."""


@dataclass(frozen=True)
class Session:
    """A role that someone has assumed."""

    arn: str
    role_arn: str

    def require(self, call: Call) -> None:
        if not self.allows(call):
            raise Refused(self, call)

    def allows(self, call: Call) -> bool:
        # Every call arrives as if over TLS.
        context = {"aws:SecureTransport": "true", "aws:PrincipalArn": self.role_arn, **call.context}
        return allowed(self.policies(), Call(call.action, call.resource, context))

    def policies(self) -> list[str]:
        """The role's policies as they are now: its own, and those attached to it."""
        role = role_of(self.role_arn)
        attached = [policy.document for policy in role.managed_policies.values()]
        return [*role.policies.values(), *attached]


def role_of(role_arn: str):
    return iam_backends[ACCOUNT]["aws"].get_role_by_arn(role_arn)


def assume(role_arn: str, service: str, name: str, source_arn: str, region: str):
    """The credentials of a role that an AWS service assumes for a resource, if the role trusts it to."""
    context = {"aws:SourceAccount": ACCOUNT, "aws:SourceArn": source_arn}
    if not trusts(json.dumps(trust_policy(role_arn)), service, context):
        raise NotTrusted(f"{role_arn} does not let {service} assume it for {source_arn}")
    with lock:
        return sts_backends[ACCOUNT]["aws"].assume_role(region, name, role_arn, "", SESSION_SECONDS, "")


def trust_policy(role_arn: str) -> dict:
    document = role_of(role_arn).assume_role_policy_document
    return json.loads(document) if isinstance(document, str) else document


def session_of(key: str, token: str) -> Session | None:
    """Who a key belongs to: a role's session, or None for the administrator."""
    if not key.startswith("ASIA"):
        return None
    assumed = sts_backends[ACCOUNT]["aws"].get_assumed_role_from_access_key(key)
    if assumed is None or assumed.session_token != token:
        raise LookupError("The security token included in the request is invalid")
    return Session(assumed.arn, assumed.role_arn)


class Gate:
    """The check in front of the server."""

    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        request = Request(environ, ACCOUNT, b"")
        try:
            session = session_of(request.key, environ.get("HTTP_X_AMZ_SECURITY_TOKEN", ""))
            if session:
                request.body = body_of(environ, request)
                self.check(session, request)
        except (Refused, LookupError) as refusal:
            return refuse(environ, start_response, request, refusal)
        return self.app(environ, start_response)

    def check(self, session: Session, request: Request) -> None:
        calls = calls_of(request)
        for call in calls:
            if call.action != "sts:GetCallerIdentity":
                session.require(call)
        # Who may not list a name is not told that there is nothing behind it. Whether the name then counts as s3:prefix is not
        # documented: a role has to allow it either way.
        if calls[0].action == "s3:GetObject" and not exists(calls[0].resource):
            for call in listings_of(calls[0]):
                session.require(call)


def exists(object_arn: str) -> bool:
    bucket, _, key = object_arn.removeprefix("arn:aws:s3:::").partition("/")
    found = s3_backends[ACCOUNT]["aws"].buckets.get(bucket)
    return found is None or key in found.keys


def body_of(environ: dict, request: Request) -> bytes:
    """The body, where it says what is asked; it is put back for the server. That of an object is left alone."""
    if request.service == "s3" and "delete" not in request.query:
        return b""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def refuse(environ: dict, start_response, request: Request, refusal: Exception) -> list[bytes]:
    """A refusal in the form in which the service says it."""
    code = "AccessDenied" if isinstance(refusal, Refused) else "InvalidClientTokenId"
    if request.service in ("s3", "sts", "sns", "iam"):
        status, kind = "403 Forbidden", "application/xml"
        code = "AuthorizationError" if request.service == "sns" else code
        error = f"<Error><Code>{code}</Code><Message>{escape(str(refusal))}</Message></Error>"
        body = error if request.service == "s3" else f"<ErrorResponse>{error}</ErrorResponse>"
    else:
        status = "403 Forbidden" if request.service == "lambda" else "400 Bad Request"
        kind, code = "application/x-amz-json-1.1", f"{code}Exception"
        body = json.dumps({"__type": code, "message": str(refusal), "Message": str(refusal)})
    body = b"" if environ["REQUEST_METHOD"] == "HEAD" else body.encode()
    headers = {"Content-Type": kind, "Content-Length": len(body), "x-amzn-ErrorType": code, "x-amzn-RequestId": uuid.uuid4()}
    start_response(status, [(name, str(value)) for name, value in headers.items()])
    return [body]
