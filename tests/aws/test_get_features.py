"""get-features returns the published rows, called by Lambda's API and by its URL, and its role can do nothing else."""

import json
import time
import urllib.error
import urllib.request
from urllib.parse import urlparse

import pyarrow.parquet
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from aws import REGION
from defi import days
from fakes import allow, document

LAST = days()[1]
TABLES = ("db_analytics_dev.defi_features", "db_analytics_dev.defi_features_history")
UNKNOWN = "0x" + "0" * 39 + "7"

# The time in seconds that each call of AWS takes while waits are counted: longer than all else that a busy machine does.
LATENCY = 1.5


@pytest.fixture(scope="module")
def rows(deployment, folder_lake) -> dict[str, dict]:
    """Publishes the sets of a local run, and returns the rows of the newest by wallet."""
    deployment.empty()
    s3, glue = deployment.client("s3"), deployment.client("glue")
    for key, body in folder_lake.objects().items():
        if key.startswith(("analytics/features/defi_features/", "state/passed/")):
            s3.put_object(Bucket=deployment.bucket, Key=key, Body=body)
    for name, table in folder_lake.tables().items():
        if name in TABLES:
            database, table_name = name.split(".")
            storage = {"Location": f"s3://{deployment.bucket}/{table['location']}/"}
            glue.create_table(
                DatabaseName=database,
                TableInput={"Name": table_name, "StorageDescriptor": storage, "Parameters": table["parameters"]},
            )
            for values, location in folder_lake.partitions(name).items():
                partition = {"Values": list(values), "StorageDescriptor": {"Location": f"s3://{deployment.bucket}/{location}/"}}
                glue.create_partition(DatabaseName=database, TableName=table_name, PartitionInput=partition)
    folder = folder_lake.folder / f"analytics/features/defi_features/as_of={LAST}"
    files = sorted(folder.glob("*.parquet"))
    assert len(files) > 1, "several shards"
    read = [row for file in files for row in pyarrow.parquet.ParquetFile(file).read().to_pylist()]
    return {row["wallet_address"]: row for row in read}


def test_rows_are_the_published_ones(deployment, rows):
    wallets = sorted(rows)[::2]
    failed, answer, size = deployment.call("get-features", {"wallets": [*wallets, UNKNOWN]})
    assert not failed and size < 6 << 20, answer
    assert (answer["as_of"], answer["unknown"]) == (LAST, [UNKNOWN])
    assert answer["rows"] == [rows[wallet] for wallet in wallets] and len(wallets) > 10
    assert answer["age_seconds"] > 86_400


def test_day_without_a_set_is_refused(deployment, rows):
    failed, answer, _ = deployment.call("get-features", {"as_of": "2020-01-01"})
    assert failed and answer["errorType"] == "BadInput" and LAST in answer["errorMessage"], answer


def test_warm_call_waits_for_one_call_of_aws_and_a_cold_one_for_two(deployment, rows):
    """With 30 ms a call these are 30 and 60 ms. The shards are small: their ends have all pages, which saves a third wait."""
    wallet = sorted(rows)[0]

    def waits() -> int:
        start = time.perf_counter()
        failed, answer, _ = deployment.call("get-features", {"wallets": [wallet]})
        assert not failed and answer["rows"] == [rows[wallet]], answer
        return int((time.perf_counter() - start) / LATENCY)

    # The function restarts.
    with deployment.configured(["get-features"]), deployment.aws.settings(latency_ms=LATENCY * 1000):
        assert [waits(), waits(), waits()] == [2, 1, 1]


def request(deployment, body: bytes, signer: Credentials | None, method: str = "POST") -> tuple[int, dict]:
    """Sends a request to the URL of the function, signed if there is a signer. Returns the status and the answer."""
    url = deployment.features_url
    signed = AWSRequest(method, url, data=body, headers={"Content-Type": "application/json", "Host": urlparse(url).netloc})
    if signer:
        SigV4Auth(signer, "lambda", REGION).add_auth(signed)
    # The local AWS has one endpoint, and tells URLs apart by the host.
    sent = urllib.request.Request(deployment.aws.endpoint, data=body, headers=dict(signed.headers), method=method)
    try:
        with urllib.request.urlopen(sent) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.fixture
