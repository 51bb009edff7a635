"""The local AWS does what AWS does where the project relies on it, else what is proven on it proves nothing: state machines."""

import json
import time

import pytest
from botocore.exceptions import ClientError

from aws import ACCOUNT, REGION
from fakes import allow, code_of


@pytest.fixture(scope="module")
def machine(local_aws, role, function):
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
def test_paths_are_read_as_step_functions_reads_them(machine, path, value):
    given = {"items": [{"failed": []}], "one": [{"failed": ["a"]}], "names": {"with-hyphen": {"key": "k"}}}
    end = machine({"StartAt": "p", "States": {"p": {"Type": "Pass", "Parameters": {"value.$": path}, "End": True}}}, given)
    assert json.loads(end["output"]) == {"value": value}


def test_an_execution_knows_its_name(machine):
    end = machine(
        {"StartAt": "p", "States": {"p": {"Type": "Pass", "Parameters": {"execution.$": "$$.Execution"}, "End": True}}}
    )
    execution = json.loads(end["output"])["execution"]
    assert execution["Id"] == end["executionArn"] and execution["Name"] == end["name"] and execution["Id"].endswith(end["name"])
    assert execution["StartTime"].startswith("20")


def test_a_failed_item_fails_the_map(machine):
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


def test_a_caught_item_does_not_fail_the_map(machine):
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


def test_an_item_is_an_execution_of_its_own(machine):
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


def test_the_kind_of_a_functions_error_is_the_error(machine):
    end = machine({"StartAt": "t", "States": {"t": worker(do="fail", kind="BadInput")}})
    assert end["status"] == "FAILED" and end["error"] == "BadInput"
    assert json.loads(end["cause"])["errorMessage"] == "as told"


def test_too_large_a_payload_ends_the_execution_past_every_catch(machine):
    task = {**worker(do="answer", bytes=300_000), "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "caught"}]}
    end = machine({"StartAt": "t", "States": {"t": task, "caught": {"Type": "Succeed"}}})
    assert (end["status"], end["error"]) == ("FAILED", "States.DataLimitExceeded")


def test_a_transition_that_leads_nowhere_is_refused(machine):
    there = {"Type": "Pass", "End": True}
    for wrong in (
        {"StartAt": "a", "States": {"a": {"Type": "Pass", "Next": "b"}}},
        {"StartAt": "b", "States": {"a": there}},
        {"StartAt": "a", "States": {"a": there, "b": there}},
        {"StartAt": "a", "States": {"a": {**worker(), "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "b"}]}}},
        {"StartAt": "a", "States": {"a": {"Type": "Choice", "Choices": [], "Default": "b"}}},
        over_items({"Type": "Pass", "Next": "b"}),
    ):
        with pytest.raises(ClientError) as refused:
            machine(wrong)
        assert code_of(refused) == "InvalidDefinition", wrong


def test_executions_are_listed_by_status_and_told_in_pages(machine, local_aws):
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
