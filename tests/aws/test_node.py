"""The state machine fills the same lake from an Ethereum node as `defi run`, object by object and byte by byte, and the
node's URL, which is a secret, stays with the functions that ask the node."""

import json
import subprocess

import pytest

from defi import NODE_KEYS, FolderLake, NodeProcess
from deployment import Deployment, assert_equal_catalogs
from packages import BUILT, FUNCTIONS, STEPS
from test_roles import differences_from_the_lists, is_denied

# The functions that only a lake of the two APIs needs.
OF_THE_APIS = {"extract-events", "extract-account-positions", "extract-current-positions"}

# The functions that ask the node: `stage-account-positions` asks for balances where a sum differs.
ASK_THE_NODE = {"extract-daily-blocks", "extract-logs", "extract-market-data", "stage-account-positions"}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with NodeProcess(tmp_path_factory.mktemp("chain")) as node:
        yield node


@pytest.fixture(scope="module")
def node_deployment(node, tmp_path_factory):
    """Returns a deployment whose source is the node, with the configuration of its chain."""
    with Deployment(tmp_path_factory.mktemp("node-deployment"), node) as deployment:
        with deployment.configured(FUNCTIONS, DEFI_CONFIG=str(node.config)):
            yield deployment


@pytest.fixture(scope="module")
def run(node, node_deployment):
    """Returns an execution that started with an empty lake."""
    execution = node_deployment.run({"as_of": node.as_of})
    assert execution.status == "SUCCEEDED", execution
    return execution


@pytest.fixture(scope="module")
def node_lake(node, tmp_path_factory) -> FolderLake:
    """Returns a lake in a folder that `defi run` filled from the node."""
    lake = FolderLake(tmp_path_factory.mktemp("node-lake"), node)
    lake.run("--as-of", node.as_of)
    return lake


def test_run_calls_the_steps_of_a_node(node_deployment, run):
    called = {call["function"] for call in node_deployment.calls()}
    assert called == {node_deployment.functions[step] for step in set(STEPS) - OF_THE_APIS}


def test_bucket_has_the_objects_of_a_local_run(node, node_deployment, run, node_lake):
    ours, theirs = node_deployment.objects(), node_lake.objects()
    assert sorted(ours) == sorted(theirs) and len(ours) > 300
    assert [key for key, body in ours.items() if body != theirs[key]] == []
    assert any(key.startswith("raw/ethereum/ethereum_lending_logs/") for key in ours)
    assert any(key.startswith("state/replay/") for key in ours)
    assert node_deployment.published() == node.as_of


def test_catalog_equals_that_of_a_local_run(node_deployment, run, node_lake):
    assert_equal_catalogs(node_deployment, node_lake)
    assert f"{node_deployment.databases['raw']}.ethereum_lending_logs" in node_deployment.tables()


def test_doctor_asks_for_the_secret_of_the_node(node_deployment, run):
    command = [BUILT / "defi", "doctor", "--aws", "--json"]
    result = subprocess.run(command, env=node_deployment.aws.environment(), capture_output=True, text=True)
    findings = {finding["what"]: finding["state"] for finding in json.loads(result.stdout)}
    assert {name: state for name, state in findings.items() if name.startswith("secret")} == {"secret defi-dev/ethereum-api-key": "ok"}
    assert result.returncode == 0, result.stdout


def test_second_run_changes_nothing(node, node_deployment, run):
    def everything():
        return {key: version for key, version in node_deployment.versions().items() if key != "runs/lease.json"}

    before = everything()
    again = node_deployment.run({"as_of": node.as_of})
    assert again.status == "SUCCEEDED" and "Nothing to do" in again.states(), again
    assert everything() == before


@pytest.mark.parametrize("step", FUNCTIONS)
def test_only_functions_that_ask_the_node_read_its_url(node_deployment, step):
    secrets = node_deployment.aws.client_as("secretsmanager", node_deployment.role_of(step))
    ((source, name),) = node_deployment.secrets.items()
    assert source == "ethereum"
    assert is_denied(lambda: secrets.get_secret_value(SecretId=name)) == (step not in ASK_THE_NODE)
    assert is_denied(lambda: secrets.put_secret_value(SecretId=name, SecretString="x"))
    assert ("ETHEREUM_SECRET" in node_deployment.environment_of(step)) == (step in ASK_THE_NODE)


def test_deployed_policies_are_those_of_the_lists(node_deployment):
    assert differences_from_the_lists(node_deployment, "chain") == []


def test_schedule_leaves_time_until_the_node_forgets_the_state_of_the_block(node_deployment):
    (schedule,) = node_deployment.client("scheduler").list_schedules()["Schedules"]
    found = node_deployment.client("scheduler").get_schedule(Name=schedule["Name"], GroupName=schedule["GroupName"])
    assert found["ScheduleExpression"] == "cron(20 0 * * ? *)"


def test_url_of_the_node_is_only_in_its_secret(node, node_deployment, run, node_lake):
    secret = node_deployment.client("secretsmanager").get_secret_value(SecretId=node_deployment.secrets["ethereum"])
    assert all(key in secret["SecretString"] for key in NODE_KEYS)
    texts = {place: text.encode() for place, text in node_deployment.texts().items()}
    objects = node_deployment.objects(without=())
    files = {str(path): path.read_bytes() for path in node_lake.folder.rglob("*") if path.is_file()}
    assert any(key.endswith("/report.html") for key in objects) and any(key.endswith("/report.html") for key in files)
    origin = node.url.partition("/v2/")[0].removeprefix("http://")
    for key in (*NODE_KEYS, origin):
        found = [place for place, text in {**texts, **objects, **files}.items() if key.encode() in text]
        assert found == [], f"{key} is in {found}"


def test_wrong_url_fails_the_run_and_is_not_shown(node, node_deployment, run):
    """Closes the server's port to the functions: what they report of the connection names no part of the URL."""
    wrong = f"http://127.0.0.1:9/v2/{NODE_KEYS[0]}"
    node_deployment.put_secrets(ethereum=wrong)
    try:
        # Functions that start anew read the secret again.
        with node_deployment.configured(ASK_THE_NODE):
            failed, response, _ = node_deployment.call("extract-daily-blocks", {"days": [node.as_of], "force": True})
    finally:
        node_deployment.put_secrets(ethereum=node.url)
    assert failed and response["errorType"] == "SourceUnavailable", response
    assert NODE_KEYS[0] not in str(response) + node_deployment.logs()
