"""The local AWS does what AWS does where the project relies on it: else what is proven on it proves nothing."""

import io
import json
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from aws import ACCOUNT, REGION

# A function that does as it is told: the other end of the Runtime API in as little as that takes.
BOOTSTRAP = """#!{python}
import json, os, sys, time, urllib.request as http
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime"
if os.environ.get("FAIL_TO_START"):
    body = json.dumps({{"errorType": "Internal", "errorMessage": "no configuration"}}).encode()
    http.urlopen(http.Request(api + "/init/error", body)).read()
    sys.exit(1)
while True:
    call = http.urlopen(api + "/invocation/next")
    request, event, kept = call.headers["Lambda-Runtime-Aws-Request-Id"], json.load(call), None
    outcome, answer = "response", event
    match event.get("do"):
        case "environment": answer = dict(os.environ)
        case "sleep": time.sleep(event["seconds"])
        case "allocate": kept = bytearray(event["megabytes"] << 20); time.sleep(0.3)
        case "exit": os._exit(3)
        case "fail": outcome, answer = "error", {{"errorType": event["kind"], "errorMessage": "as told"}}
        case "answer": answer = "x" * event["bytes"]
        case "process": answer = os.getpid()
    print("did", event.get("do"), flush=True)
    http.urlopen(http.Request(api + "/invocation/" + request + "/" + outcome, json.dumps(answer).encode())).read()
"""


@pytest.fixture(scope="module")
def role(local_aws):
    """Makes a role that a service may assume, with these statements."""

    def make(name: str, service: str, *statements: dict) -> str:
        iam = local_aws.client("iam")
        trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trust))["Role"]["Arn"]
        if statements:
            iam.put_role_policy(RoleName=name, PolicyName="policy", PolicyDocument=document(*statements))
        return arn

    return make


def document(*statements: dict) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: str | list[str], resource: str | list[str], **conditions: dict) -> dict:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **({"Condition": conditions} if conditions else {})}


@pytest.fixture(scope="module")
def function(local_aws, role):
    """Makes a function that does as it is told."""

    def make(name: str, *statements: dict, trusted: str = "lambda.amazonaws.com", **configuration) -> str:
        package = io.BytesIO()
        with zipfile.ZipFile(package, "w") as archive:
            entry = zipfile.ZipInfo("bootstrap")
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, BOOTSTRAP.format(python=sys.executable))
        local_aws.client("lambda").create_function(
            FunctionName=name,
            Role=role(name, trusted, *statements),
            Runtime="provided.al2023",
            Handler="bootstrap",
            Code={"ZipFile": package.getvalue()},
            **configuration,
        )
        return name

    return make


def call(local_aws, name: str, **event):
    """What a function answers; an error as its kind and message."""
    answer = local_aws.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event))
    payload = json.loads(answer["Payload"].read())
    return (payload["errorType"], payload["errorMessage"]) if "FunctionError" in answer else payload


def code_of(refused) -> str:
    return refused.value.response["Error"]["Code"]


