"""Corrects the behaviour of moto's services that have no module here."""

import json
import re

from moto.athena.models import AthenaBackend
from moto.athena.responses import AthenaResponse


def install() -> None:
    list_athena_tags()
    delete_named_queries()
    enforce_output_locations()


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


# The place of the result in CREATE TABLE … WITH (…, external_location = '…', …) AS ….
EXTERNAL_LOCATION = re.compile(r"\s*CREATE\s+TABLE\s.*?\sWITH\s*\([^)]*\bexternal_location\s*=", re.IGNORECASE | re.DOTALL)


def enforce_output_locations() -> None:
    """Refuses a query that says where its table goes, in a workgroup that enforces where results go."""
    original = AthenaResponse.start_query_execution

    def start_query_execution(self):
        group = self.athena_backend.work_groups.get(self._get_param("WorkGroup") or "primary")
        # AWS enforces the configuration of a workgroup that says nothing of it.
        is_enforced = group is not None and group.name != "primary" and group.configuration.get("EnforceWorkGroupConfiguration", True)
        if is_enforced and EXTERNAL_LOCATION.match(self._get_param("QueryString")):
            message = (
                "The Create Table As Select query failed because it was submitted with an 'external_location' property to an Athena "
                "Workgroup that enforces a centralized output location for all queries. Please remove the 'external_location' "
                "property and resubmit the query."
            )
            return json.dumps({"__type": "InvalidRequestException", "Message": message}), {"status": 400}
        return original(self)

    AthenaResponse.start_query_execution = start_query_execution
