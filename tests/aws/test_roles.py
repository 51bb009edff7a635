"""The role of each function allows only what the function needs. That it allows enough is tested by all other tests."""

import json

import pytest
from botocore.exceptions import ClientError

from packages import STEPS

# For each step a key that it must not write.
FORBIDDEN_KEYS = {
    "extract-events": "raw/the_graph/the_graph_historical_market_data/x",
    "extract-market-data": "raw/transpose/transpose_borrow_events/x",
    "stage-events": "raw/transpose/transpose_borrow_events/x",
    "price-events": "stage/transpose/transpose_borrow_events/x",
    "value-positions": "analytics/features/defi_features/as_of=2023-03-01/0.parquet",
    "build-features": "analytics/features/defi_features/as_of=2023-03-01/0.parquet",
    "check-features": "analytics/features/defi_features/as_of=2023-03-01/0.parquet",
    "publish-features": "analytics/features/wallet_health_daily/x",
    "report-run": "analytics/features/defi_features/as_of=2023-03-01/0.parquet",
}
SECRETS = {
    "extract-daily-blocks": "transpose",
    "extract-events": "transpose",
    "extract-market-data": "graph",
    "extract-account-positions": "graph",
    "extract-current-positions": "graph",
}


def is_denied(call) -> bool:
    """Makes a call and returns whether access is denied."""
    try:
        call()
    except ClientError as error:
        assert error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException", "AuthorizationError", "403"), error
        return True
    return False


@pytest.mark.parametrize("step", STEPS)
def test_function_cannot_access_other_prefixes(deployment, step):
    s3, bucket = deployment.aws.client_as("s3", deployment.role_of(step)), deployment.bucket
    for key in filter(None, ("elsewhere/x", FORBIDDEN_KEYS.get(step))):
        assert is_denied(lambda: s3.put_object(Bucket=bucket, Key=key, Body=b"")), key
        assert is_denied(lambda: s3.delete_object(Bucket=bucket, Key=key)), key
    assert is_denied(lambda: s3.get_object(Bucket=bucket, Key="elsewhere/x"))
    assert is_denied(lambda: s3.list_objects_v2(Bucket=bucket, Prefix="elsewhere/"))
    assert is_denied(lambda: s3.put_object(Bucket=f"{bucket}-athena", Key="raw/x", Body=b""))
    assert is_denied(lambda: s3.delete_object(Bucket=bucket, Key="raw/transpose/transpose_borrow_events/x", VersionId="1"))
    assert is_denied(lambda: s3.delete_bucket_policy(Bucket=bucket))


@pytest.mark.parametrize("step", STEPS)
def test_function_cannot_record_what_it_cannot_write(deployment, step):
    s3, bucket = deployment.aws.client_as("s3", deployment.role_of(step)), deployment.bucket
    others = [f"digests/{key}" for key in [*filter(None, [FORBIDDEN_KEYS.get(step)]), "raw/elsewhere/x", "state/passed/x"]]
    for key in others + ["digests/before.json"] * (step != "plan-run"):
        assert is_denied(lambda: s3.put_object(Bucket=bucket, Key=key, Body=b"")), key
        assert is_denied(lambda: s3.delete_object(Bucket=bucket, Key=key)), key
    assert is_denied(lambda: s3.delete_object(Bucket=bucket, Key="digests/before.json"))


@pytest.mark.parametrize("step", STEPS)
def test_function_reads_only_its_secret(deployment, step):
    secrets = deployment.aws.client_as("secretsmanager", deployment.role_of(step))
    for source, name in deployment.secrets.items():
        allowed = SECRETS.get(step) == source
        assert is_denied(lambda: secrets.get_secret_value(SecretId=name)) != allowed
        assert is_denied(lambda: secrets.put_secret_value(SecretId=name, SecretString="x"))


@pytest.mark.parametrize("step", STEPS)
def test_function_cannot_start_runs_or_call_functions(deployment, step):
    role = deployment.role_of(step)
    states = deployment.aws.client_as("stepfunctions", role)
    assert is_denied(lambda: states.start_execution(stateMachineArn=deployment.machine))
    assert is_denied(lambda: states.list_executions(stateMachineArn=deployment.machine)) == (step != "plan-run")
    assert is_denied(lambda: deployment.aws.client_as("lambda", role).invoke(FunctionName=deployment.functions["plan-run"]))
    assert is_denied(lambda: deployment.aws.client_as("iam", role).list_roles())
    other = next(name for name in STEPS if name != step)
    group = f"/aws/lambda/{deployment.functions[other]}"
    assert is_denied(lambda: deployment.aws.client_as("logs", role).create_log_stream(logGroupName=group, logStreamName="x"))


@pytest.mark.parametrize("step", STEPS)
def test_function_registers_only_tables_of_its_layer(deployment, step):
    glue = deployment.aws.client_as("glue", deployment.role_of(step))
    layers = {"extract": ["raw"], "stage": ["stage"]}.get(step.split("-")[0], ["analytics"])
    others = {"plan-run": ["raw", "stage", "analytics"], "extract-current-positions": ["analytics"]}
    others |= {"check-features": [], "report-run": []}
    layers = others.get(step, layers)
    for layer, database in deployment.databases.items():
        if layer not in layers:
            assert is_denied(lambda: glue.create_table(DatabaseName=database, TableInput={"Name": "x"})), database
        assert is_denied(lambda: glue.delete_table(DatabaseName=database, Name="x")), database
        assert is_denied(lambda: glue.delete_database(Name=database)), database
    assert is_denied(lambda: glue.create_database(DatabaseInput={"Name": "x"}))


def test_state_machine_only_reads_batches_and_calls_functions(deployment):
    role = deployment.client("stepfunctions").describe_state_machine(stateMachineArn=deployment.machine)["roleArn"]
    s3 = deployment.aws.client_as("s3", role)
    for key in ("raw/x", "analytics/x", "runs/x/report.json"):
        assert is_denied(lambda: s3.get_object(Bucket=deployment.bucket, Key=key)), key
    assert is_denied(lambda: s3.put_object(Bucket=deployment.bucket, Key="runs/x/batches/x.json", Body=b""))
    secrets = deployment.aws.client_as("secretsmanager", role)
    assert all(is_denied(lambda: secrets.get_secret_value(SecretId=name)) for name in deployment.secrets.values())
    assert is_denied(
        lambda: deployment.aws.client_as("lambda", role).delete_function(FunctionName=deployment.functions["plan-run"])
    )


def test_schedule_only_starts_the_state_machine(deployment):
    scheduler = deployment.client("scheduler")
    (schedule,) = scheduler.list_schedules()["Schedules"]
    target = scheduler.get_schedule(Name=schedule["Name"], GroupName=schedule["GroupName"])["Target"]
    assert target["Arn"] == deployment.machine and json.loads(target.get("Input", "{}")) == {}
    states = deployment.aws.client_as("stepfunctions", target["RoleArn"])
    # With an invalid name the call is authorized, but starts no execution.
    with pytest.raises(ClientError) as error:
        states.start_execution(stateMachineArn=deployment.machine, name="no<name>")
    assert error.value.response["Error"]["Code"] == "InvalidName"
    assert is_denied(lambda: states.stop_execution(executionArn=deployment.machine))
    assert is_denied(
        lambda: deployment.aws.client_as("lambda", target["RoleArn"]).invoke(FunctionName=deployment.functions["plan-run"])
    )