class TestFunctions:
    def test_a_function_sees_its_own_environment_and_nothing_of_the_host(self, local_aws, function, monkeypatch):
        function("environment", Environment={"Variables": {"LAKE": "s3://lake"}}, MemorySize=256)
        seen = call(local_aws, "environment", do="environment")
        assert seen["LAKE"] == "s3://lake"
        assert seen["AWS_LAMBDA_FUNCTION_NAME"] == "environment"
        assert seen["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
        assert seen["AWS_ACCESS_KEY_ID"].startswith("ASIA") and seen["AWS_SESSION_TOKEN"]
        # LC_CTYPE is Python's own doing.
        own = {name for name in seen if not name.startswith(("AWS_", "LAMBDA_", "LC_"))}
        assert own == {"LAKE", "_HANDLER", "LANG", "PATH", "TZ", "TMPDIR"}

    def test_a_changed_configuration_reaches_the_next_call(self, local_aws, function):
        function("changed", Environment={"Variables": {"LAKE": "before"}})
        assert call(local_aws, "changed", do="environment")["LAKE"] == "before"
        local_aws.client("lambda").update_function_configuration(
            FunctionName="changed", Environment={"Variables": {"LAKE": "after"}}
        )
        assert call(local_aws, "changed", do="environment")["LAKE"] == "after"

    def test_errors_have_their_kind(self, local_aws, function):
        function("errors", Timeout=1, MemorySize=128)
        assert call(local_aws, "errors", do="fail", kind="Throttled") == ("Throttled", "as told")
        kind, message = call(local_aws, "errors", do="sleep", seconds=5)
        assert kind == "Sandbox.Timedout" and "Task timed out after 1.00 seconds" in message
        kind, message = call(local_aws, "errors", do="exit")
        assert kind == "Runtime.ExitError" and "exit status 3" in message
        kind, message = call(local_aws, "errors", do="allocate", megabytes=200)
        assert kind == "Runtime.ExitError" and "signal: killed" in message
        assert call(local_aws, "errors", do="answer", bytes=7_000_000)[0] == "Function.ResponseSizeTooLarge"
        assert call(local_aws, "errors", do="echo") == {"do": "echo"}

    def test_a_function_that_fails_to_start_says_why(self, local_aws, function):
        function("start", Environment={"Variables": {"FAIL_TO_START": "1"}})
        assert call(local_aws, "start") == ("Internal", "no configuration")

    def test_calls_at_once_have_a_process_each_and_later_ones_share_them(self, local_aws, function):
        function("processes", Timeout=10)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda _: call(local_aws, "processes", do="sleep", seconds=1), range(3)))
        with ThreadPoolExecutor(3) as pool:
            first = set(pool.map(lambda _: call(local_aws, "processes", do="process"), range(3)))
        second = {call(local_aws, "processes", do="process") for _ in range(3)}
        assert second & first and len(second) == 1

    def test_reserved_concurrency_is_a_limit(self, local_aws, function):
        function("reserved", Timeout=10)
        local_aws.client("lambda").put_function_concurrency(FunctionName="reserved", ReservedConcurrentExecutions=1)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(call, local_aws, "reserved", do="sleep", seconds=2)
            time.sleep(0.8)
            with pytest.raises(ClientError) as refused:
                call(local_aws, "reserved", do="echo")
            assert code_of(refused) == "TooManyRequestsException"
            running.result()
        assert call(local_aws, "reserved", do="echo") == {"do": "echo"}

    def test_a_role_has_to_trust_lambda(self, local_aws, function):
        function("untrusted", trusted="states.amazonaws.com")
        kind, message = call(local_aws, "untrusted", do="echo")
        assert kind == "Runtime.InvalidEntrypoint" and "does not let lambda.amazonaws.com assume it" in message

    def test_output_goes_to_the_log_group_if_the_role_lets_it(self, local_aws, function):
        logs = local_aws.client("logs")
        for name in ("logged", "unlogged"):
            logs.create_log_group(logGroupName=f"/aws/lambda/{name}")
        group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/logged:*"
        function("logged", allow(["logs:CreateLogStream", "logs:PutLogEvents"], group))
        function("unlogged")
        for name in ("logged", "unlogged"):
            assert call(local_aws, name, do="echo") == {"do": "echo"}
        messages = [event["message"] for event in logs.filter_log_events(logGroupName="/aws/lambda/logged")["events"]]
        assert "did echo" in messages and any(message.startswith("REPORT RequestId") for message in messages)
        assert not logs.filter_log_events(logGroupName="/aws/lambda/unlogged")["events"]


