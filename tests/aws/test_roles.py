"""The role of each function allows only what the function needs. That it allows enough is tested by all other tests."""

import contextlib
import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from aws import ACCOUNT
from defi import days
from deployment import ENVIRONMENT
from fakes import document
from local_aws.policies import trusts
from packages import FUNCTIONS, REPOSITORY, STEPS

sys.path.insert(0, str(REPOSITORY / "infra" / "checks"))
import allowed  # noqa: E402

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
    "get-features": "analytics/features/defi_features/as_of=2023-03-01/0.parquet",
}
SECRETS = {
    "extract-daily-blocks": {"transpose"},
    "extract-events": {"transpose"},
    "extract-market-data": {"graph"},
    "extract-account-positions": {"graph"},
    "extract-current-positions": {"graph", "transpose"},
}


EVENTS = [f"transpose_{category}_events" for category in ("borrow", "deposit", "liquidation", "repay", "withdraw")]
MARKETS, POSITIONS = "the_graph_historical_market_data", "the_graph_historical_account_positions"
PUBLISHED = {("analytics", "defi_features"), ("analytics", "defi_features_history")}

# The tables and views that each step registers and updates in the catalog.
REGISTERED = {
    "extract-daily-blocks": {("raw", "ethereum_daily_blocks")},
    "extract-events": {("raw", table) for table in EVENTS},
    "extract-logs": {("raw", "ethereum_lending_logs")},
    "extract-market-data": {("raw", MARKETS)},
    "extract-account-positions": {("raw", POSITIONS)},
    "extract-current-positions": {("analytics", "the_graph_current_collateral_positions")},
    "stage-events": {("stage", table) for table in EVENTS},
    "stage-market-data": {("stage", MARKETS)},
    "stage-account-positions": {("stage", POSITIONS)},
    "link-wallets": {("analytics", "wallet_links")},
    "price-events": {("analytics", table) for table in EVENTS},
    "value-positions": {("analytics", "wallet_health_daily")},
}
REGISTERED["plan-run"] = {("analytics", "lending_events")}.union(*REGISTERED.values())
REGISTERED["publish-features"] = PUBLISHED

# Keys that only one step may write.
OWNERS = {
    "state/passed/as_of=2023-03-01.json": "check-features",
    "analytics/features/defi_features/as_of=2023-03-01/0.parquet": "publish-features",
    "runs/x/batches/stage-events.json": "plan-run",
    "runs/x/plan.json": "plan-run",
    "runs/x/plan-after-extraction.json": "plan-run",
    "state/unfinished/x.json": "plan-run",
    "state/first_day.json": "plan-run",
    "state/versions.json": "plan-run",
    "runs/x/report.json": None,
    "runs/x": None,
    **{f"runs/x/reports/{step}/y.json": step for step in STEPS if step != "plan-run"},
}


def is_denied(call) -> bool:
    """Makes a call and returns whether access is denied."""
    try:
        call()
    except ClientError as error:
        assert error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException", "AuthorizationError", "403"), error
        return True
    return False


@pytest.mark.parametrize("step", FUNCTIONS)
def test_function_cannot_access_other_prefixes(deployment, step):
    s3, bucket = deployment.aws.client_as("s3", deployment.role_of(step)), deployment.bucket
    for key in filter(None, ("elsewhere/x", FORBIDDEN_KEYS.get(step))):
        assert is_denied(lambda: s3.put_object(Bucket=bucket, Key=key, Body=b"")), key
        assert is_denied(lambda: s3.delete_object(Bucket=bucket, Key=key)), key
    assert is_denied(lambda: s3.get_object(Bucket=bucket, Key="elsewhere/x"))
    assert is_denied(lambda: s3.list_objects_v2(Bucket=bucket, Prefix="elsewhere/"))
    assert is_denied(lambda: s3.list_objects_v2(Bucket=bucket, Prefix=""))
    assert is_denied(lambda: s3.list_objects_v2(Bucket=bucket)), "a listing without a prefix"
    assert is_denied(lambda: s3.put_object(Bucket=f"{bucket}-athena", Key="raw/x", Body=b""))
    assert is_denied(lambda: s3.delete_object(Bucket=bucket, Key="raw/transpose/transpose_borrow_events/x", VersionId="1"))
    assert is_denied(lambda: s3.delete_bucket_policy(Bucket=bucket))


