"""The state machine makes of the recording what `defi run` makes of it, object for object and byte for byte."""

import json
from datetime import date, timedelta

import awswrangler as wr
import boto3
import pytest

from aws import REGION
from defi import days

LARGEST_ANSWER = 8 * 1024
FIRST, LAST = days()


@pytest.fixture(scope="module")
def golden(deployment):
    """The execution that starts with nothing, and the calls that it made."""
    deployment.empty()
    already = len(deployment.calls())
    execution = deployment.run({"from": FIRST, "as_of": LAST})
    execution.calls = deployment.calls()[already:]
    assert execution.status == "SUCCEEDED", execution
    return execution


def test_it_goes_through_every_step_and_tells_of_its_success(deployment, golden):
    assert {call["function"] for call in golden.calls} == set(deployment.functions.values())
    (told,) = deployment.messages(golden)
    assert (told["attribute"], told["as_of"]) == ("succeeded", LAST)


def test_the_bucket_holds_what_a_local_run_writes(deployment, golden, folder_lake):
    ours, theirs = deployment.objects(), folder_lake.objects()
    assert sorted(ours) == sorted(theirs) and len(ours) > 400
    assert [key for key, body in ours.items() if body != theirs[key]] == []


def test_the_catalog_says_what_that_of_a_local_run_says(deployment, golden, folder_lake):
    ours, theirs = deployment.tables(), folder_lake.tables()
    assert ours.keys() == theirs.keys() and len(ours) == 25
    for name, table in ours.items():
        expected, storage = theirs[name], table["StorageDescriptor"]
        columns = [
            {"name": column["Name"], "type": column["Type"], "comment": column["Comment"]} for column in storage["Columns"]
        ]
        assert columns == expected["columns"], name
        assert [key["Name"] for key in table["PartitionKeys"]] == expected["partition_columns"], name
        assert storage["Location"] == f"s3://{deployment.bucket}/{expected['location']}/", name
        assert table["Parameters"].items() >= expected["parameters"].items(), name
        folders, found = folder_lake.partitions(name), deployment.partitions(name)
        assert found.keys() == folders.keys(), name
        for values, partition in found.items():
            assert partition["StorageDescriptor"]["Location"] == f"s3://{deployment.bucket}/{folders[values]}/", name
            assert partition["StorageDescriptor"]["Columns"] == storage["Columns"], name


def test_awswrangler_reads_every_table(deployment, golden, folder_lake):
    session = boto3.Session(aws_access_key_id="administrator", aws_secret_access_key="administrator", region_name=REGION)
    wr.config.s3_endpoint_url = wr.config.glue_endpoint_url = deployment.aws.endpoint
    tables = sorted(deployment.tables())
    counts = folder_lake.counts(tables)
    read = {}
    for table in tables:
        database, name = table.split(".")
        read[table] = len(wr.s3.read_parquet_table(table=name, database=database, boto3_session=session))
    assert read == counts and sum(counts.values()) > 10_000


def test_once_more_changes_nothing(deployment, golden):
    def everything():
        tables = deployment.tables()
        return deployment.versions(), tables, {name: deployment.partitions(name) for name in tables}

    before = everything()
    again = deployment.run({"from": FIRST, "as_of": LAST})
    assert again.status == "SUCCEEDED" and "Nothing to do" in again.states() and not deployment.messages(again)
    assert everything() == before


def test_force_makes_everything_again_and_finds_it_equal(deployment, golden):
    """Beside it no other run begins."""
    before = without_runs(deployment.versions())
    already = len(deployment.calls())
    forced = deployment.start({"from": days_before_last(1), "as_of": LAST, "force": True})
    late = deployment.run({"as_of": LAST, "from": FIRST})
    assert (late.status, late.error) == ("FAILED", "AlreadyRunning")
    (told,) = deployment.messages(late)
    assert (told["step"], told["error"]) == ("plan-run", "AlreadyRunning")
    forced = deployment.wait(forced)
    assert forced.status == "SUCCEEDED", forced
    called = {call["function"] for call in deployment.calls()[already:]}
    assert called == set(deployment.functions.values())
    assert without_runs(deployment.versions()) == before


def test_an_earlier_day_is_added_to_the_history_and_not_published(deployment, golden):
    """The published set never points back."""
    earlier = days_before_last(2)
    execution = deployment.run({"from": FIRST, "as_of": earlier})
    assert execution.status == "SUCCEEDED", execution
    assert deployment.published() == LAST
    history = f"{deployment.databases['analytics']}.defi_features_history"
    assert set(deployment.partitions(history)) == {(LAST,), (earlier,)}


def days_before_last(number: int) -> str:
    return (date.fromisoformat(LAST) - timedelta(days=number)).isoformat()


def without_runs(versions: dict) -> dict:
    return {key: version for key, version in versions.items() if not key.startswith("runs/")}


def test_alarms_and_dashboard_watch_what_the_functions_measure(deployment, golden):
    measured = set(metrics_in(deployment.logs()))
    alarms = deployment.client("cloudwatch").describe_alarms()["MetricAlarms"]
    watched = {
        (alarm["MetricName"], frozenset((dimension["Name"], dimension["Value"]) for dimension in alarm["Dimensions"]))
        for alarm in alarms
        if alarm["Namespace"] == "DefiFeatures"
    }
    assert watched and watched <= measured
    dashboard = deployment.client("cloudwatch").get_dashboard(DashboardName=dashboards(deployment)[0])["DashboardBody"]
    names = {name for name in json.dumps(json.loads(dashboard)).split('"') if name.isalpha()}
    assert {name for name, _ in measured} & names


def dashboards(deployment) -> list[str]:
    return [entry["DashboardName"] for entry in deployment.client("cloudwatch").list_dashboards()["DashboardEntries"]]


def metrics_in(logs: str):
    """The metrics in the embedded metric format: each with its dimensions."""
    for line in logs.splitlines():
        if not line.startswith("{") or '"_aws"' not in line:
            continue
        entry = json.loads(line)
        for group in entry["_aws"]["CloudWatchMetrics"]:
            assert group["Namespace"] == "DefiFeatures"
            for metric in group["Metrics"]:
                assert metric["Name"] in entry, line
                for names in group["Dimensions"]:
                    yield metric["Name"], frozenset((name, entry[name]) for name in names)


@pytest.mark.last
def test_answers_are_small(deployment):
    calls = deployment.calls()
    assert {call["function"] for call in calls} == set(deployment.functions.values())
    assert [call for call in calls if call["bytes"] >= LARGEST_ANSWER] == []