class TestRoles:
    @pytest.fixture(scope="class")
    def s3(self, local_aws):
        s3 = local_aws.client("s3")
        s3.create_bucket(Bucket="guarded")
        s3.put_object(Bucket="guarded", Key="raw/a", Body=b"a")
        s3.put_object(Bucket="guarded", Key="stage/a", Body=b"a")
        return s3

    def test_objects_are_held_to_prefixes(self, local_aws, role, s3):
        guarded = local_aws.client_as("s3", role("objects", "lambda.amazonaws.com", allow("s3:GetObject", "arn:aws:s3:::guarded/raw/*")))
        assert guarded.get_object(Bucket="guarded", Key="raw/a")["Body"].read() == b"a"
        with pytest.raises(ClientError) as refused:
            guarded.get_object(Bucket="guarded", Key="stage/a")
        assert code_of(refused) == "AccessDenied" and "s3:GetObject" in str(refused.value)
        for forbidden in (
            lambda: guarded.put_object(Bucket="guarded", Key="raw/b", Body=b"b"),
            lambda: guarded.delete_object(Bucket="guarded", Key="raw/a"),
            lambda: guarded.create_multipart_upload(Bucket="guarded", Key="raw/b"),
            lambda: guarded.copy_object(Bucket="guarded", Key="raw/b", CopySource="guarded/raw/a"),
            lambda: guarded.delete_objects(Bucket="guarded", Delete={"Objects": [{"Key": "raw/a"}]}),
            lambda: guarded.get_bucket_policy(Bucket="guarded"),
            lambda: guarded.list_buckets(),
        ):
            with pytest.raises(ClientError) as refused:
                forbidden()
            assert code_of(refused) == "AccessDenied"
        with pytest.raises(ClientError) as refused:
            guarded.head_object(Bucket="guarded", Key="stage/a")
        assert code_of(refused) == "403"
        assert s3.list_objects_v2(Bucket="guarded")["KeyCount"] == 2

    def test_listings_are_held_to_the_prefix_condition(self, local_aws, role, s3):
        listing = allow("s3:ListBucket", "arn:aws:s3:::guarded", StringLike={"s3:prefix": ["raw/*"]})
        guarded = local_aws.client_as("s3", role("listings", "lambda.amazonaws.com", listing))
        assert guarded.list_objects_v2(Bucket="guarded", Prefix="raw/")["KeyCount"] == 1
        for arguments in ({"Prefix": "stage/"}, {"Prefix": ""}, {}):
            with pytest.raises(ClientError) as refused:
                guarded.list_objects_v2(Bucket="guarded", **arguments)
            assert code_of(refused) == "AccessDenied"

    def test_a_missing_object_is_missing_only_to_who_may_list_it(self, local_aws, role, s3):
        reading = allow("s3:GetObject", "arn:aws:s3:::guarded/*")
        listing = allow("s3:ListBucket", "arn:aws:s3:::guarded", StringLikeIfExists={"s3:prefix": ["raw/*"]})
        guarded = local_aws.client_as("s3", role("missing", "lambda.amazonaws.com", reading, listing))
        for key, status in (("raw/none", "404"), ("stage/none", "403")):
            with pytest.raises(ClientError) as refused:
                guarded.head_object(Bucket="guarded", Key=key)
            assert code_of(refused) == status

    def test_glue_asks_for_catalog_database_and_table(self, local_aws, role):
        glue, arn = local_aws.client("glue"), f"arn:aws:glue:{REGION}:{ACCOUNT}"
        for database in ("db_raw", "db_stage"):
            glue.create_database(DatabaseInput={"Name": database})
            glue.create_table(DatabaseName=database, TableInput={"Name": "events"})
        statement = allow("glue:GetTable", [f"{arn}:catalog", f"{arn}:database/db_raw", f"{arn}:table/db_raw/*"])
        guarded = local_aws.client_as("glue", role("glue", "lambda.amazonaws.com", statement))
        assert guarded.get_table(DatabaseName="db_raw", Name="events")["Table"]["Name"] == "events"
        for forbidden in (
            lambda: guarded.get_table(DatabaseName="db_stage", Name="events"),
            lambda: guarded.get_database(Name="db_raw"),
            lambda: guarded.create_table(DatabaseName="db_raw", TableInput={"Name": "others"}),
            lambda: guarded.get_partitions(DatabaseName="db_raw", TableName="events"),
        ):
            with pytest.raises(ClientError) as refused:
                forbidden()
            assert code_of(refused) == "AccessDeniedException"
        no_catalog = allow("glue:GetTable", [f"{arn}:database/db_raw", f"{arn}:table/db_raw/*"])
        guarded = local_aws.client_as("glue", role("glue-without-catalog", "lambda.amazonaws.com", no_catalog))
        with pytest.raises(ClientError) as refused:
            guarded.get_table(DatabaseName="db_raw", Name="events")
        assert code_of(refused) == "AccessDeniedException"

    def test_a_secret_is_held_to_its_arn_by_whatever_name(self, local_aws, role):
        secrets = local_aws.client("secretsmanager")
        arns = {name: secrets.create_secret(Name=name, SecretString="key")["ARN"] for name in ("ours", "theirs")}
        reading = allow("secretsmanager:GetSecretValue", arns["ours"])
        guarded = local_aws.client_as("secretsmanager", role("secrets", "lambda.amazonaws.com", reading))
        for name in ("ours", arns["ours"]):
            assert guarded.get_secret_value(SecretId=name)["SecretString"] == "key"
        for name in ("theirs", arns["theirs"]):
            with pytest.raises(ClientError) as refused:
                guarded.get_secret_value(SecretId=name)
            assert code_of(refused) == "AccessDeniedException"

    def test_other_services_too(self, local_aws, role):
        arn = role("nothing", "lambda.amazonaws.com")
        topic = local_aws.client("sns").create_topic(Name="guarded")["TopicArn"]
        for service, refusal, forbidden in (
            ("sns", "AuthorizationError", lambda client: client.publish(TopicArn=topic, Message="m")),
            ("stepfunctions", "AccessDeniedException", lambda client: client.list_state_machines()),
            ("logs", "AccessDeniedException", lambda client: client.create_log_stream(logGroupName="g", logStreamName="s")),
            ("lambda", "AccessDeniedException", lambda client: client.invoke(FunctionName="any")),
            ("sqs", "AccessDeniedException", lambda client: client.list_queues()),
            ("cloudwatch", "AccessDeniedException", lambda client: client.put_metric_data(Namespace="n", MetricData=[])),
        ):
            with pytest.raises(ClientError) as refused:
                forbidden(local_aws.client_as(service, arn))
            assert code_of(refused) == refusal, service

    def test_an_explicit_deny_wins(self, local_aws, role, s3):
        deny = {"Effect": "Deny", "Action": "s3:Get*", "Resource": "arn:aws:s3:::guarded/raw/*"}
        guarded = local_aws.client_as("s3", role("deny", "lambda.amazonaws.com", allow("s3:*", "*"), deny))
        assert guarded.get_object(Bucket="guarded", Key="stage/a")
        with pytest.raises(ClientError):
            guarded.get_object(Bucket="guarded", Key="raw/a")

    def test_a_session_that_no_one_began_is_refused(self, local_aws):
        stranger = local_aws.client_with("secretsmanager", "ASIAAAAAAAAAAAAAAAAA", "secret", "token")
        with pytest.raises(ClientError) as refused:
            stranger.list_secrets()
        assert code_of(refused) == "InvalidClientTokenIdException"