@pytest.mark.parametrize("step", FUNCTIONS)
def test_function_cannot_record_what_it_cannot_write(deployment, step):
    s3, bucket = deployment.aws.client_as("s3", deployment.role_of(step)), deployment.bucket
    others = [f"digests/{key}" for key in [*filter(None, [FORBIDDEN_KEYS.get(step)]), "raw/elsewhere/x", "state/passed/x"]]
    for key in others + ["digests/before.json"] * (step != "plan-run"):
        assert is_denied(lambda: s3.put_object(Bucket=bucket, Key=key, Body=b"")), key
        assert is_denied(lambda: s3.delete_object(Bucket=bucket, Key=key)), key
    assert is_denied(lambda: s3.delete_object(Bucket=bucket, Key="digests/before.json"))


@pytest.mark.parametrize("step", FUNCTIONS)
def test_function_reads_only_its_secrets(deployment, step):
    secrets = deployment.aws.client_as("secretsmanager", deployment.role_of(step))
    for source, name in deployment.secrets.items():
        allowed = source in SECRETS.get(step, set())
        assert is_denied(lambda: secrets.get_secret_value(SecretId=name)) != allowed
        assert is_denied(lambda: secrets.put_secret_value(SecretId=name, SecretString="x"))


@pytest.mark.parametrize("step", FUNCTIONS)
def test_function_cannot_start_runs_or_call_functions(deployment, step):
    role = deployment.role_of(step)
    states = deployment.aws.client_as("stepfunctions", role)
    assert is_denied(lambda: states.start_execution(stateMachineArn=deployment.machine))
    assert is_denied(lambda: states.list_executions(stateMachineArn=deployment.machine))

    def describe():
        with contextlib.suppress(states.exceptions.ExecutionDoesNotExist):
            states.describe_execution(executionArn=deployment.machine.replace(":stateMachine:", ":execution:") + ":missing")

    assert is_denied(describe) == (step != "plan-run"), "it asks whether the execution that holds the lease has ended"
    assert is_denied(lambda: deployment.aws.client_as("lambda", role).invoke(FunctionName=deployment.functions["plan-run"]))
    assert is_denied(lambda: deployment.aws.client_as("iam", role).list_roles())
    other = next(name for name in FUNCTIONS if name != step)
    group = f"/aws/lambda/{deployment.functions[other]}"
    assert is_denied(lambda: deployment.aws.client_as("logs", role).create_log_stream(logGroupName=group, logStreamName="x"))


@pytest.mark.parametrize("step", FUNCTIONS)
def test_function_writes_only_its_own_objects_of_runs_and_checks(deployment, step):
    s3 = deployment.aws.client_as("s3", deployment.role_of(step))
    for key, owner in OWNERS.items():
        assert is_denied(lambda: s3.put_object(Bucket=deployment.bucket, Key=key, Body=b"")) == (step != owner), key
        deployment.client("s3").delete_object(Bucket=deployment.bucket, Key=key)


@pytest.mark.parametrize("step", FUNCTIONS)
def test_function_changes_only_its_own_tables(deployment, step):
    glue = deployment.aws.client_as("glue", deployment.role_of(step))
    for layer, name in {*REGISTERED["plan-run"], *PUBLISHED} - REGISTERED.get(step, set()):
        database, table = deployment.databases[layer], {"Name": name}
        partition = {"Values": ["2023-03-01"], "StorageDescriptor": {"Location": f"s3://{deployment.bucket}/x/"}}
        named = {"DatabaseName": database, "TableName": name}
        for call in (
            lambda: glue.create_table(DatabaseName=database, TableInput=table),
            lambda: glue.update_table(DatabaseName=database, TableInput=table),
            lambda: glue.batch_create_partition(**named, PartitionInputList=[partition]),
            lambda: glue.update_partition(**named, PartitionValueList=["2023-03-01"], PartitionInput=partition),
        ):
            assert is_denied(call), f"{layer}.{name}"
    for database in deployment.databases.values():
        assert is_denied(lambda: glue.create_table(DatabaseName=database, TableInput={"Name": "x"})), database
        assert is_denied(lambda: glue.delete_table(DatabaseName=database, Name="defi_features")), database
        assert is_denied(lambda: glue.delete_database(Name=database)), database
    assert is_denied(lambda: glue.create_database(DatabaseInput={"Name": "x"}))


