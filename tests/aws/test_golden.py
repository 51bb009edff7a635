"""The state machine produces the same lake from the recording as `defi run`, object by object and byte by byte."""

import base64
import json
import re
from datetime import date, timedelta

import awswrangler as wr
import boto3
import pytest

from aws import REGION
from defi import days
from deployment import assert_equal_catalogs
from packages import STEPS

MAX_RESPONSE_BYTES = 8 * 1024
FIRST, LAST = days()


@pytest.fixture(scope="module")
def golden(deployment):
    """Returns an execution that started with an empty lake, with the calls that it made."""
    deployment.empty()
    already = len(deployment.calls())
    execution = deployment.run({"from": FIRST, "as_of": LAST})
    execution.calls = deployment.calls()[already:]
    assert execution.status == "SUCCEEDED", execution
    return execution


def test_run_calls_every_step_and_reports_success(deployment, golden):
    assert {call["function"] for call in golden.calls} == of_the_apis(deployment)
    (message,) = deployment.messages(golden)
    assert (message["attribute"], message["as_of"]) == ("succeeded", LAST)


def of_the_apis(deployment) -> set[str]:
    """The functions that a run over the two APIs calls."""
    return {deployment.functions[step] for step in STEPS if step != "extract-logs"}


def test_bucket_has_the_objects_of_a_local_run(deployment, golden, folder_lake):
    ours, theirs = deployment.objects(), folder_lake.objects()
    assert sorted(ours) == sorted(theirs) and len(ours) > 400
    assert [key for key, body in ours.items() if body != theirs[key]] == []


def test_catalog_equals_that_of_a_local_run(deployment, golden, folder_lake):
    assert_equal_catalogs(deployment, folder_lake)
    assert len(deployment.tables()) == 25


def test_view_is_stored_as_athena_stores_its_own(deployment, golden, folder_lake):
    (view,) = (entry for entry in deployment.catalog().values() if entry["TableType"] == "VIRTUAL_VIEW")
    assert (view["Name"], view["DatabaseName"]) == ("lending_events", deployment.databases["analytics"])
    assert (view["Parameters"], view["ViewExpandedText"]) == ({"presto_view": "true"}, "/* Presto View */")
    encoded = re.fullmatch(r"/\* Presto View: (\S+) \*/", view["ViewOriginalText"])[1]
    definition = json.loads(base64.b64decode(encoded, validate=True))
    assert (definition["catalog"], definition["schema"]) == ("awsdatacatalog", view["DatabaseName"])
    names = {"string": "varchar", "timestamp": "timestamp(3)"}
    columns = [(column["Name"], names.get(column["Type"], column["Type"])) for column in view["StorageDescriptor"]["Columns"]]
    assert [(column["name"], column["type"]) for column in definition["columns"]] == columns
    order = "order by category, transaction_hash, log_index limit 100"
    expected = folder_lake.defi("query", "--format", "json", f"select * from lending_events {order}")
    found = folder_lake.defi("query", "--format", "json", f"select * from ({definition['originalSql']}) as v {order}")
    assert found == expected and list(json.loads(found)[0]) == [name for name, _ in columns]


def test_awswrangler_reads_every_table(deployment, golden, folder_lake):
    session = boto3.Session(aws_access_key_id="administrator", aws_secret_access_key="administrator", region_name=REGION)
    wr.config.s3_endpoint_url = wr.config.glue_endpoint_url = deployment.aws.endpoint
    tables = sorted(deployment.tables())
    counts = folder_lake.counts(tables)
    read = {}
    # Some hundred requests, one after another.
    with deployment.aws.settings(latency_ms=0):
        for table in tables:
            database, name = table.split(".")
            read[table] = len(wr.s3.read_parquet_table(table=name, database=database, boto3_session=session))
    assert read == counts and sum(counts.values()) > 10_000


def test_second_run_changes_nothing(deployment, golden):
    def everything():
        catalog, versions = deployment.catalog(), deployment.versions()
        # The lease names the execution.
        versions.pop("runs/lease.json", None)
        return versions, catalog, {name: deployment.partitions(name) for name in deployment.tables()}

    before = everything()
    again = deployment.run({"from": FIRST, "as_of": LAST})
    assert again.status == "SUCCEEDED" and "Nothing to do" in again.states() and not deployment.messages(again)
    assert everything() == before