def caller(deployment):
    """Returns a function that returns the credentials of a role with some statements."""
    iam, names = deployment.client("iam"), []

    def create(*statements: dict) -> Credentials:
        names.append(f"caller-{len(names)}")
        trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
        role = iam.create_role(RoleName=names[-1], AssumeRolePolicyDocument=document(trust))["Role"]["Arn"]
        if statements:
            iam.put_role_policy(RoleName=names[-1], PolicyName="call", PolicyDocument=document(*statements))
        found = deployment.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
        return Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])

    yield create
    for name in names:
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
            iam.delete_role_policy(RoleName=name, PolicyName=policy)
        iam.delete_role(RoleName=name)


def test_url_answers_only_to_whom_iam_allows(deployment, rows, caller):
    wallet = sorted(rows)[1]
    body = json.dumps({"wallets": [wallet.upper().replace("0X", "0x")], "features": ["risk_factor"]}).encode()
    function = deployment.client("lambda").get_function_configuration(FunctionName=deployment.functions["get-features"])
    actions = ["lambda:InvokeFunctionUrl", "lambda:InvokeFunction"]
    allowed = caller(allow(actions, f"{function['FunctionArn']}:live"))
    status, answer = request(deployment, body, allowed)
    assert status == 200, answer
    assert answer["rows"] == [{"wallet_address": wallet, "risk_factor": rows[wallet]["risk_factor"]}]
    assert request(deployment, body, None)[0] == 403, "not signed"
    others = (caller(), caller(allow("s3:GetObject", "*")), caller(allow(actions, f"{function['FunctionArn'].replace('get-', 'x-')}:live")))
    assert [request(deployment, body, other)[0] for other in others] == [403] * 3


def test_url_answers_errors_with_their_status(deployment, rows, caller):
    function = deployment.client("lambda").get_function_configuration(FunctionName=deployment.functions["get-features"])
    signer = caller(allow(["lambda:InvokeFunctionUrl", "lambda:InvokeFunction"], f"{function['FunctionArn']}:live"))
    for body, said in (
        (b"{", "not JSON"),
        (b'{"wallets": ["0x1"]}', "wallets[0]"),
        (b'{"wallet": []}', "unknown field"),
        (b'{"features": ["risk_facto"]}', "risk_facto"),
    ):
        status, answer = request(deployment, body, signer)
        assert (status, answer["error"]) == (400, "BadInput") and said in answer["message"], answer
    assert request(deployment, b"", signer, "DELETE")[0] == 400


def test_url_is_of_iam(deployment):
    config = deployment.client("lambda").get_function_url_config(FunctionName=deployment.functions["get-features"])
    assert config["AuthType"] == "AWS_IAM" and config["FunctionUrl"] == deployment.features_url


def test_role_reads_the_published_sets_and_nothing_else(deployment, rows):
    role, bucket = deployment.role_of("get-features"), deployment.bucket
    s3, glue = (deployment.aws.client_as(service, role) for service in ("s3", "glue"))
    key = f"analytics/features/defi_features/as_of={LAST}/0.parquet"
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() and glue.get_table(DatabaseName="db_analytics_dev", Name="defi_features")
    for call in (
        lambda: s3.put_object(Bucket=bucket, Key=key, Body=b""),
        lambda: s3.put_object(Bucket=bucket, Key="runs/lease.json", Body=b""),
        lambda: s3.delete_object(Bucket=bucket, Key=key),
        lambda: s3.get_object(Bucket=bucket, Key="raw/x"),
        lambda: s3.get_object(Bucket=bucket, Key="runs/x"),
        lambda: s3.list_objects_v2(Bucket=bucket, Prefix="raw/"),
        lambda: glue.get_table(DatabaseName="db_raw_dev", Name="ethereum_daily_blocks"),
    ):
        with pytest.raises(ClientError, match="AccessDenied|not authorized|403"):
            call()