def differences_from_the_lists(deployment, source: str) -> list[str]:
    """Returns how the deployed policies differ from the lists in infra/checks."""
    scope = allowed.Scope(env=ENVIRONMENT, source=source, lake=deployment.bucket)
    return list(allowed.problems_of_scope(scope, deployment.policies()))


def test_deployed_policies_are_those_of_the_lists(deployment):
    assert differences_from_the_lists(deployment, "apis") == []
    assert differences_from_the_lists(deployment, "chain") != [], "the roles of the other source"


def test_roles_are_assumed_for_this_account_only(deployment):
    roles = [role for role in deployment.client("iam").list_roles()["Roles"] if role["RoleName"].startswith("defi-")]
    assert len(roles) == len(FUNCTIONS) + 3
    for role in roles:
        policy = json.dumps(role["AssumeRolePolicyDocument"])
        (service,) = {statement["Principal"]["Service"] for statement in role["AssumeRolePolicyDocument"]["Statement"]}
        assert trusts(policy, service, {"aws:SourceAccount": ACCOUNT}), role["RoleName"]
        assert not trusts(policy, service, {"aws:SourceAccount": "999999999999"}), role["RoleName"]
        assert not trusts(policy, service, {}), role["RoleName"]


def lake_policy(deployment, workspace: str, *writers: str) -> str:
    """Returns the policy of the lake's bucket, as JSON."""
    deployment.terraform.finish()
    variables = ["-var", f"account_id={ACCOUNT}", *(["-var", f"writers={json.dumps(writers)}"] if writers else [])]
    result = subprocess.run(
        ["terraform", f"-chdir={deployment.terraform.folder}", "console", "-no-color", *variables],
        env={**os.environ, **deployment.terraform.environment, "TF_WORKSPACE": workspace},
        input="jsonencode(local.bucket_policies.lake)",
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_bucket_policy_lets_only_functions_and_writers_change_the_lake(deployment):
    administrator = f"arn:aws:iam::{ACCOUNT}:user/administrator"
    key, bucket, admin = "raw/transpose/ethereum_daily_blocks/x", deployment.bucket, deployment.client("s3")
    policy = admin.get_bucket_policy(Bucket=bucket)["Policy"]
    assert json.loads(policy) == json.loads(lake_policy(deployment, ENVIRONMENT)), "in dev, IAM alone decides"
    someone = f"arn:aws:iam::{ACCOUNT}:role/someone"
    try:
        admin.put_bucket_policy(Bucket=bucket, Policy=lake_policy(deployment, ENVIRONMENT, someone))
        assert is_denied(lambda: admin.put_object(Bucket=bucket, Key=key, Body=b""))
        s3 = deployment.aws.client_as("s3", deployment.role_of("extract-daily-blocks"))
        assert not is_denied(lambda: s3.put_object(Bucket=bucket, Key=key, Body=b"x"))
        assert is_denied(lambda: admin.delete_object(Bucket=bucket, Key=key))
        assert not is_denied(lambda: admin.get_object(Bucket=bucket, Key=key))
        admin.put_bucket_policy(Bucket=bucket, Policy=lake_policy(deployment, ENVIRONMENT, someone, administrator))
        assert not is_denied(lambda: admin.delete_object(Bucket=bucket, Key=key))
    finally:
        admin.put_bucket_policy(Bucket=bucket, Policy=policy)


def test_only_functions_change_the_lake_of_prod_by_default(deployment):
    statements = {statement["Sid"]: statement for statement in json.loads(lake_policy(deployment, "prod"))["Statement"]}
    (writers,) = statements["OnlyWriters"]["Condition"]["ArnNotLike"].values()
    assert sorted(writers) == [f"arn:aws:iam::{ACCOUNT}:role/defi-prod-{step}" for step in STEPS]


def test_denied_object_is_not_taken_for_a_missing_one(deployment):
    bucket, s3, first = deployment.bucket, deployment.client("s3"), date.fromisoformat(days()[0])
    denied, missing = first - timedelta(days=1), first - timedelta(days=2)
    key = f"raw/transpose/ethereum_daily_blocks/year={denied:%Y}/month={denied:%m}/{denied}.parquet"
    policy = s3.get_bucket_policy(Bucket=bucket)["Policy"]
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/{key}"}
    s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    s3.put_bucket_policy(Bucket=bucket, Policy=document(deny))
    try:
        for day, kind in ((missing, "NotReady"), (denied, "BadCredentials")):
            event = {"days": [day.isoformat()], "from": missing.isoformat(), "as_of": first.isoformat()}
            failed, response, _ = deployment.call("extract-market-data", event)
            assert failed and response["errorType"] == kind, response
    finally:
        s3.put_bucket_policy(Bucket=bucket, Policy=policy)
        s3.delete_object(Bucket=bucket, Key=key)


def test_test_events_of_publish_features_publish_no_unchecked_build(deployment):
    def published():
        features = {key: version for key, version in deployment.versions().items() if "/defi_features/" in key}
        return deployment.published(), deployment.tables(), features

    before, s3 = published(), deployment.client("s3")
    name = f"_{deployment.functions['publish-features']}-schema"
    schema = deployment.client("schemas").describe_schema(RegistryName="lambda-testevent-schemas", SchemaName=name)
    events = [example["value"] for example in json.loads(schema["Content"])["components"]["examples"].values()]
    assert {} in events and len(events) > 1
    for event in events:
        as_of = event.get("as_of", datetime.now(UTC).date().isoformat())
        key = f"analytics/features/builds/as_of={as_of}/0.parquet"
        s3.put_object(Bucket=deployment.bucket, Key=key, Body=b"a build that no check has seen")
        failed, response, _ = deployment.call("publish-features", event)
        s3.delete_object(Bucket=deployment.bucket, Key=key)
        assert failed and response["errorType"] == "QualityFailed", response
    assert published() == before


def test_state_machine_only_reads_batches_and_calls_functions(deployment):
    role = deployment.client("stepfunctions").describe_state_machine(stateMachineArn=deployment.machine)["roleArn"]
    s3 = deployment.aws.client_as("s3", role)
    for key in ("raw/x", "analytics/x", "runs/x/plan.json", "runs/x/reports/check-features/report.json"):
        assert is_denied(lambda: s3.get_object(Bucket=deployment.bucket, Key=key)), key
    assert is_denied(lambda: s3.put_object(Bucket=deployment.bucket, Key="runs/x/batches/x.json", Body=b""))
    secrets = deployment.aws.client_as("secretsmanager", role)
    assert all(is_denied(lambda: secrets.get_secret_value(SecretId=name)) for name in deployment.secrets.values())
    assert is_denied(
        lambda: deployment.aws.client_as("lambda", role).delete_function(FunctionName=deployment.functions["plan-run"])
    )


def test_schedule_only_starts_runs(deployment):
    scheduler = deployment.client("scheduler")
    (schedule,) = scheduler.list_schedules()["Schedules"]
    target = scheduler.get_schedule(Name=schedule["Name"], GroupName=schedule["GroupName"])["Target"]
    assert target["Arn"] == deployment.starter
    starter = deployment.client("stepfunctions").describe_state_machine(stateMachineArn=deployment.starter)["roleArn"]
    for role, machine in ((target["RoleArn"], deployment.starter), (starter, deployment.machine)):
        states = deployment.aws.client_as("stepfunctions", role)
        # With an invalid name the call is authorized, but starts no execution.
        with pytest.raises(ClientError) as error:
            states.start_execution(stateMachineArn=machine, name="no<name>")
        assert error.value.response["Error"]["Code"] == "InvalidName"
        other = deployment.machine if machine == deployment.starter else deployment.starter
        assert is_denied(lambda: states.start_execution(stateMachineArn=other))
        assert is_denied(lambda: states.stop_execution(executionArn=machine))
        assert is_denied(lambda: deployment.aws.client_as("lambda", role).invoke(FunctionName=deployment.functions["plan-run"]))
