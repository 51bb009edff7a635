"""The local AWS behaves like AWS where the project relies on it, so that the tests on it are meaningful: state
machines."""

import json
import time

import pytest
from botocore.exceptions import ClientError

from aws import ACCOUNT, REGION
from fakes import allow, code_of


@pytest.fixture(scope="module")
def machine(local_aws, role, function):
    """Returns a function that runs a definition and returns the description of the ended execution."""
    function("worker", Timeout=20)
    local_aws.client("s3").create_bucket(Bucket="items")
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:worker"
    statements = [allow("lambda:InvokeFunction", arn), allow("s3:GetObject", "arn:aws:s3:::items/allowed/*")]
    role_arn = role("machine", "states.amazonaws.com", *statements)
    states, names = local_aws.client("stepfunctions"), []

    def run(definition: dict, run_input: dict | None = None) -> dict:
        names.append(name := f"machine-{len(names)}")
        arn = states.create_state_machine(name=name, definition=json.dumps(definition), roleArn=role_arn)["stateMachineArn"]
        execution = states.start_execution(stateMachineArn=arn, input=json.dumps(run_input or {}))["executionArn"]
        while (end := states.describe_execution(executionArn=execution))["status"] == "RUNNING":
            time.sleep(0.05)
        return end

    return run


def worker(**payload) -> dict:
    parameters = {"FunctionName": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:worker", "Payload": payload}
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": parameters,
        "OutputPath": "$.Payload",
        "End": True,
    }


def over_items(item: dict, **fields) -> dict:
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
def test_paths_are_evaluated_as_in_step_functions(machine, path, value):
    run_input = {"items": [{"failed": []}], "one": [{"failed": ["a"]}], "names": {"with-hyphen": {"key": "k"}}}
    end = machine({"StartAt": "p", "States": {"p": {"Type": "Pass", "Parameters": {"value.$": path}, "End": True}}}, run_input)
    assert json.loads(end["output"]) == {"value": value}


def test_execution_context_has_name_and_start_time(machine):
    end = machine(
        {"StartAt": "p", "States": {"p": {"Type": "Pass", "Parameters": {"execution.$": "$$.Execution"}, "End": True}}}
    )
    execution = json.loads(end["output"])["execution"]
    assert execution["Id"] == end["executionArn"] and execution["Name"] == end["name"] and execution["Id"].endswith(end["name"])
    assert execution["StartTime"].startswith("20")


def test_failed_item_fails_the_map(machine):
    item = worker(**{"do": "fail", "kind.$": "$.kind"})
    good = {"Type": "Choice", "Choices": [{"Variable": "$.kind", "IsPresent": True, "Next": "fails"}], "Default": "passes"}
    definition = over_items(good)
    definition["States"]["map"]["ItemProcessor"]["States"] |= {"fails": item, "passes": {"Type": "Succeed"}}
    definition["States"]["map"]["ItemsPath"] = "$.items"
    assert json.loads(machine(definition, {"items": [{}, {}]})["output"]) == [{}, {}]
    end = machine(definition, {"items": [{}, {"kind": "CorruptData"}, {}]})
    assert (end["status"], end["error"]) == ("FAILED", "States.ExceedToleratedFailureThreshold")
    definition["States"]["map"]["ToleratedFailureCount"] = 1
    assert machine(definition, {"items": [{}, {"kind": "CorruptData"}, {}]})["status"] == "SUCCEEDED"


def test_caught_item_does_not_fail_the_map(machine):
    caught = {"ErrorEquals": ["States.ALL"], "Next": "failed"}
    item = {**worker(do="fail", kind="CorruptData"), "Catch": [caught]}
    definition = over_items(item, ItemsPath="$.items")
    definition["States"]["map"]["ItemProcessor"]["States"]["failed"] = {
        "Type": "Pass",
        "Parameters": {"error.$": "$.Error"},
        "End": True,
    }
    end = machine(definition, {"items": [1, 2]})
    assert json.loads(end["output"]) == [{"error": "CorruptData"}] * 2


def test_each_item_is_a_separate_execution(machine):
    item = {"Type": "Pass", "Parameters": {"id.$": "$$.Execution.Id"}, "End": True}
    end = machine(over_items(item, ItemsPath="$.items"), {"items": [1, 2]})
    names = {answer["id"] for answer in json.loads(end["output"])}
    assert len(names) == 2 and end["executionArn"] not in names


def test_items_are_read_with_the_role_of_the_machine(machine, local_aws):
    for folder in ("allowed", "forbidden"):
        local_aws.client("s3").put_object(Bucket="items", Key=f"{folder}/batch.json", Body=b'[{"a": 1}, {"a": 2}]')
    item = {"Type": "Pass", "OutputPath": "$.a", "End": True}
    reader = {"Resource": "arn:aws:states:::s3:getObject", "ReaderConfig": {"InputType": "JSON"}}
    parameters = {"Bucket": "items", "Key": "allowed/batch.json"}
    assert json.loads(machine(over_items(item, ItemReader={**reader, "Parameters": parameters}))["output"]) == [1, 2]
    for key in ("forbidden/batch.json", "allowed/none.json"):
        definition = over_items(item, ItemReader={**reader, "Parameters": {**parameters, "Key": key}})
        end = machine(definition)
        assert (end["status"], end["error"]) == ("FAILED", "States.ItemReaderFailed")


def test_functions_are_called_with_the_role_of_the_machine(machine):
    task = worker(do="echo")
    assert json.loads(machine({"StartAt": "t", "States": {"t": task}})["output"]) == {"do": "echo"}
    task["Parameters"]["FunctionName"] = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:processes"
    end = machine({"StartAt": "t", "States": {"t": task}})
    assert end["error"] == "Lambda.AWSLambdaException" and "lambda:InvokeFunction" in end["cause"]


def test_function_error_kind_is_the_execution_error(machine):
    end = machine({"StartAt": "t", "States": {"t": worker(do="fail", kind="BadInput")}})
    assert end["status"] == "FAILED" and end["error"] == "BadInput"
    assert json.loads(end["cause"])["errorMessage"] == "simulated failure"


def test_error_of_a_too_large_payload_cannot_be_caught(machine):
    task = {**worker(do="answer", bytes=300_000), "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "caught"}]}
    end = machine({"StartAt": "t", "States": {"t": task, "caught": {"Type": "Succeed"}}})
    assert (end["status"], end["error"]) == ("FAILED", "States.DataLimitExceeded")


def test_invalid_transition_is_rejected(machine):
    valid = {"Type": "Pass", "End": True}
    for wrong in (
        {"StartAt": "a", "States": {"a": {"Type": "Pass", "Next": "b"}}},
        {"StartAt": "b", "States": {"a": valid}},
        {"StartAt": "a", "States": {"a": valid, "b": valid}},
        {"StartAt": "a", "States": {"a": {**worker(), "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "b"}]}}},
        {"StartAt": "a", "States": {"a": {"Type": "Choice", "Choices": [], "Default": "b"}}},
        over_items({"Type": "Pass", "Next": "b"}),
    ):
        with pytest.raises(ClientError) as error:
            machine(wrong)
        assert code_of(error) == "InvalidDefinition", wrong


def test_executions_are_filtered_and_histories_are_paged(machine, local_aws):
    end = machine(
        {"StartAt": "w", "States": {"w": {"Type": "Wait", "Seconds": 1, "Next": "p"}, "p": {"Type": "Pass", "End": True}}}
    )
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
