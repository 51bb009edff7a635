"""Corrects the behaviour of moto's services that have no module here."""

import json

from moto.athena.models import AthenaBackend
from moto.athena.responses import AthenaResponse


def install() -> None:
    list_athena_tags()
    delete_named_queries()


def list_athena_tags() -> None:
    """Returns no tags for a resource without tags, for which moto fails."""
    original = AthenaBackend.list_tags_for_resource
    AthenaBackend.list_tags_for_resource = lambda self, resource_arn: original(self, resource_arn) or {"Tags": []}


def delete_named_queries() -> None:
    """Supports the deletion of named queries, and returns an error for a missing one."""

    def delete_named_query(self):
        self.athena_backend.named_queries.pop(self._get_param("NamedQueryId"), None)
        return "{}"

    original = AthenaResponse.get_named_query

    def get_named_query(self):
        query = self._get_param("NamedQueryId")
        if query in self.athena_backend.named_queries:
            return original(self)
        error = {"__type": "InvalidRequestException", "Message": f"NamedQuery {query} was not found"}
        return json.dumps(error), {"status": 400}

    AthenaResponse.delete_named_query = delete_named_query
    AthenaResponse.get_named_query = get_named_query