class TestObjects:
    @pytest.fixture(scope="class")
    def s3(self, local_aws):
        local_aws.client("s3").create_bucket(Bucket="objects")
        return local_aws.client("s3")

    def test_a_policy_against_what_is_not_tls_lets_everything_pass(self, s3):
        s3.create_bucket(Bucket="tls-only")
        deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::tls-only/*"}
        s3.put_bucket_policy(Bucket="tls-only", Policy=document({**deny, "Condition": {"Bool": {"aws:SecureTransport": "false"}}}))
        s3.put_object(Bucket="tls-only", Key="key", Body=b"body")
        assert s3.get_object(Bucket="tls-only", Key="key")["Body"].read() == b"body"
        s3.put_bucket_policy(Bucket="tls-only", Policy=document(deny))
        with pytest.raises(ClientError):
            s3.get_object(Bucket="tls-only", Key="key")

    def test_conditional_writes(self, s3):
        etag = s3.put_object(Bucket="objects", Key="state", Body=b"1", IfNoneMatch="*")["ETag"]
        for arguments in ({"IfNoneMatch": "*"}, {"IfMatch": '"0123456789abcdef0123456789abcdef"'}):
            with pytest.raises(ClientError) as refused:
                s3.put_object(Bucket="objects", Key="state", Body=b"2", **arguments)
            assert code_of(refused) == "PreconditionFailed"
            assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
        assert s3.get_object(Bucket="objects", Key="state")["Body"].read() == b"1"
        s3.put_object(Bucket="objects", Key="state", Body=b"2", IfMatch=etag)
        assert s3.get_object(Bucket="objects", Key="state")["Body"].read() == b"2"
        with pytest.raises(ClientError) as refused:
            s3.put_object(Bucket="objects", Key="missing", Body=b"2", IfMatch=etag)
        assert code_of(refused) == "NoSuchKey"

    def test_conditional_writes_of_several_parts(self, s3):
        def upload(**condition):
            names = {"Bucket": "objects", "Key": "large"}
            upload = s3.create_multipart_upload(**names)["UploadId"]
            part = s3.upload_part(**names, UploadId=upload, PartNumber=1, Body=b"part")["ETag"]
            parts = {"Parts": [{"ETag": part, "PartNumber": 1}]}
            return s3.complete_multipart_upload(**names, UploadId=upload, MultipartUpload=parts, **condition)["ETag"]

        etag = upload(IfNoneMatch="*")
        for arguments in ({"IfNoneMatch": "*"}, {"IfMatch": '"0123456789abcdef0123456789abcdef-1"'}):
            with pytest.raises(ClientError) as refused:
                upload(**arguments)
            assert code_of(refused) == "PreconditionFailed"
        upload(IfMatch=etag)

    @pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA256"])
    def test_checksums_and_metadata_come_back(self, s3, algorithm):
        try:
            s3.put_object(Bucket="objects", Key="sum", Body=b"body", ChecksumAlgorithm=algorithm, Metadata={"unit": "day"})
        except Exception as cause:
            # The client computes some of them only with a library of its own; those are not what is tested here.
            if "MissingDependency" not in type(cause).__name__:
                raise
            values = {"CRC32C": "MbM8lQ==", "CRC64NVME": "AAAAAAAAAAA="}
            s3.put_object(Bucket="objects", Key="sum", Body=b"body", **{f"Checksum{algorithm}": values[algorithm]}, Metadata={"unit": "day"})
        head = s3.head_object(Bucket="objects", Key="sum", ChecksumMode="ENABLED")
        assert head[f"Checksum{algorithm}"] and head["Metadata"] == {"unit": "day"}

    def test_a_wrong_checksum_is_refused(self, s3):
        with pytest.raises(ClientError) as refused:
            s3.put_object(Bucket="objects", Key="wrong", Body=b"body", ChecksumSHA256="x" * 43 + "=")
        assert code_of(refused) in ("BadDigest", "InvalidRequest")

    def test_listings_come_in_pages(self, s3):
        s3.create_bucket(Bucket="pages")
        keys = [f"raw/{number:03}" for number in range(7)]
        for key in keys:
            s3.put_object(Bucket="pages", Key=key, Body=b"")
        pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket="pages", Prefix="raw/", PaginationConfig={"PageSize": 3}))
        assert [[entry["Key"] for entry in page["Contents"]] for page in pages] == [keys[:3], keys[3:6], keys[6:]]
        assert [page["IsTruncated"] for page in pages] == [True, True, False]


class TestCatalog:
    @pytest.fixture(scope="class")
    def glue(self, local_aws):
        glue = local_aws.client("glue")
        glue.create_database(DatabaseInput={"Name": "catalog"})
        keys = [{"Name": "year", "Type": "string"}, {"Name": "month", "Type": "string"}]
        glue.create_table(DatabaseName="catalog", TableInput={"Name": "days", "PartitionKeys": keys, "StorageDescriptor": columns()})
        return glue

    def test_partitions_that_are_there_are_errors_of_their_own(self, glue):
        add = [{"Values": ["2023", f"{month:02}"], "StorageDescriptor": columns()} for month in range(1, 13)]
        assert not glue.batch_create_partition(DatabaseName="catalog", TableName="days", PartitionInputList=add[:10]).get("Errors")
        errors = glue.batch_create_partition(DatabaseName="catalog", TableName="days", PartitionInputList=add)["Errors"]
        assert [error["PartitionValues"][1] for error in errors] == [f"{month:02}" for month in range(1, 11)]
        assert {error["ErrorDetail"]["ErrorCode"] for error in errors} == {"AlreadyExistsException"}
        paginator = glue.get_paginator("get_partitions")
        pages = list(paginator.paginate(DatabaseName="catalog", TableName="days", PaginationConfig={"PageSize": 5}, ExcludeColumnSchema=True))
        found = [partition["Values"][1] for page in pages for partition in page["Partitions"]]
        assert sorted(found) == [f"{month:02}" for month in range(1, 13)] and len(pages) == 3

    def test_no_more_than_a_hundred_partitions_at_once(self, glue):
        add = [{"Values": ["1999", str(number)], "StorageDescriptor": columns()} for number in range(101)]
        with pytest.raises(ClientError):
            glue.batch_create_partition(DatabaseName="catalog", TableName="days", PartitionInputList=add)

    def test_a_table_has_versions(self, glue):
        def update(name: str, **arguments):
            table = {"Name": "versions", "StorageDescriptor": columns(name)}
            glue.update_table(DatabaseName="catalog", TableInput=table, **arguments)

        def version() -> str:
            return glue.get_table(DatabaseName="catalog", Name="versions")["Table"]["VersionId"]

        glue.create_table(DatabaseName="catalog", TableInput={"Name": "versions", "StorageDescriptor": columns()})
        first = version()
        update("b", VersionId=first)
        assert version() != first
        with pytest.raises(ClientError) as refused:
            update("c", VersionId=first)
        assert code_of(refused) == "ConcurrentModificationException"
        kept = len(glue.get_table_versions(DatabaseName="catalog", TableName="versions")["TableVersions"])
        update("d", VersionId=version(), SkipArchive=True)
        assert len(glue.get_table_versions(DatabaseName="catalog", TableName="versions")["TableVersions"]) == kept


def columns(name: str = "a") -> dict:
    return {"Columns": [{"Name": name, "Type": "string"}], "Location": "s3://catalog/days/"}


def test_an_empty_secret_has_no_value(local_aws):
    secrets = local_aws.client("secretsmanager")
    secrets.create_secret(Name="empty")
    with pytest.raises(ClientError) as refused:
        secrets.get_secret_value(SecretId="empty")
    assert code_of(refused) == "ResourceNotFoundException"


class TestStateMachines:
    @pytest.fixture(scope="class")
    def machine(self, local_aws, role, function):
        """Runs a definition, and gives its end."""
        function("worker", Timeout=20)
        local_aws.client("s3").create_bucket(Bucket="items")
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:worker"
        statements = [allow("lambda:InvokeFunction", arn), allow("s3:GetObject", "arn:aws:s3:::items/allowed/*")]
        role_arn = role("machine", "states.amazonaws.com", *statements)
        states, made = local_aws.client("stepfunctions"), []

        def run(definition: dict, given: dict | None = None) -> dict:
            made.append(name := f"machine-{len(made)}")
            arn = states.create_state_machine(name=name, definition=json.dumps(definition), roleArn=role_arn)["stateMachineArn"]
            execution = states.start_execution(stateMachineArn=arn, input=json.dumps(given or {}))["executionArn"]
            while (end := states.describe_execution(executionArn=execution))["status"] == "RUNNING":
                time.sleep(0.05)
            return end

        return run

    def task(self, **payload) -> dict:
        parameters = {"FunctionName": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:worker", "Payload": payload}
        return {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Parameters": parameters, "OutputPath": "$.Payload", "End": True}

    def over_items(self, item: dict, **fields) -> dict:
        processor = {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
            "StartAt": "item",
            "States": {"item": item},
        }
        return {"StartAt": "map", "States": {"map": {"Type": "Map", "ItemProcessor": processor, "End": True, **fields}}}

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("$.items[*].failed[*]", []),
            ("$.one[*].failed[*]", ["a"]),
            ("$.one[*]", [{"failed": ["a"]}]),
            ("$.one[0].failed[0]", "a"),
            ("$.one[0]", {"failed": ["a"]}),
            ("$.one[?(@.failed)]", [{"failed": ["a"]}]),
            ("$.names['with-hyphen'].key", "k"),
        ],
    )
    def test_paths_are_read_as_step_functions_reads_them(self, machine, path, value):
        given = {"items": [{"failed": []}], "one": [{"failed": ["a"]}], "names": {"with-hyphen": {"key": "k"}}}
        end = machine({"StartAt": "p", "States": {"p": {"Type": "Pass", "Parameters": {"value.$": path}, "End": True}}}, given)
        assert json.loads(end["output"]) == {"value": value}

    def test_an_execution_knows_its_name(self, machine):
        end = machine({"StartAt": "p", "States": {"p": {"Type": "Pass", "Parameters": {"execution.$": "$$.Execution"}, "End": True}}})
        execution = json.loads(end["output"])["execution"]
        assert execution["Id"] == end["executionArn"] and execution["Name"] == end["name"] and execution["Id"].endswith(end["name"])
        assert execution["StartTime"].startswith("20")

    def test_a_failed_item_fails_the_map(self, machine):
        item = self.task(**{"do": "fail", "kind.$": "$.kind"})
        good = {"Type": "Choice", "Choices": [{"Variable": "$.kind", "IsPresent": True, "Next": "fails"}], "Default": "passes"}
        definition = self.over_items(good)
        definition["States"]["map"]["ItemProcessor"]["States"] |= {"fails": item, "passes": {"Type": "Succeed"}}
        definition["States"]["map"]["ItemsPath"] = "$.items"
        assert json.loads(machine(definition, {"items": [{}, {}]})["output"]) == [{}, {}]
        end = machine(definition, {"items": [{}, {"kind": "CorruptData"}, {}]})
        assert (end["status"], end["error"]) == ("FAILED", "States.ExceedToleratedFailureThreshold")
        definition["States"]["map"]["ToleratedFailureCount"] = 1
        assert machine(definition, {"items": [{}, {"kind": "CorruptData"}, {}]})["status"] == "SUCCEEDED"

    def test_a_caught_item_does_not_fail_the_map(self, machine):
        caught = {"ErrorEquals": ["States.ALL"], "Next": "failed"}
        item = {**self.task(do="fail", kind="CorruptData"), "Catch": [caught]}
        definition = self.over_items(item, ItemsPath="$.items")
        definition["States"]["map"]["ItemProcessor"]["States"]["failed"] = {
            "Type": "Pass",
            "Parameters": {"error.$": "$.Error"},
            "End": True,
        }
        end = machine(definition, {"items": [1, 2]})
        assert json.loads(end["output"]) == [{"error": "CorruptData"}] * 2

    def test_an_item_is_an_execution_of_its_own(self, machine):
        item = {"Type": "Pass", "Parameters": {"id.$": "$$.Execution.Id"}, "End": True}
        end = machine(self.over_items(item, ItemsPath="$.items"), {"items": [1, 2]})
        names = {answer["id"] for answer in json.loads(end["output"])}
        assert len(names) == 2 and end["executionArn"] not in names

    def test_items_are_read_with_the_role_of_the_machine(self, machine, local_aws):
        for folder in ("allowed", "forbidden"):
            local_aws.client("s3").put_object(Bucket="items", Key=f"{folder}/batch.json", Body=b'[{"a": 1}, {"a": 2}]')
        item = {"Type": "Pass", "OutputPath": "$.a", "End": True}
        reader = {"Resource": "arn:aws:states:::s3:getObject", "ReaderConfig": {"InputType": "JSON"}}
        parameters = {"Bucket": "items", "Key": "allowed/batch.json"}
        assert json.loads(machine(self.over_items(item, ItemReader={**reader, "Parameters": parameters}))["output"]) == [1, 2]
        for key in ("forbidden/batch.json", "allowed/none.json"):
            definition = self.over_items(item, ItemReader={**reader, "Parameters": {**parameters, "Key": key}})
            end = machine(definition)
            assert (end["status"], end["error"]) == ("FAILED", "States.ItemReaderFailed")

    def test_functions_are_called_with_the_role_of_the_machine(self, machine):
        task = self.task(do="echo")
        assert json.loads(machine({"StartAt": "t", "States": {"t": task}})["output"]) == {"do": "echo"}
        task["Parameters"]["FunctionName"] = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:processes"
        end = machine({"StartAt": "t", "States": {"t": task}})
        assert end["error"] == "Lambda.AWSLambdaException" and "lambda:InvokeFunction" in end["cause"]

    def test_the_kind_of_a_functions_error_is_the_error(self, machine):
        end = machine({"StartAt": "t", "States": {"t": self.task(do="fail", kind="BadInput")}})
        assert end["status"] == "FAILED" and end["error"] == "BadInput"
        assert json.loads(end["cause"])["errorMessage"] == "as told"

    def test_too_large_a_payload_ends_the_execution_past_every_catch(self, machine):
        task = {**self.task(do="answer", bytes=300_000), "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "caught"}]}
        end = machine({"StartAt": "t", "States": {"t": task, "caught": {"Type": "Succeed"}}})
        assert (end["status"], end["error"]) == ("FAILED", "States.DataLimitExceeded")

    def test_a_transition_that_leads_nowhere_is_refused(self, machine):
        there = {"Type": "Pass", "End": True}
        for wrong in (
            {"StartAt": "a", "States": {"a": {"Type": "Pass", "Next": "b"}}},
            {"StartAt": "b", "States": {"a": there}},
            {"StartAt": "a", "States": {"a": there, "b": there}},
            {"StartAt": "a", "States": {"a": {**self.task(), "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "b"}]}}},
            {"StartAt": "a", "States": {"a": {"Type": "Choice", "Choices": [], "Default": "b"}}},
            self.over_items({"Type": "Pass", "Next": "b"}),
        ):
            with pytest.raises(ClientError) as refused:
                machine(wrong)
            assert code_of(refused) == "InvalidDefinition", wrong

    def test_executions_are_listed_by_status_and_told_in_pages(self, machine, local_aws):
        end = machine({"StartAt": "w", "States": {"w": {"Type": "Wait", "Seconds": 1, "Next": "p"}, "p": {"Type": "Pass", "End": True}}})
        states, arn = local_aws.client("stepfunctions"), end["stateMachineArn"]
        running = states.start_execution(stateMachineArn=arn, name="second")["executionArn"]
        listed = states.list_executions(stateMachineArn=arn, statusFilter="RUNNING")["executions"]
        assert [execution["executionArn"] for execution in listed] == [running]
        paginator = states.get_paginator("get_execution_history")
        pages = list(paginator.paginate(executionArn=end["executionArn"], PaginationConfig={"PageSize": 2}))
        events = [event["type"] for page in pages for event in page["events"]]
        assert events[0] == "ExecutionStarted" and events[-1] == "ExecutionSucceeded" and len(pages) > 2
        newest = states.get_execution_history(executionArn=end["executionArn"], reverseOrder=True, maxResults=1)["events"]
        assert [event["type"] for event in newest] == ["ExecutionSucceeded"]


def test_messages_reach_a_queue(local_aws):
    sns, sqs = local_aws.client("sns"), local_aws.client("sqs")
    topic = sns.create_topic(Name="messages")["TopicArn"]
    queue = sqs.create_queue(QueueName="messages")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    filtered = {"RawMessageDelivery": "true", "FilterPolicy": json.dumps({"outcome": ["failed"]})}
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=filtered)
    for outcome in ("succeeded", "failed"):
        attributes = {"outcome": {"DataType": "String", "StringValue": outcome}}
        sns.publish(TopicArn=topic, Message=f"it {outcome}", MessageAttributes=attributes)
    messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    assert [message["Body"] for message in messages] == ["it failed"]
