"""Each function's role allows what the function does, which all other tests show, and no more than that."""

import json

import pytest
from botocore.exceptions import ClientError

from packages import STEPS

# Where a step may write besides runs/, and what is not its own.
STRANGE = {
    "extract-events": "raw/the_graph/the_graph_historical_market_data/x",
    "extract-market-data": "raw/transpose/transpose_borrow_events/x",
    "stage-events": "raw/transpose/transpose_borrow_events/x",
    "price-events": "stage/transpose/transpose_borrow_events/x",
    "value-positions": "analytics/features/defi_features/as_of=2023-03-01/0.parquet",
    "build-features": "analytics/features/wallet_health_daily/x",
    "check-features": "analytics/features/defi_features/as_of=2023-03-01/0.parquet",
    "publish-features": "analytics/features/defi_features/as_of=2023-03-01/0.parquet",
    "report-run": "analytics/features/defi_features/as_of=2023-03-01/0.parquet",
}
SECRETS = {
    "extract-daily-blocks": "transpose",
    "extract-events": "transpose",
    "extract-market-data": "graph",
    "extract-account-positions": "graph",
    "extract-current-positions": "graph",
}


def refused(call) -> bool:
    try:
        call()
    except ClientError as error:
        assert error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException", "AuthorizationError", "403"), error
        return True
    return False


@pytest.mark.parametrize("step", STEPS)
def test_a_function_reaches_no_other_part_of_the_lake(deployment, step):
    s3, bucket = deployment.aws.client_as("s3", deployment.role_of(step)), deployment.bucket
    for key in filter(None, ("elsewhere/x", STRANGE.get(step))):
        assert refused(lambda: s3.put_object(Bucket=bucket, Key=key, Body=b"")), key
        assert refused(lambda: s3.delete_object(Bucket=bucket, Key=key)), key
    assert refused(lambda: s3.get_object(Bucket=bucket, Key="elsewhere/x"))
    assert refused(lambda: s3.list_objects_v2(Bucket=bucket, Prefix="elsewhere/"))
    assert refused(lambda: s3.put_object(Bucket=f"{bucket}-athena", Key="raw/x", Body=b""))
    assert refused(lambda: s3.delete_object(Bucket=bucket, Key="raw/transpose/transpose_borrow_events/x", VersionId="1"))
    assert refused(lambda: s3.delete_bucket_policy(Bucket=bucket))


@pytest.mark.parametrize("step", STEPS)
def test_a_function_reads_its_secret_alone(deployment, step):
    secrets = deployment.aws.client_as("secretsmanager", deployment.role_of(step))
    for source, name in deployment.secrets.items():
        allowed = SECRETS.get(step) == source
        assert refused(lambda: secrets.get_secret_value(SecretId=name)) != allowed
        assert refused(lambda: secrets.put_secret_value(SecretId=name, SecretString="x"))


@pytest.mark.parametrize("step", STEPS)
def test_a_function_starts_nothing_and_calls_nothing(deployment, step):
    role = deployment.role_of(step)
    states = deployment.aws.client_as("stepfunctions", role)
    assert refused(lambda: states.start_execution(stateMachineArn=deployment.machine))
    assert refused(lambda: states.list_executions(stateMachineArn=deployment.machine)) == (step != "plan-run")
    assert refused(lambda: deployment.aws.client_as("lambda", role).invoke(FunctionName=deployment.functions["plan-run"]))
    assert refused(lambda: deployment.aws.client_as("iam", role).list_roles())
    other = next(name for name in STEPS if name != step)
    group = f"/aws/lambda/{deployment.functions[other]}"
    assert refused(lambda: deployment.aws.client_as("logs", role).create_log_stream(logGroupName=group, logStreamName="x"))


@pytest.mark.parametrize("step", STEPS)
def test_a_function_registers_tables_of_its_layer_alone(deployment, step):
    glue = deployment.aws.client_as("glue", deployment.role_of(step))
    layers = {"extract": ["raw"], "stage": ["stage"]}.get(step.split("-")[0], ["analytics"])
    others = {"plan-run": ["raw", "stage", "analytics"], "extract-current-positions": ["analytics"]}
    others |= {"check-features": [], "report-run": []}
    layers = others.get(step, layers)
    for layer, database in deployment.databases.items():
        if layer not in layers:
            assert refused(lambda: glue.create_table(DatabaseName=database, TableInput={"Name": "x"})), database
        assert refused(lambda: glue.delete_table(DatabaseName=database, Name="x")), database
        assert refused(lambda: glue.delete_database(Name=database)), database
    assert refused(lambda: glue.create_database(DatabaseInput={"Name": "x"}))


def test_the_state_machine_reads_batches_and_calls_functions_alone(deployment):
    role = deployment.client("stepfunctions").describe_state_machine(stateMachineArn=deployment.machine)["roleArn"]
    s3 = deployment.aws.client_as("s3", role)
    for key in ("raw/x", "analytics/x", "runs/x/report.json"):
        assert refused(lambda: s3.get_object(Bucket=deployment.bucket, Key=key)), key
    assert refused(lambda: s3.put_object(Bucket=deployment.bucket, Key="runs/x/batches/x.json", Body=b""))
    secrets = deployment.aws.client_as("secretsmanager", role)
    assert all(refused(lambda: secrets.get_secret_value(SecretId=name)) for name in deployment.secrets.values())
    assert refused(
        lambda: deployment.aws.client_as("lambda", role).delete_function(FunctionName=deployment.functions["plan-run"])
    )


def test_the_schedule_starts_the_state_machine_and_nothing_else(deployment):
    scheduler = deployment.client("scheduler")
    (schedule,) = scheduler.list_schedules()["Schedules"]
    target = scheduler.get_schedule(Name=schedule["Name"], GroupName=schedule["GroupName"])["Target"]
    assert target["Arn"] == deployment.machine and json.loads(target.get("Input", "{}")) == {}
    states = deployment.aws.client_as("stepfunctions", target["RoleArn"])
    # The name is one that is refused for itself: the call is allowed, and starts nothing.
    with pytest.raises(ClientError) as error:
        states.start_execution(stateMachineArn=deployment.machine, name="no<name>")
    assert error.value.response["Error"]["Code"] == "InvalidName"
    assert refused(lambda: states.stop_execution(executionArn=deployment.machine))
    assert refused(
        lambda: deployment.aws.client_as("lambda", target["RoleArn"]).invoke(FunctionName=deployment.functions["plan-run"])
    )
