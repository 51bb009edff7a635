"""Two environments in one account, deployed by `make deploy` from two checkouts to the local AWS: dev with the defaults,
prod with every option. Their functions are fakes, so that nothing is built."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from aws import ACCOUNT, LocalAws
from checkout import Checkout
from conftest import missing_requirement
from packages import FUNCTIONS

READER = f"arn:aws:iam::{ACCOUNT}:role/reader"
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/boundary"
STATE_KEY = "env:/{}/defi-features/terraform.tfstate"
WAIT_SECONDS = 120

pytestmark = pytest.mark.skipif(missing_requirement() is not None, reason="Terraform is missing")


@dataclass
class Environments:
    aws: LocalAws
    dev: Checkout
    prod: Checkout
    key: str

    def outputs(self, environment: str) -> dict:
        checkout = getattr(self, environment)
        return {name: output["value"] for name, output in json.loads(checkout.terraform("output", "-json")).items()}

    def client(self, service: str):
        return self.aws.client(service)


@pytest.fixture(scope="module")
def environments(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("environments")
    with LocalAws(folder / "functions") as aws:
        key = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
        checkouts = {name: Checkout(folder / name, aws.environment()) for name in ("dev", "prod")}
        checkouts["dev"].set_variables("dev", {"force_destroy": True})
        checkouts["prod"].set_variables(
            "prod",
            {
                "kms_key_arn": key,
                "permissions_boundary": BOUNDARY,
                "lake_formation": {"readers": [READER]},
                "first_day": "2023-02-20",
                "test_events": True,
                "test_event_registry": True,
            },
        )

        def deploy(name: str) -> None:
            checkout = checkouts[name]
            refused = checkout.attempt("make", "deploy", f"ENV={name}")
            assert refused.returncode and f"infra/create-state-bucket {name}" in refused.stderr, refused.stderr
            assert not (checkout.folder / "target/lambda").exists(), "packages were built before the state was known to have a bucket"
            checkout.run("infra/create-state-bucket", name, "-auto-approve")
            checkout.make("deploy", name, TF_APPLY="-auto-approve -parallelism=30")

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(deploy, checkouts))
        yield Environments(aws, **checkouts, key=key)


def test_environments_share_nothing(environments):
    outputs = {name: environments.outputs(name) for name in ("dev", "prod")}
    for name, found in outputs.items():
        assert found["environment"] == name and found["lake_bucket"] == f"data-lakehouse-{name}-{ACCOUNT}"
        assert set(found["functions"]) == set(FUNCTIONS)
    dev, prod = (json.dumps(found) for found in outputs.values())
    assert "defi-prod" not in dev and "defi-dev" not in prod


def test_packages_are_those_that_were_deployed(environments):
    for name in ("dev", "prod"):
        packages = sorted((getattr(environments, name).folder / "target/package/x86_64").glob("*.zip"))
        assert [package.stem for package in packages] == sorted(FUNCTIONS)
        for package in packages:
            code = environments.client("lambda").get_function_configuration(FunctionName=f"defi-{name}-{package.stem}:live")
            assert code["CodeSize"] == package.stat().st_size


def copy_backend_of_prod(environments) -> None:
    """Tells the checkout of dev where the state of prod is, as a commit does."""
    name = "infra/env/prod.s3.tfbackend"
    (environments.dev.folder / name).write_text((environments.prod.folder / name).read_text())


def test_each_state_is_in_a_bucket_of_its_own(environments):
    s3 = environments.client("s3")
    for name in ("dev", "prod"):
        bucket = f"defi-{name}-terraform-state-{ACCOUNT}"
        assert [found["Key"] for found in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [STATE_KEY.format(name)]
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
        assert f'bucket = "{bucket}"' in (getattr(environments, name).folder / f"infra/env/{name}.s3.tfbackend").read_text()
        assert not list((getattr(environments, name).folder / "infra").glob("terraform.tfstate*"))


def test_locked_state_is_not_changed(environments):
    s3, bucket = environments.client("s3"), f"defi-dev-terraform-state-{ACCOUNT}"
    lock = {"ID": "1", "Operation": "OperationTypeApply", "Who": "somebody", "Created": "2023-03-01T00:00:00Z"}
    s3.put_object(Bucket=bucket, Key=f"{STATE_KEY.format('dev')}.tflock", Body=json.dumps(lock))
    try:
        refused = environments.dev.attempt("make", "deploy", "ENV=dev", "TF_APPLY=-auto-approve")
    finally:
        s3.delete_object(Bucket=bucket, Key=f"{STATE_KEY.format('dev')}.tflock")
    assert refused.returncode and "Error acquiring the state lock" in refused.stderr and "somebody" in refused.stderr


def test_local_state_is_not_ignored_but_migrated(environments):
    dev, s3, bucket = environments.dev, environments.client("s3"), f"defi-dev-terraform-state-{ACCOUNT}"
    state = dev.folder / "infra/terraform.tfstate.d/dev/terraform.tfstate"
    other = dev.folder / "infra/terraform.tfstate.d/prod/terraform.tfstate"
    for path in (state, other):
        path.parent.mkdir(parents=True)
        path.write_text(dev.terraform("state", "pull"))
    s3.delete_object(Bucket=bucket, Key=STATE_KEY.format("dev"))
    refused = dev.attempt("make", "deploy", "ENV=dev", "TF_APPLY=-auto-approve")
    assert refused.returncode and "infra/init-environment dev --migrate" in refused.stderr
    dev.run("infra/init-environment", "dev", "--migrate")
    assert not state.exists() and len(dev.terraform("state", "list").split()) > 100
    moved = dev.folder / "infra/local-states"
    assert (moved / "dev/terraform.tfstate.migrated").exists() and (moved / "prod/terraform.tfstate").exists()
    copy_backend_of_prod(environments)
    refused = dev.attempt("infra/init-environment", "prod")
    assert refused.returncode and "there is a local state" in refused.stderr, "the state of prod is not ignored either"
    dev.run("infra/init-environment", "dev")
    shutil.rmtree(moved)


def test_options_of_prod(environments):
    client, key = environments.client, environments.key
    for name in ("lake_bucket", "workgroup"):
        assert environments.outputs("prod")[name]
    for suffix in ("", "-athena"):
        (rule,) = client("s3").get_bucket_encryption(Bucket=f"data-lakehouse-prod-{ACCOUNT}{suffix}")[
            "ServerSideEncryptionConfiguration"
        ]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    assert client("secretsmanager").describe_secret(SecretId="defi-prod/graph-api-key")["KmsKeyId"] == key
    topic = client("sns").get_topic_attributes(TopicArn=environments.outputs("prod")["topic_arn"])["Attributes"]
    assert topic["KmsMasterKeyId"] == key
    groups = client("logs").describe_log_groups(logGroupNamePrefix="/aws/lambda/defi-prod-")["logGroups"]
    assert len(groups) == len(FUNCTIONS) and {group["kmsKeyId"] for group in groups} == {key}
    for role in client("iam").list_roles()["Roles"]:
        found = client("iam").get_role(RoleName=role["RoleName"])["Role"].get("PermissionsBoundary", {})
        assert (found.get("PermissionsBoundaryArn") == BOUNDARY) == role["RoleName"].startswith("defi-prod-"), role["RoleName"]
    policy = client("iam").get_role_policy(RoleName="defi-prod-stage-events", PolicyName="stage-events")["PolicyDocument"]
    assert {"kms:Decrypt", "kms:GenerateDataKey"} == {
        action for statement in policy["Statement"] if statement["Sid"] == "Key" for action in statement["Action"]
    }


def test_lake_formation_grants(environments):
    grants = environments.client("lakeformation").list_permissions(MaxResults=500)["PrincipalResourcePermissions"]
    granted = {
        (grant["Principal"]["DataLakePrincipalIdentifier"].rpartition("/")[2], kind, permission)
        for grant in grants
        for kind in grant["Resource"]
        for permission in grant["Permissions"]
    }
    assert ("defi-prod-stage-events", "Database", "CREATE_TABLE") in granted
    assert ("defi-prod-stage-events", "Table", "ALTER") in granted
    assert ("defi-prod-report-run", "Database", "CREATE_TABLE") not in granted
    assert ("reader", "Table", "SELECT") in granted
    assert not [who for who, _, _ in granted if who.startswith("defi-dev-")]


def test_reader_reads_but_changes_nothing(environments):
    iam, bucket = environments.client("iam"), f"data-lakehouse-dev-{ACCOUNT}"
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}
    role = iam.create_role(RoleName="reader", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    iam.put_role_policy(RoleName="reader", PolicyName="read", PolicyDocument=environments.outputs("dev")["reader_policy"])
    s3, glue = (environments.aws.client_as(service, role) for service in ("s3", "glue"))
    environments.client("s3").put_object(Bucket=bucket, Key="raw/x", Body=b"x")
    assert s3.get_object(Bucket=bucket, Key="raw/x")["Body"].read() == b"x"
    assert s3.list_objects_v2(Bucket=bucket, Prefix="raw/")["KeyCount"] == 1
    s3.put_object(Bucket=f"{bucket}-athena", Key="results/x", Body=b"x")
    glue.get_tables(DatabaseName="db_raw_dev")
    for call in (
        lambda: s3.put_object(Bucket=bucket, Key="raw/x", Body=b"y"),
        lambda: s3.delete_object(Bucket=bucket, Key="raw/x"),
        lambda: s3.get_object(Bucket=bucket, Key="runs/x"),
        lambda: glue.create_table(DatabaseName="db_raw_dev", TableInput={"Name": "x"}),
        lambda: glue.get_tables(DatabaseName="db_raw_prod"),
    ):
        with pytest.raises(Exception, match="not authorized|AccessDenied"):
            call()


@pytest.mark.parametrize("name, expected", [("dev", {}), ("prod", {"from": "2023-02-20"})])
def test_schedule_passes_its_time_and_the_first_day(environments, name, expected):
    target = environments.client("scheduler").get_schedule(Name=f"defi-{name}")["Target"]
    assert "<aws.scheduler.scheduled-time>" in target["Input"], "EventBridge Scheduler replaces only this text"
    assert json.loads(target["Input"])["input"] == expected
    assert target["Arn"] == environments.outputs(name)["starter_arn"]


def wait(environments, arn: str) -> dict:
    states, deadline = environments.client("stepfunctions"), time.monotonic() + WAIT_SECONDS
    while (end := states.describe_execution(executionArn=arn))["status"] == "RUNNING":
        assert time.monotonic() < deadline, f"{arn} still runs"
        time.sleep(0.1)
    return end


def started(environments, time_of_schedule: str) -> str:
    """Starts the starter as EventBridge Scheduler does, and returns the status with which it ended."""
    target = environments.client("scheduler").get_schedule(Name="defi-dev")["Target"]
    text = target["Input"].replace("<aws.scheduler.scheduled-time>", time_of_schedule)
    starter = environments.client("stepfunctions").start_execution(stateMachineArn=target["Arn"], input=text)
    return wait(environments, starter["executionArn"])["status"]


def runs(environments) -> dict[str, str]:
    """Returns the ARNs of the executions of dev, by name."""
    pages = environments.client("stepfunctions").get_paginator("list_executions")
    found = pages.paginate(stateMachineArn=environments.outputs("dev")["state_machine_arn"]).build_full_result()
    return {execution["name"]: execution["executionArn"] for execution in found["executions"]}


def test_scheduled_time_starts_one_run(environments):
    environments.dev.gate.touch()
    before = runs(environments)
    assert started(environments, "2023-03-01T00:30:00Z") == "SUCCEEDED"
    (name,) = runs(environments).keys() - before.keys()
    assert name == "scheduled-2023-03-01T00-30"
    assert started(environments, "2023-03-01T00:30:00Z") == "SUCCEEDED", "a second start during the run"
    assert wait(environments, runs(environments)[name])["status"] == "SUCCEEDED"
    assert started(environments, "2023-03-01T00:30:00Z") == "SUCCEEDED", "a second start after the run"
    assert runs(environments).keys() - before.keys() == {name}
    assert started(environments, "2023-03-02T00:30:00Z") == "SUCCEEDED"
    (next_day,) = runs(environments).keys() - before.keys() - {name}
    assert wait(environments, runs(environments)[next_day])["status"] == "SUCCEEDED"


def test_deployment_during_a_run_changes_nothing_for_that_run(environments):
    dev, states = environments.dev, environments.client("stepfunctions")
    machine = environments.outputs("dev")["state_machine_arn"]
    before = len(dev.notes())
    dev.gate.unlink(missing_ok=True)
    run = states.start_execution(stateMachineArn=machine, input="{}")["executionArn"]
    deadline = time.monotonic() + WAIT_SECONDS
    while len(dev.notes()) == before:
        assert time.monotonic() < deadline, "plan-run was not called"
        time.sleep(0.05)

    dev.set_generation("second")
    dev.make("deploy", "dev", TF_APPLY="-auto-approve -parallelism=30 -var log_level=debug")
    assert set(environments.outputs("dev")["versions"].values()) == {"2"}
    dev.gate.touch()
    assert wait(environments, run)["status"] == "SUCCEEDED"
    first = dev.notes()[before:]
    expected = {"plan-run", "stage-events", "check-features", "publish-features", "report-run"}
    assert {note["step"] for note in first} == expected, "one of the calls is an item of a map"
    assert {(note["generation"], note["log"]) for note in first} == {("first", "info")}

    run = states.start_execution(stateMachineArn=machine, input="{}")["executionArn"]
    assert wait(environments, run)["status"] == "SUCCEEDED"
    second = dev.notes()[before + len(first) :]
    assert {note["step"] for note in second} == expected
    assert {(note["generation"], note["log"]) for note in second} == {("second", "debug")}


def test_prod_is_not_destroyed(environments):
    prod = environments.prod
    before = prod.terraform("state", "list")
    for command in (
        ("make", "destroy", "ENV=prod", "TF_APPLY=-auto-approve"),
        ("make", "destroy", "ENV=prod", "TF_APPLY=-auto-approve -target=module.lake"),
        ("make", "destroy", "ENV=prod", 'TF_APPLY=-auto-approve -target=aws_glue_catalog_database.layer'),
        ("make", "deploy", "ENV=prod", "TF_APPLY=-auto-approve -var lake_bucket=another-bucket"),
        ("make", "deploy", "ENV=prod", "TF_APPLY=-auto-approve -replace=module.lake.aws_s3_bucket.this"),
    ):
        refused = prod.attempt(*command)
        assert refused.returncode and "terraform_data.protected" in refused.stderr, (command, refused.stdout[-3000:], refused.stderr[-3000:])
    assert prod.terraform("state", "list") == before
    environments.client("s3").head_bucket(Bucket=f"data-lakehouse-prod-{ACCOUNT}")


def test_dev_is_destroyed_alone(environments):
    dev = environments.dev
    before = environments.prod.terraform("state", "list")
    dev.make("destroy", "dev", TF_APPLY="-auto-approve")
    assert dev.terraform("state", "list") == ""
    left = [function["FunctionName"] for function in environments.client("lambda").list_functions()["Functions"]]
    assert sorted(left) == sorted(f"defi-prod-{step}" for step in FUNCTIONS)
    assert environments.prod.terraform("state", "list") == before


def test_one_checkout_switches_between_environments(environments):
    copy_backend_of_prod(environments)
    environments.dev.run("infra/init-environment", "prod")
    assert environments.dev.terraform("state", "list") == environments.prod.terraform("state", "list")
    environments.dev.run("infra/init-environment", "dev")
    assert environments.dev.terraform("state", "list") == ""