def test_force_rewrites_equal_objects_and_rejects_other_runs(deployment, golden):
    before = without_runs(deployment.versions())
    already = len(deployment.calls())
    forced = deployment.start({"from": days_before_last(1), "as_of": LAST, "force": True})
    deployment.wait_for_state(forced, "Extract blocks")
    late = deployment.run({"as_of": LAST, "from": FIRST})
    assert (late.status, late.error) == ("FAILED", "AlreadyRunning")
    (message,) = deployment.messages(late)
    assert (message["step"], message["error"]) == ("plan-run", "AlreadyRunning")
    forced = deployment.wait(forced)
    assert forced.status == "SUCCEEDED", forced
    called = {call["function"] for call in deployment.calls()[already:]}
    assert called == of_the_apis(deployment)
    assert without_runs(deployment.versions()) == before


def test_earlier_day_joins_the_history_but_is_not_the_newest(deployment, golden):
    earlier = days_before_last(2)
    execution = deployment.run({"from": FIRST, "as_of": earlier})
    assert execution.status == "SUCCEEDED", execution
    assert deployment.published() == LAST
    history = f"{deployment.databases['analytics']}.defi_features_history"
    assert set(deployment.partitions(history)) == {(LAST,), (earlier,)}


def days_before_last(number: int) -> str:
    return (date.fromisoformat(LAST) - timedelta(days=number)).isoformat()


def without_runs(versions: dict) -> dict:
    # What a run recomputes is recorded until a later run finds it finished.
    return {key: version for key, version in versions.items() if not key.startswith(("runs/", "state/unfinished/"))}


def test_alarms_and_dashboard_use_exactly_the_metrics_of_the_functions(deployment, golden):
    """CloudWatch charges each metric with its dimensions: none is measured that nobody looks at, and none is looked at that
    nobody measures."""
    # No run over the two APIs calls this function.
    deployment.call("extract-logs", {})
    measured, (watched, shown) = set(metrics_in(deployment.logs())), watched_metrics(deployment.client("cloudwatch"))
    assert watched and watched <= measured and shown <= measured, (watched | shown) - measured
    assert measured <= watched | shown, measured - watched - shown
    by_step = {name for name, dimensions in measured if "Step" in dict(dimensions)}
    assert by_step == {"Requests", "Retries", "Seconds"}


def watched_metrics(cloudwatch) -> tuple[set, set]:
    """Returns the metrics of the functions, each with its dimensions, that the alarms and the dashboard ask for."""
    alarms = {
        (alarm["MetricName"], frozenset((dimension["Name"], dimension["Value"]) for dimension in alarm["Dimensions"]))
        for alarm in cloudwatch.describe_alarms()["MetricAlarms"]
        # A metric without dimensions is one of a log filter, not of a function.
        if alarm.get("Namespace") == "DefiFeatures" and alarm["Dimensions"]
    }
    (dashboard,) = cloudwatch.list_dashboards()["DashboardEntries"]
    body = json.loads(cloudwatch.get_dashboard(DashboardName=dashboard["DashboardName"])["DashboardBody"])
    shown = set()
    for widget in body["widgets"]:
        # A metric is [namespace, name, dimension, value, …, {options}].
        for namespace, name, *dimensions, _ in widget["properties"].get("metrics", []):
            if namespace == "DefiFeatures":
                shown.add((name, frozenset(zip(dimensions[::2], dimensions[1::2]))))
    return alarms, shown


def metrics_in(logs: str):
    """Yields the metrics in the embedded metric format, each with its dimensions."""
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
def test_responses_are_small(deployment):
    calls = deployment.calls()
    assert {call["function"] for call in calls} == set(deployment.functions.values())
    # The rows of wallets go to whoever asks for them, and not through the state machine.
    calls = [call for call in calls if call["function"] != deployment.functions["get-features"]]
    assert [call for call in calls if call["bytes"] >= MAX_RESPONSE_BYTES] == []
