"""Terraform makes the pipeline, finds nothing to change in it, and takes all of it away again."""

import json
import re

import pytest

from packages import REPOSITORY, STEPS

# What the second plan may change because the local AWS forgets it, each with its reason: {(type, attribute): reason}.
FORGOTTEN: dict[tuple[str, str], str] = {}

# Errors that Step Functions and Lambda name themselves.
NAMES_OF_AWS = {
    "States.ALL",
    "States.Timeout",
    "States.TaskFailed",
    "States.DataLimitExceeded",
    "States.ItemReaderFailed",
    "States.ExceedToleratedFailureThreshold",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "Lambda.ClientExecutionTimeoutException",
    "Sandbox.Timedout",
    "Runtime.ExitError",
}


def test_the_configuration_is_valid(deployment):
    validated = deployment.terraform.validate()
    assert validated["valid"] and not validated["diagnostics"]


def test_a_second_plan_changes_nothing(deployment):
    changed = {
        (change.type, attribute): change for change in deployment.terraform.plan() for attribute in change.attributes or [""]
    }
    unexpected = [change for key, change in changed.items() if key not in FORGOTTEN]
    assert not unexpected
    assert changed.keys() == FORGOTTEN.keys(), "the local AWS has stopped forgetting something: take it off the list"


def test_there_is_a_function_for_each_step(deployment):
    assert set(deployment.functions) == set(STEPS)
    for step in STEPS:
        environment = deployment.environment_of(step)
        assert environment["LAKE"] == f"s3://{deployment.bucket}"
        assert not [name for name in environment if "KEY" in name], f"{step} has a key in its environment"


def test_every_error_name_in_the_definition_is_one_that_there_is(deployment):
    source = (REPOSITORY / "shared" / "src" / "error.rs").read_text()
    kinds = dict(re.findall(r'Kind::(\w+) => "(\w+)"', source))
    assert len(kinds) >= 12
    definition = json.loads(
        deployment.client("stepfunctions").describe_state_machine(stateMachineArn=deployment.machine)["definition"]
    )
    named = set(error_names(definition))
    assert named >= {"Throttled", "SourceUnavailable", "NotReady", "States.ALL"}
    assert named <= set(kinds.values()) | NAMES_OF_AWS


def error_names(part):
    """Every name that a Retry or a Catch goes by."""
    if isinstance(part, dict):
        yield from part.get("ErrorEquals", [])
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else []:
        yield from error_names(inner)


def test_every_task_has_a_timeout_longer_than_its_functions(deployment):
    definition = json.loads(
        deployment.client("stepfunctions").describe_state_machine(stateMachineArn=deployment.machine)["definition"]
    )
    timeouts = {
        function["FunctionName"]: function["Timeout"] for function in deployment.client("lambda").list_functions()["Functions"]
    }
    tasks = list(tasks_of(definition))
    assert len(tasks) >= len(STEPS)
    for name, task in tasks:
        function = task["Parameters"].get("FunctionName", "").rpartition(":")[2]
        assert task["TimeoutSeconds"] > timeouts.get(function, 0), name


def tasks_of(machine):
    for name, state in machine["States"].items():
        if state["Type"] == "Task":
            yield name, state
        for inner in [state[key] for key in ("ItemProcessor", "Iterator") if key in state] + state.get("Branches", []):
            yield from tasks_of(inner)


@pytest.mark.last
def test_destroy_leaves_nothing(deployment):
    assert len(deployment.terraform.resources()) > 100
    deployment.terraform.destroy()
    assert deployment.terraform.resources() == []
    left = {
        "buckets": deployment.client("s3").list_buckets()["Buckets"],
        "functions": deployment.client("lambda").list_functions()["Functions"],
        "roles": deployment.client("iam").list_roles()["Roles"],
        "policies": deployment.client("iam").list_policies(Scope="Local")["Policies"],
        "databases": deployment.client("glue").get_databases()["DatabaseList"],
        "state machines": deployment.client("stepfunctions").list_state_machines()["stateMachines"],
        "secrets": deployment.client("secretsmanager").list_secrets(IncludePlannedDeletion=True)["SecretList"],
        "topics": deployment.client("sns").list_topics()["Topics"],
        "schedules": deployment.client("scheduler").list_schedules()["Schedules"],
        "log groups": deployment.client("logs").describe_log_groups()["logGroups"],
        "alarms": deployment.client("cloudwatch").describe_alarms()["MetricAlarms"],
        "dashboards": deployment.client("cloudwatch").list_dashboards()["DashboardEntries"],
        "named queries": deployment.client("athena").list_named_queries()["NamedQueryIds"],
    }
    assert {kind: found for kind, found in left.items() if found} == {}
    workgroups = deployment.client("athena").list_work_groups()["WorkGroups"]
    assert [group["Name"] for group in workgroups] == ["primary"]
    with pytest.raises(deployment.client("schemas").exceptions.NotFoundException):
        deployment.client("schemas").describe_registry(RegistryName="lambda-testevent-schemas")
