"""What goes wrong ends an execution in the failure path, which names the step and the kind, and leaves what was published."""

from datetime import date, timedelta

import pytest

from defi import API_KEY, days
from packages import STEPS, config

FIRST = days()[0]
GRAPH_STEPS = ("extract-market-data", "extract-account-positions", "extract-current-positions")
WRONG_KEY = "key-of-someone-else"


def day(number: int) -> str:
    """A day of the recording."""
    return (date.fromisoformat(FIRST) + timedelta(days=number)).isoformat()


def page_of(deployment, run: str) -> str:
    """The page that a run has left."""
    return deployment.body(f"runs/{run}/report.html").decode()


def test_an_unknown_field_is_bad_input(deployment):
    execution = deployment.run({"asof": day(1)})
    assert (execution.status, execution.error) == ("FAILED", "BadInput")
    assert "asof" in execution.cause
    (told,) = deployment.messages(execution)
    assert (told["attribute"], told["step"], told["error"]) == ("failed", "plan-run", "BadInput")
    assert told["run_id"] == "none", "there is no run without a plan"


def test_a_day_that_is_no_day_is_bad_input(deployment):
    execution = deployment.run({"as_of": "yesterday"})
    assert (execution.status, execution.error) == ("FAILED", "BadInput")


@pytest.fixture(scope="module")
def published(deployment):
    """A day that is published, before things go wrong."""
    deployment.empty()
    execution = deployment.run({"from": FIRST, "as_of": day(2)})
    assert execution.status == "SUCCEEDED" and deployment.published() == day(2), execution
    return day(2)


def test_a_failing_check_leaves_what_was_published(deployment, published, tmp_path):
    strict = config().replace("unpriced_share = { warn = 0.05, fail = 0.50 }", "unpriced_share = { warn = 0.0, fail = 0.0 }")
    assert strict != config()
    (tmp_path / "config.toml").write_text(strict)
    with deployment.configured(["check-features"], DEFI_CONFIG=str(tmp_path / "config.toml")):
        execution = deployment.run({"from": FIRST, "as_of": day(3)})
    assert (execution.status, execution.error) == ("FAILED", "QualityFailed")
    assert execution.cause.startswith("check-features: ") and "unpriced" in execution.cause
    assert "publish-features" not in execution.states()
    (told,) = deployment.messages(execution)
    assert (told["attribute"], told["step"], told["error"]) == ("failed", "check-features", "QualityFailed")
    assert "unpriced" in told["cause"]
    assert deployment.published() == published
    assert 'class="badge fail"' in page_of(deployment, told["run_id"]), "failed checks have their page, too"

    # What is made is not made again: it is checked once more, and published.
    again = deployment.run({"from": FIRST, "as_of": day(3)})
    assert again.status == "SUCCEEDED" and deployment.published() == day(3)
    assert {"check-features", "publish-features"} <= set(again.states()) and "Extract" not in again.states()


def test_a_failing_item_of_a_map_fails_the_execution_and_stops_no_other(deployment, published):
    before = deployment.published()
    deployment.put_keys(graph=WRONG_KEY, transpose=API_KEY)
    with deployment.configured(GRAPH_STEPS):
        execution = deployment.run({"from": FIRST, "as_of": day(4)})
    deployment.put_keys(API_KEY)
    assert (execution.status, execution.error) == ("FAILED", "BadCredentials")
    (told,) = deployment.messages(execution)
    assert told["attribute"] == "failed" and told["step"] in GRAPH_STEPS and told["error"] == "BadCredentials"
    assert execution.cause.startswith(f"{told['step']}: ") and told["failures"] > 1
    assert "did not reach its checks" in page_of(deployment, told["run_id"]), "what was done before has its page"
    assert WRONG_KEY not in execution.cause and deployment.published() == before
    events = f"raw/transpose/transpose_borrow_events/year={day(3)[:4]}/month={day(3)[5:7]}/{day(3)}.parquet"
    assert events in deployment.versions(), "what could be done was not"

    # The next run makes up for it.
    again = deployment.run({"from": FIRST, "as_of": day(4)})
    assert again.status == "SUCCEEDED" and deployment.published() == day(4)


@pytest.mark.last
def test_keys_are_nowhere_but_in_the_secrets(deployment):
    executions = deployment.executions()
    places = {
        "logs": deployment.logs(),
        "output of the functions": "".join(file.read_text() for file in (deployment.folder / "functions" / "logs").iterdir()),
        "histories": str([(execution.output, execution.cause, execution.history()) for execution in executions]),
        "messages": str([deployment.messages(execution) for execution in executions]),
        "environments": str([deployment.environment_of(step) for step in STEPS]),
        "state of Terraform": "".join(
            file.read_text() for file in deployment.terraform.folder.rglob("terraform.tfstate*") if file.is_file()
        ),
        "definition": str(deployment.client("stepfunctions").describe_state_machine(stateMachineArn=deployment.machine)),
        "runs": str([deployment.body(key) for key in deployment.versions() if key.startswith("runs/")]),
    }
    assert all(len(text) > 200 for text in places.values()), {place: len(text) for place, text in places.items()}
    for key in (API_KEY, WRONG_KEY):
        assert [place for place, text in places.items() if key in text] == []
