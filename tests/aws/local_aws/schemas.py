"""EventBridge Schemas, which moto lacks: registries and schemas, as far as shareable test events need them."""

import json
from datetime import UTC, datetime

from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from .calls import CREDENTIAL

ROUTES = Map(
    [
        Rule("/v1/registries/name/<registry>", endpoint="registry"),
        Rule("/v1/registries/name/<registry>/schemas/name/<schema>", endpoint="schema"),
        Rule("/tags/<path:arn>", endpoint="tags"),
    ]
)


class ApiError(Exception):
    """An error response of the API."""

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.code = status, code


class Schemas:
    """The service as a WSGI application. Stores the descriptions of registries and schemas, and tags by ARN."""

    def __init__(self):
        self.resources: dict[tuple[str, ...], dict] = {}
        self.tags: dict[str, dict[str, str]] = {}

    def __call__(self, environ, start_response):
        request = Request(environ)
        try:
            endpoint, names = ROUTES.bind_to_environ(environ).match()
            status, response = 200, getattr(self, f"{endpoint}_{request.method.lower()}")(request, **names)
        except ApiError as error:
            status, response = error.status, {"Code": error.code, "Message": str(error)}
        except (HTTPException, AttributeError):
            status, response = 404, {"Code": "UnknownOperation", "Message": f"{request.method} {request.path}"}
        kind = {"x-amzn-ErrorType": response["Code"]} if status >= 400 else {}
        return Response(json.dumps(response), status, kind, mimetype="application/json")(environ, start_response)

    def registry_post(self, request: Request, registry: str) -> dict:
        return self.create(request, (registry,), f"registry/{registry}", {"RegistryName": registry})

    def registry_get(self, request: Request, registry: str) -> dict:
        return self.described((registry,))

    def registry_put(self, request: Request, registry: str) -> dict:
        return self.update(request, (registry,))

    def registry_delete(self, request: Request, registry: str) -> dict:
        if any(len(key) == 2 and key[0] == registry for key in self.resources):
            raise ApiError(400, "BadRequestException", f"registry {registry} still has schemas")
        return self.delete((registry,))

    def schema_post(self, request: Request, registry: str, schema: str) -> dict:
        self.described((registry,))
        return self.create(request, (registry, schema), f"schema/{registry}/{schema}", {"SchemaName": schema})

    def schema_get(self, request: Request, registry: str, schema: str) -> dict:
        return self.described((registry, schema))

    def schema_put(self, request: Request, registry: str, schema: str) -> dict:
        described = self.update(request, (registry, schema))
        described["SchemaVersion"] = str(int(described["SchemaVersion"]) + 1)
        return described

    def schema_delete(self, request: Request, registry: str, schema: str) -> dict:
        return self.delete((registry, schema))

    def tags_get(self, request: Request, arn: str) -> dict:
        return {"tags": self.tags.get(arn, {})}

    def tags_post(self, request: Request, arn: str) -> dict:
        self.tags.setdefault(arn, {}).update(request.get_json()["tags"])
        return {}

    def tags_delete(self, request: Request, arn: str) -> dict:
        for key in request.args.getlist("tagKeys"):
            self.tags.get(arn, {}).pop(key, None)
        return {}

    def create(self, request: Request, key: tuple[str, ...], resource: str, names: dict) -> dict:
        if key in self.resources:
            raise ApiError(409, "ConflictException", f"{'/'.join(key)} exists already")
        body = request.get_json()
        region = CREDENTIAL.search(request.headers["Authorization"])[2]
        kind = "Registry" if len(key) == 1 else "Schema"
        arn = f"arn:aws:schemas:{region}:{ACCOUNT}:{resource}"
        self.tags[arn] = body.pop("tags", None) or {}
        described = {f"{kind}Arn": arn, **names, **body, "tags": self.tags[arn]}
        if kind == "Schema":
            described |= {"SchemaVersion": "1", "VersionCreatedDate": now(), "LastModified": now()}
            check(described)
        self.resources[key] = described
        return described

    def described(self, key: tuple[str, ...]) -> dict:
        if key not in self.resources:
            raise ApiError(404, "NotFoundException", f"{'/'.join(key)} does not exist")
        return self.resources[key]

    def update(self, request: Request, key: tuple[str, ...]) -> dict:
        described = self.described(key)
        described |= {name: value for name, value in request.get_json().items() if name != "ClientTokenId"}
        if len(key) == 2:
            described["LastModified"] = now()
            check(described)
        return described

    def delete(self, key: tuple[str, ...]) -> dict:
        self.described(key)
        del self.resources[key]
        return {}


def check(schema: dict) -> None:
    """Checks that the content of a schema is a document of its type."""
    try:
        document = json.loads(schema["Content"])
    except ValueError as cause:
        raise ApiError(400, "BadRequestException", f"the content is not JSON: {cause}") from cause
    marker = {"OpenApi3": "openapi", "JSONSchemaDraft4": "$schema"}[schema["Type"]]
    if marker not in document:
        raise ApiError(400, "BadRequestException", f"the content is not a valid {schema['Type']} document")


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
