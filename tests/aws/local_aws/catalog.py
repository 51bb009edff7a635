"""Corrects the behaviour of moto's Glue."""

from moto.core.responses import ActionResult
from moto.glue.exceptions import GlueClientError
from moto.glue.responses import GlueResponse

MAX_PAGE_SIZE = 1000
MAX_BATCH_SIZE = 100


def install() -> None:
    page_partitions()
    limit_batches()
    guard_table_versions()


class InvalidInput(GlueClientError):
    def __init__(self, message: str):
        super().__init__("InvalidInputException", message)


class ConcurrentModification(GlueClientError):
    def __init__(self):
        super().__init__("ConcurrentModificationException", "Update table failed due to concurrent modifications.")


def page_partitions() -> None:
    """Pages partitions and supports ExcludeColumnSchema. moto returns all partitions at once, with their columns."""

    def get_partitions(self):
        parameters = self.parameters
        found = self.glue_backend.get_partitions(parameters["DatabaseName"], parameters["TableName"], parameters.get("Expression"))
        start = int(parameters.get("NextToken") or 0)
        end = start + (parameters.get("MaxResults") or MAX_PAGE_SIZE)
        page = [partition.as_dict() for partition in found[start:end]]
        if parameters.get("ExcludeColumnSchema"):
            page = [without_columns(partition) for partition in page]
        token = {"NextToken": str(end)} if end < len(found) else {}
        return ActionResult({"Partitions": page, **token})

    GlueResponse.get_partitions = get_partitions


def without_columns(partition: dict) -> dict:
    storage = {name: value for name, value in partition.get("StorageDescriptor", {}).items() if name != "Columns"}
    return {**partition, "StorageDescriptor": storage}


def limit_batches() -> None:
    """Limits the number of partitions in one batch, which moto does not."""
    original = GlueResponse.batch_create_partition

    def batch_create_partition(self):
        if len(self.parameters["PartitionInputList"]) > MAX_BATCH_SIZE:
            raise InvalidInput(f"partitionInputList: Member must have length less than or equal to {MAX_BATCH_SIZE}")
        return original(self)

    GlueResponse.batch_create_partition = batch_create_partition


def guard_table_versions() -> None:
    """Supports VersionId and SkipArchive of UpdateTable, which moto ignores."""
    original = GlueResponse.update_table

    def update_table(self):
        parameters = self.parameters
        table = self.glue_backend.get_table(parameters["DatabaseName"], parameters["TableInput"]["Name"])
        before = str(table._current_version)
        if parameters.get("VersionId") and parameters["VersionId"] != before:
            raise ConcurrentModification
        response = original(self)
        if parameters.get("SkipArchive"):
            table.versions.pop(before, None)
        return response

    GlueResponse.update_table = update_table
