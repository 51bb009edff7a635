"""What moto's Glue lacks or does otherwise than Glue."""

from moto.core.responses import ActionResult
from moto.glue.exceptions import GlueClientError
from moto.glue.responses import GlueResponse

LARGEST_PAGE = 1000
LARGEST_BATCH = 100


def install() -> None:
    page_partitions()
    bound_batches()
    guard_table_versions()


class InvalidInput(GlueClientError):
    def __init__(self, message: str):
        super().__init__("InvalidInputException", message)


class ConcurrentModification(GlueClientError):
    def __init__(self):
        super().__init__("ConcurrentModificationException", "Update table failed due to concurrent modifications.")


def page_partitions() -> None:
    """moto gives all partitions at once, with their columns whatever was asked."""

    def get_partitions(self):
        asked = self.parameters
        found = self.glue_backend.get_partitions(asked["DatabaseName"], asked["TableName"], asked.get("Expression"))
        start = int(asked.get("NextToken") or 0)
        end = start + (asked.get("MaxResults") or LARGEST_PAGE)
        page = [partition.as_dict() for partition in found[start:end]]
        if asked.get("ExcludeColumnSchema"):
            page = [without_columns(partition) for partition in page]
        token = {"NextToken": str(end)} if end < len(found) else {}
        return ActionResult({"Partitions": page, **token})

    GlueResponse.get_partitions = get_partitions


def without_columns(partition: dict) -> dict:
    storage = {name: value for name, value in partition.get("StorageDescriptor", {}).items() if name != "Columns"}
    return {**partition, "StorageDescriptor": storage}


def bound_batches() -> None:
    """moto takes any number of partitions at once."""
    original = GlueResponse.batch_create_partition

    def batch_create_partition(self):
        if len(self.parameters["PartitionInputList"]) > LARGEST_BATCH:
            raise InvalidInput(f"partitionInputList: Member must have length less than or equal to {LARGEST_BATCH}")
        return original(self)

    GlueResponse.batch_create_partition = batch_create_partition


def guard_table_versions() -> None:
    """moto heeds neither the version that an update builds upon nor the wish to keep no old one."""
    original = GlueResponse.update_table

    def update_table(self):
        asked = self.parameters
        table = self.glue_backend.get_table(asked["DatabaseName"], asked["TableInput"]["Name"])
        before = str(table._current_version)
        if asked.get("VersionId") and asked["VersionId"] != before:
            raise ConcurrentModification
        answer = original(self)
        if asked.get("SkipArchive"):
            table.versions.pop(before, None)
        return answer

    GlueResponse.update_table = update_table
