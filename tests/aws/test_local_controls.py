"""The local AWS is as slow, as eventually consistent and as unreliable as AWS where a test sets it."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from aws import ACCOUNT, REGION
from fakes import code_of

HOUR = 3600


@pytest.fixture(scope="module")
def s3(local_aws):
    local_aws.client("s3").create_bucket(Bucket="controls")
    return local_aws.client("s3")


def status_of(error) -> int:
    return error.value.response["ResponseMetadata"]["HTTPStatusCode"]


def test_latency_delays_each_call_and_blocks_no_other(local_aws, s3):
    s3.put_object(Bucket="controls", Key="slow", Body=b"body")

    def get(_=None):
        return s3.get_object(Bucket="controls", Key="slow")["Body"].read()

    with local_aws.settings(latency_ms=500), ThreadPoolExecutor(10) as pool:
        start = time.monotonic()
        get()
        one = time.monotonic()
        assert set(pool.map(get, range(10))) == {b"body"}
        ten = time.monotonic()
    assert one - start >= 0.5 and 0.5 <= ten - one < 10 * 0.5


def test_ordered_answers_are_given_to_matching_requests(local_aws, s3):
    for key in ("a/1", "b/1"):
        s3.put_object(Bucket="controls", Key=key, Body=b"body")
    with local_aws.answers("GET", "controls/a/*", 503, "SlowDown", times=2):
        assert s3.get_object(Bucket="controls", Key="b/1")["Body"].read() == b"body"
        assert s3.head_object(Bucket="controls", Key="a/1")["ContentLength"] == 4
        for _ in range(2):
            with pytest.raises(ClientError) as error:
                s3.get_object(Bucket="controls", Key="a/1")
            assert (code_of(error), status_of(error)) == ("SlowDown", 503)
        assert s3.get_object(Bucket="controls", Key="a/1")["Body"].read() == b"body"
    with pytest.raises(AssertionError, match="fewer requests"), local_aws.answers("GET", "controls/a/*", 503):
        pass
    assert s3.get_object(Bucket="controls", Key="a/1")["Body"].read() == b"body", "the answer is cancelled"


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "OperationAborted"])
def test_refused_write_has_no_effect_and_lost_answer_does_not_undo_one(local_aws, s3, code):
    with local_aws.answers("PUT", "controls/written", 409, code), pytest.raises(ClientError) as error:
        s3.put_object(Bucket="controls", Key="written", Body=b"1", IfNoneMatch="*")
    assert (code_of(error), status_of(error)) == (code, 409)
    lost = local_aws.answers("PUT", "controls/written", 500, "InternalError", is_done=True)
    with lost, pytest.raises(ClientError) as error:
        s3.put_object(Bucket="controls", Key="written", Body=b"1", IfNoneMatch="*")
    assert code_of(error) == "InternalError"
    assert s3.get_object(Bucket="controls", Key="written")["Body"].read() == b"1"
    s3.delete_object(Bucket="controls", Key="written")


def test_answer_to_the_end_of_an_upload_does_not_concern_its_parts(local_aws, s3):
    names = {"Bucket": "controls", "Key": "upload"}
    with local_aws.answers("POST", "controls/upload", 409, "OperationAborted", query="uploadId"):
        upload = s3.create_multipart_upload(**names, ChecksumAlgorithm="CRC32")["UploadId"]
        part = s3.upload_part(**names, UploadId=upload, PartNumber=1, Body=b"part")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]}]}
        with pytest.raises(ClientError) as error:
            s3.complete_multipart_upload(**names, UploadId=upload, MultipartUpload=parts)
        assert code_of(error) == "OperationAborted"
    s3.complete_multipart_upload(**names, UploadId=upload, MultipartUpload=parts)


def head(local_aws, key: str) -> tuple[int, bytes, bytes]:
    """Sends a HEAD and returns the status, the headers, and all bytes after them, which a client would not show."""
    host, port = local_aws.endpoint.removeprefix("http://").split(":")
    signed = f"AWS4-HMAC-SHA256 Credential=administrator/20260101/{REGION}/s3/aws4_request"
    request = f"HEAD /controls/{key} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {signed}\r\nConnection: close\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(request.encode())
        response = b"".join(iter(lambda: connection.recv(65536), b""))
    headers, _, body = response.partition(b"\r\n\r\n")
    return int(headers.split()[1]), headers.lower(), body


@pytest.mark.parametrize("status", [400, 403, 404, 409, 500, 503])
def test_error_of_a_head_has_no_body_and_no_code(local_aws, s3, status):
    with local_aws.answers("HEAD", "controls/gone", status, "SomeCode"):
        actual, headers, body = head(local_aws, "gone")
    assert (actual, body) == (status, b"") and b"x-amzn-errortype" not in headers


def test_head_of_a_missing_object_has_no_body_and_no_code(local_aws, s3):
    status, headers, body = head(local_aws, "no-such-object")
    assert (status, body) == (404, b"") and b"x-amzn-errortype" not in headers


def test_denied_head_and_invalid_token_have_no_body_and_no_code(local_aws, role, s3):
    s3.put_object(Bucket="controls", Key="object", Body=b"")
    denied = local_aws.client_as("s3", role("controls-denied", "lambda.amazonaws.com"))
    with pytest.raises(ClientError) as error:
        denied.head_object(Bucket="controls", Key="object")
    assert (code_of(error), status_of(error)) == ("403", 403)
    assert "x-amzn-errortype" not in error.value.response["ResponseMetadata"]["HTTPHeaders"]
    unknown = local_aws.client_with("s3", "ASIAUNKNOWN", "secret", "token")
    with pytest.raises(ClientError) as error:
        unknown.head_object(Bucket="controls", Key="object")
    assert (code_of(error), status_of(error)) == ("400", 400)
    with pytest.raises(ClientError) as error:
        unknown.get_object(Bucket="controls", Key="object")
    assert (code_of(error), status_of(error)) == ("InvalidToken", 400)


@pytest.mark.parametrize(
    ("announced", "sent"), [(None, "CRC32"), (None, "SHA256"), ("SHA256", "CRC32"), ("CRC32", "SHA256"), ("CRC32", None)]
)
def test_part_with_another_checksum_than_announced_is_refused(local_aws, s3, announced, sent):
    names = {"Bucket": "controls", "Key": "announced"}
    upload = s3.create_multipart_upload(**names, **({"ChecksumAlgorithm": announced} if announced else {}))["UploadId"]
    part = {**names, "UploadId": upload, "PartNumber": 1, "Body": b"part"}
    with pytest.raises(ClientError) as error:
        if sent:
            s3.upload_part(**part, ChecksumAlgorithm=sent)
        else:
            local_aws.client_without_checksums("s3").upload_part(**part)
    assert code_of(error) == "InvalidRequest"
    expected = f"expected checksum Type: {(announced or 'null').lower()}, actual checksum Type: {(sent or 'null').lower()}"
    assert expected in error.value.response["Error"]["Message"]


def test_upload_without_checksums_is_complete_without_them(local_aws, s3):
    names, plain = {"Bucket": "controls", "Key": "plain"}, local_aws.client_without_checksums("s3")
    upload = plain.create_multipart_upload(**names)["UploadId"]
    part = plain.upload_part(**names, UploadId=upload, PartNumber=1, Body=b"part")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": part}]}
    plain.complete_multipart_upload(**names, UploadId=upload, MultipartUpload=parts)
    assert s3.get_object(**names)["Body"].read() == b"part"


@pytest.fixture(scope="module")
def start(local_aws, role):
    """Returns a function that starts an execution of a definition, and returns its ARN and that of its machine."""
    role_arn, names, states = role("controls-machine", "states.amazonaws.com"), [], local_aws.client("stepfunctions")

    def start(state: dict) -> tuple[str, str]:
        names.append(name := f"controls-{len(names)}")
        definition = json.dumps({"StartAt": "a", "States": {"a": {**state, "End": True}}})
        machine = states.create_state_machine(name=name, definition=definition, roleArn=role_arn)["stateMachineArn"]
        return states.start_execution(stateMachineArn=machine)["executionArn"], machine

    return start


def wait(states, execution: str) -> dict:
    while (end := states.describe_execution(executionArn=execution))["status"] == "RUNNING":
        time.sleep(0.05)
    return end


def test_listing_shows_the_start_and_the_end_of_an_execution_late(local_aws, start):
    states = local_aws.client("stepfunctions")

    def listed(machine: str, **filters) -> list[str]:
        return [entry["status"] for entry in states.list_executions(stateMachineArn=machine, **filters)["executions"]]

    with local_aws.settings(listing_delay=HOUR):
        execution, machine = start({"Type": "Pass"})
        assert wait(states, execution)["status"] == "SUCCEEDED"
        assert listed(machine) == []
    assert listed(machine) == ["SUCCEEDED"]
    assert listed(machine, statusFilter="RUNNING") == [] and listed(machine, statusFilter="SUCCEEDED") == ["SUCCEEDED"]


def test_listings_of_executions_are_paged_newest_first(local_aws, start):
    states = local_aws.client("stepfunctions")
    first, machine = start({"Type": "Pass"})
    others = [states.start_execution(stateMachineArn=machine)["executionArn"] for _ in range(2)]
    pages = states.get_paginator("list_executions").paginate(stateMachineArn=machine, PaginationConfig={"PageSize": 2})
    pages = [[entry["executionArn"] for entry in page["executions"]] for page in pages]
    assert pages == [others[::-1], [first]]


def test_description_shows_the_end_of_an_execution_late(local_aws, start):
    states = local_aws.client("stepfunctions")
    execution, _ = start({"Type": "Pass", "Result": {"done": True}})
    end = wait(states, execution)
    assert json.loads(end["output"]) == {"done": True}
    with local_aws.settings(description_delay=HOUR):
        described = states.describe_execution(executionArn=execution)
    assert described["status"] == "RUNNING" and not {"output", "stopDate"} & described.keys()
    assert described["startDate"] == end["startDate"] and described["input"] == "{}"


def test_new_execution_is_unknown_for_a_time(local_aws, start):
    states = local_aws.client("stepfunctions")
    with local_aws.settings(unknown_delay=HOUR):
        execution, _ = start({"Type": "Pass"})
        with pytest.raises(states.exceptions.ExecutionDoesNotExist):
            states.describe_execution(executionArn=execution)
    assert wait(states, execution)["status"] == "SUCCEEDED"


# A task whose attempts fail, because the role of the machine allows no call. They are an hour apart.
FAILING = {
    "Type": "Task",
    "Resource": "arn:aws:states:::lambda:invoke",
    "Parameters": {"FunctionName": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:none"},
    "Retry": [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": HOUR, "MaxAttempts": 2}],
}


def test_stopped_execution_ends_at_once(local_aws, start):
    states = local_aws.client("stepfunctions")
    execution, machine = start(FAILING)
    states.stop_execution(executionArn=execution)
    described = states.describe_execution(executionArn=execution)
    assert described["status"] == "ABORTED" and described["stopDate"] >= described["startDate"]
    assert [entry["status"] for entry in states.list_executions(stateMachineArn=machine)["executions"]] == ["ABORTED"]


def test_intervals_of_retries_can_be_shortened(local_aws, start):
    states = local_aws.client("stepfunctions")
    with local_aws.settings(retry_interval_factor=0):
        execution, _ = start(FAILING)
        assert wait(states, execution)["status"] == "FAILED"
    history = states.get_execution_history(executionArn=execution)["events"]
    assert len([event for event in history if event["type"] == "TaskScheduled"]) == 3
