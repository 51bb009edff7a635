"""Terraform deploys the pipeline, plans no further changes, and destroys everything."""

import json
import re
import shutil

import pytest

from aws import ACCOUNT, REGION
from packages import FUNCTIONS, REPOSITORY, STEPS
from terraform import INFRA, TerraformFailed, run

# Changes that the second plan may contain because the local AWS does not store an attribute: {(type, attribute):
# reason}.
EXPECTED_CHANGES: dict[tuple[str, str], str] = {}

# The error names of Step Functions and Lambda.
AWS_ERRORS = {
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
    "Lambda.Unknown",
    "Sandbox.Timedout",
    "Runtime.ExitError",
}


def test_configuration_is_valid(deployment):
    validated = deployment.terraform.validate()
    assert validated["valid"] and not validated["diagnostics"]


@pytest.fixture(scope="module")
def variables(deployment, tmp_path_factory):
    """Returns a function that plans a configuration of the variables alone. Without a provider it takes no time."""
    folder = tmp_path_factory.mktemp("variables")
    shutil.copy(INFRA / "variables.tf", folder)
    # The only other value that the conditions of the variables refer to.
    (folder / "steps.tf").write_text("locals {\n  step_table = {}\n}\n")

    def plan(**values: str) -> None:
        arguments = [argument for name, value in values.items() for argument in ("-var", f"{name}={value}")]
        run(("terraform", f"-chdir={folder}", "plan", "-input=false", "-no-color", *arguments), deployment.terraform.environment)

    return plan


@pytest.mark.parametrize("variable", ["graph_url", "transpose_url"])
def test_url_to_which_a_key_would_be_sent_unencrypted_is_refused(deployment, variables, variable):
    for url in ("https://example.com/api", "http://127.0.0.1:8080/api"):
        variables(**{variable: url})
    for url in (
        "http://example.com/api",
        "http://127.0.0.1.example.com",
        "http://localhost@example.com/",
        "https://user:key@example.com/",
        "https://example.com/?key=key",
        "example.com",
    ):
        with pytest.raises(TerraformFailed, match="must start with https://"):
            variables(**{variable: url})


def test_second_plan_changes_nothing(deployment):
    changed = {
        (change.type, attribute): change for change in deployment.terraform.plan() for attribute in change.attributes or [""]
    }
    unexpected = [change for key, change in changed.items() if key not in EXPECTED_CHANGES]
    assert not unexpected
    assert changed.keys() == EXPECTED_CHANGES.keys(), "the local AWS now stores an attribute: remove it from EXPECTED_CHANGES"


def test_each_crate_has_a_function(deployment):
    assert set(deployment.functions) == set(FUNCTIONS)
    for step in FUNCTIONS:
        environment = deployment.environment_of(step)
        assert environment["LAKE"] == f"s3://{deployment.bucket}"
        assert not [name for name in environment if "KEY" in name], f"{step} has a key in its environment"


def test_state_machine_calls_the_version_that_the_alias_names(deployment):
    machine = deployment.client("stepfunctions").describe_state_machine(stateMachineArn=deployment.machine)
    called = {task["Parameters"]["FunctionName"] for _, task in tasks_of(json.loads(machine["definition"])) if "FunctionName" in task["Parameters"]}
    functions = deployment.client("lambda")
    names = [deployment.functions[step] for step in STEPS]
    live = {name: functions.get_alias(FunctionName=name, Name="live")["FunctionVersion"] for name in names}
    assert called == {f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}:{version}" for name, version in live.items()}


def test_error_names_in_the_definition_exist(deployment):
    source = (REPOSITORY / "shared" / "src" / "error.rs").read_text()
    kinds = dict(re.findall(r'Kind::(\w+) => "(\w+)"', source))
    assert len(kinds) >= 12
    definition = json.loads(
        deployment.client("stepfunctions").describe_state_machine(stateMachineArn=deployment.machine)["definition"]
    )
    names = set(error_names(definition))
    assert names >= {"Throttled", "SourceUnavailable", "NotReady", "States.ALL"}
    assert names <= set(kinds.values()) | AWS_ERRORS


def error_names(part):
    """Yields the error names of all Retry and Catch rules."""
    if isinstance(part, dict):
        yield from part.get("ErrorEquals", [])
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else []:
        yield from error_names(inner)


def test_task_timeouts_exceed_function_timeouts(deployment):
    definition = json.loads(
        deployment.client("stepfunctions").describe_state_machine(stateMachineArn=deployment.machine)["definition"]
    )
    timeouts = {
        function["FunctionName"]: function["Timeout"] for function in deployment.client("lambda").list_functions()["Functions"]
    }
    tasks = list(tasks_of(definition))
    assert len(tasks) >= len(STEPS)
    for name, task in tasks:
        function = task["Parameters"].get("FunctionName", ":function:").split(":function:")[1].split(":")[0]
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
