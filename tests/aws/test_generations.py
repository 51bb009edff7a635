"""Readers of Glue beside a run that makes a published day again see the old set or the new one, and never a set that
failed its checks."""

import contextlib
import hashlib
import io
import threading
from collections import Counter
from datetime import date, timedelta

import awswrangler as wr
import boto3
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from aws import REGION
from defi import days

FIRST = days()[0]
LAST = (date.fromisoformat(FIRST) + timedelta(days=2)).isoformat()
HEALTH = "analytics/features/wallet_health_daily/"
CHECKED = "analytics/features/checked/"
FEATURES = "analytics/features/defi_features/"
RUN = {"from": FIRST, "as_of": LAST}

# The time between two reads, in which the functions have the processor.
PAUSE_SECONDS = 0.1


@pytest.fixture(scope="module")
def published(deployment):
    """Returns the set that a run over an empty lake has published."""
    deployment.empty()
    execution = deployment.run(RUN)
    assert execution.status == "SUCCEEDED", execution
    return read(deployment)


def read(deployment) -> str:
    """Reads the set that Glue shows, as CSV."""
    session = boto3.Session(aws_access_key_id="administrator", aws_secret_access_key="administrator", region_name=REGION)
    wr.config.s3_endpoint_url = wr.config.glue_endpoint_url = deployment.aws.endpoint
    database = deployment.databases["analytics"]
    rows = wr.s3.read_parquet_table(table="defi_features", database=database, boto3_session=session)
    return rows.sort_values("wallet_address").to_csv(index=False)


class Poll:
    """Counts in the background the sets that readers see."""

    def __init__(self, deployment):
        self.deployment, self.ended, self.sets = deployment, threading.Event(), Counter()
        self.thread = threading.Thread(target=self.poll)

    def poll(self) -> None:
        while not self.ended.wait(PAUSE_SECONDS):
            self.sets[read(self.deployment)] += 1

    def __enter__(self) -> "Poll":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.ended.set()
        self.thread.join()


@contextlib.contextmanager
def changed_health(deployment, change, *, is_check_kept: bool = False):
    """Changes the collateral of the last day's wallet health and the record of its digest, and deletes the states and,
    unless it is to be kept, the record of the check, so that the next run builds other features. Restores the health at the
    end."""
    s3, bucket = deployment.client("s3"), deployment.bucket
    keys = sorted(key for key in deployment.versions() if key.startswith(HEALTH))
    original = s3.get_object(Bucket=bucket, Key=keys[-1])["Body"].read()
    table = pq.read_table(io.BytesIO(original))
    index = table.schema.get_field_index("collateral_eth")
    table = table.set_column(index, table.schema.field(index), change(table["collateral_eth"]))
    changed = io.BytesIO()
    pq.write_table(table, changed)
    delete_states(deployment, is_check_kept)
    put_recorded(deployment, keys[-1], changed.getvalue())
    yield
    put_recorded(deployment, keys[-1], original)
    delete_states(deployment)


def put_recorded(deployment, key: str, body: bytes) -> None:
    """Writes an object and the record that a step wrote it."""
    for name, content in ((f"digests/{key}.{hashlib.sha256(body).hexdigest()}", b""), (key, body)):
        deployment.client("s3").put_object(Bucket=deployment.bucket, Key=name, Body=content)


def delete_states(deployment, is_check_kept: bool = False) -> None:
    """Deletes the states and the records of the check, with the records of their digests: what is left of those would count
    as the rest of an interrupted publication."""
    deleted = ("state/fold/", "state/links/", *(() if is_check_kept else ("state/passed/",)))
    for key in deployment.versions():
        if key.removeprefix("digests/").startswith(deleted):
            deployment.client("s3").delete_object(Bucket=deployment.bucket, Key=key)


def test_readers_of_glue_beside_a_rebuild_see_one_set_or_the_other(deployment, published):
    with changed_health(deployment, lambda collateral: pc.multiply(collateral, 2.0)), Poll(deployment) as poll:
        execution = deployment.run(RUN)
        assert execution.status == "SUCCEEDED", execution
        new = read(deployment)
    assert new != published
    assert poll.sets.keys() <= {published, new} and poll.sets[published] > 2


def test_interrupted_publication_is_finished_although_the_features_can_not_be_published(deployment, published):
    assert deployment.run(RUN).status == "SUCCEEDED"
    glue, database = deployment.client("glue"), deployment.databases["analytics"]
    (copy,) = {key.rpartition("/")[0] for key in deployment.versions() if key.startswith(f"{CHECKED}as_of={LAST}/")}
    folder = [key for key in deployment.versions() if key.startswith(f"{FEATURES}as_of={LAST}/")]
    complete = {key: deployment.body(key) for key in folder}
    # As after an interruption: the catalog points to the checked copy, whose check is on record, and the folder of the
    # table is incomplete.
    for table in ("defi_features", "defi_features_history"):
        move(deployment, table, f"s3://{deployment.bucket}/{copy}/")
    deployment.client("s3").delete_object(Bucket=deployment.bucket, Key=folder[0])
    assert read(deployment) == published, "readers of the catalog see the whole set"
    not_a_number = lambda collateral: pa.chunked_array([pa.array([float("nan")] * len(collateral))])  # noqa: E731
    with changed_health(deployment, not_a_number, is_check_kept=True):
        execution = deployment.run(RUN)
        assert (execution.status, execution.error) == ("FAILED", "QualityFailed"), execution
    assert "Finish publication" in execution.states() and "publish-features" not in execution.states()
    assert {key: deployment.body(key) for key in folder} == complete
    location = glue.get_table(DatabaseName=database, Name="defi_features")["Table"]["StorageDescriptor"]["Location"]
    assert location == f"s3://{deployment.bucket}/{FEATURES}as_of={LAST}/"
    assert read(deployment) == published
    again = deployment.run(RUN)
    assert again.status == "SUCCEEDED" and "Finish publication" not in again.states()


def move(deployment, table: str, location: str) -> None:
    """Points a table, and its partition of the last day if it has partitions, to a location."""
    glue, named = deployment.client("glue"), {"DatabaseName": deployment.databases["analytics"]}
    found = glue.get_table(**named, Name=table)["Table"]
    if found["PartitionKeys"]:
        named["TableName"] = table
        storage = glue.get_partition(**named, PartitionValues=[LAST])["Partition"]["StorageDescriptor"]
        partition = {"Values": [LAST], "StorageDescriptor": {**storage, "Location": location}}
        glue.update_partition(**named, PartitionValueList=[LAST], PartitionInput=partition)
    else:
        kept = ("Name", "Description", "TableType", "Parameters", "PartitionKeys", "StorageDescriptor")
        entry = {field: found[field] for field in kept if field in found}
        entry["StorageDescriptor"] = {**entry["StorageDescriptor"], "Location": location}
        glue.update_table(**named, TableInput=entry)


def test_readers_of_glue_never_see_a_set_that_failed(deployment, published):
    assert deployment.run(RUN).status == "SUCCEEDED"
    assert read(deployment) == published, "the health was restored"
    not_a_number = lambda collateral: pa.chunked_array([pa.array([float("nan")] * len(collateral))])  # noqa: E731
    with changed_health(deployment, not_a_number), Poll(deployment) as poll:
        execution = deployment.run(RUN)
        assert (execution.status, execution.error) == ("FAILED", "QualityFailed"), execution
    assert poll.sets.keys() == {published} and poll.sets[published] > 2
    assert deployment.run(RUN).status == "SUCCEEDED"
    assert read(deployment) == published
