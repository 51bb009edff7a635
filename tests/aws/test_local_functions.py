"""The local AWS behaves like AWS where the project relies on it, so that the tests on it are meaningful: functions."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from aws import ACCOUNT, REGION
from fakes import allow, call, code_of, package


def test_function_environment_has_no_host_variables(local_aws, function, monkeypatch):
    function("environment", Environment={"Variables": {"LAKE": "s3://lake"}}, MemorySize=256)
    seen = call(local_aws, "environment", do="environment")
    assert seen["LAKE"] == "s3://lake"
    assert seen["AWS_LAMBDA_FUNCTION_NAME"] == "environment"
    assert seen["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert seen["AWS_ACCESS_KEY_ID"].startswith("ASIA") and seen["AWS_SESSION_TOKEN"]
    # Python itself sets LC_CTYPE.
    own = {name for name in seen if not name.startswith(("AWS_", "LAMBDA_", "LC_"))}
    assert own == {"LAKE", "_HANDLER", "LANG", "PATH", "TZ", "TMPDIR"}


def test_next_call_uses_a_changed_configuration(local_aws, function):
    function("changed", Environment={"Variables": {"LAKE": "before"}})
    assert call(local_aws, "changed", do="environment")["LAKE"] == "before"
    local_aws.client("lambda").update_function_configuration(
        FunctionName="changed", Environment={"Variables": {"LAKE": "after"}}
    )
    assert call(local_aws, "changed", do="environment")["LAKE"] == "after"


def test_version_keeps_its_code_and_configuration(local_aws, function):
    function("versions", Environment={"Variables": {"LAKE": "first"}}, Publish=True)
    functions = local_aws.client("lambda")
    functions.create_alias(FunctionName="versions", Name="live", FunctionVersion="1")
    functions.update_function_configuration(FunctionName="versions", Environment={"Variables": {"LAKE": "second"}})
    functions.update_function_code(FunctionName="versions", ZipFile=package("# changed"), Publish=True)
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:versions"
    for name, lake, version in (
        ("versions", "second", "$LATEST"),
        ("versions:1", "first", "1"),
        (f"{arn}:1", "first", "1"),
        (f"{arn}:2", "second", "2"),
        (f"{arn}:live", "first", "1"),
    ):
        seen = call(local_aws, name, do="environment")
        assert (seen["LAKE"], seen["AWS_LAMBDA_FUNCTION_VERSION"]) == (lake, version), name
    code = {name: call(local_aws, name, do="environment")["LAMBDA_TASK_ROOT"] for name in (f"{arn}:1", f"{arn}:2", arn)}
    assert code[f"{arn}:1"] != code[f"{arn}:2"] == code[arn]

    functions.update_alias(FunctionName="versions", Name="live", FunctionVersion="2")
    assert call(local_aws, f"{arn}:live", do="environment")["LAKE"] == "second"
    with pytest.raises(ClientError) as error:
        call(local_aws, f"{arn}:3", do="echo")
    assert code_of(error) == "ResourceNotFoundException"


def test_version_is_published_only_after_a_change_and_its_number_is_not_used_again(local_aws, function):
    function("numbers", Publish=True)
    functions = local_aws.client("lambda")

    def publish() -> str:
        return functions.publish_version(FunctionName="numbers")["Version"]

    assert publish() == "1", "nothing changed"
    functions.update_function_configuration(FunctionName="numbers", Timeout=7)
    assert publish() == "2"
    functions.delete_function(FunctionName="numbers", Qualifier="2")
    functions.update_function_configuration(FunctionName="numbers", Timeout=8)
    assert publish() == "3"
    assert call(local_aws, "numbers:3", do="echo") == {"do": "echo"}


def test_versions_share_the_reserved_concurrency(local_aws, function):
    function("shared", Timeout=10, Publish=True)
    local_aws.client("lambda").put_function_concurrency(FunctionName="shared", ReservedConcurrentExecutions=0)
    for name in ("shared", "shared:1"):
        with pytest.raises(ClientError) as error:
            call(local_aws, name, do="echo")
        assert code_of(error) == "TooManyRequestsException"


def test_errors_have_their_kind(local_aws, function):
    function("errors", Timeout=1, MemorySize=128)
    assert call(local_aws, "errors", do="fail", kind="Throttled") == ("Throttled", "simulated failure")
    kind, message = call(local_aws, "errors", do="sleep", seconds=5)
    assert kind == "Sandbox.Timedout" and "Task timed out after 1.00 seconds" in message
    kind, message = call(local_aws, "errors", do="exit")
    assert kind == "Runtime.ExitError" and "exit status 3" in message
    kind, message = call(local_aws, "errors", do="allocate", megabytes=200)
    assert kind == "Runtime.ExitError" and "signal: killed" in message
    assert call(local_aws, "errors", do="answer", bytes=7_000_000)[0] == "Function.ResponseSizeTooLarge"
    assert call(local_aws, "errors", do="echo") == {"do": "echo"}


def test_failure_to_start_is_reported(local_aws, function):
    function("start", Environment={"Variables": {"FAIL_TO_START": "1"}})
    assert call(local_aws, "start") == ("Internal", "no configuration")


def test_concurrent_calls_have_own_processes_that_are_reused(local_aws, function):
    function("processes", Timeout=10)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: call(local_aws, "processes", do="sleep", seconds=1), range(3)))
    with ThreadPoolExecutor(3) as pool:
        first = set(pool.map(lambda _: call(local_aws, "processes", do="process"), range(3)))
    second = {call(local_aws, "processes", do="process") for _ in range(3)}
    assert second & first and len(second) == 1


def test_reserved_concurrency_is_a_limit(local_aws, function):
    function("reserved", Timeout=10)
    local_aws.client("lambda").put_function_concurrency(FunctionName="reserved", ReservedConcurrentExecutions=1)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(call, local_aws, "reserved", do="sleep", seconds=2)
        time.sleep(0.8)
        with pytest.raises(ClientError) as error:
            call(local_aws, "reserved", do="echo")
        assert code_of(error) == "TooManyRequestsException"
        running.result()
    assert call(local_aws, "reserved", do="echo") == {"do": "echo"}


def test_account_limits_concurrent_calls_and_memory(local_aws, function):
    function("limited", MemorySize=256)
    with local_aws.settings(concurrent_calls=0, function_memory=256):
        with pytest.raises(ClientError) as error:
            call(local_aws, "limited", do="echo")
        assert code_of(error) == "TooManyRequestsException"
        for change in (
            lambda: function("larger", MemorySize=257),
            lambda: local_aws.client("lambda").update_function_configuration(FunctionName="limited", MemorySize=257),
        ):
            with pytest.raises(ClientError) as error:
                change()
            assert code_of(error) == "InvalidParameterValueException"
    assert call(local_aws, "limited", do="echo") == {"do": "echo"}


def test_role_must_trust_lambda(local_aws, function):
    function("untrusted", trusted="states.amazonaws.com")
    kind, message = call(local_aws, "untrusted", do="echo")
    assert kind == "Runtime.InvalidEntrypoint" and "does not let lambda.amazonaws.com assume it" in message


def test_output_is_logged_if_the_role_allows_it(local_aws, function):
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
