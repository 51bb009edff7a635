"""Calls of single functions, as from the console: each accepts {} and rejects an unknown field."""

import contextlib
import re
from datetime import UTC, datetime, timedelta

import pytest

from defi import ServeProcess, shift_recording
from packages import FUNCTIONS, config

MAX_RESPONSE_BYTES = 8 * 1024


@pytest.fixture(scope="module")
def today(deployment, tmp_path_factory):
    """Serves the recording shifted to the present, and returns today. It ends a day later, in case the tests run past
    midnight."""
    today = datetime.now(UTC).date()
    recording = shift_recording(tmp_path_factory.mktemp("recording"), today + timedelta(days=1))
    settings = tmp_path_factory.mktemp("config") / "config.toml"
    settings.write_text(re.sub(r'first_day = ".*"', f'first_day = "{today - timedelta(days=2)}"', config()))
    deployment.empty()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ServeProcess(recording))
        stack.enter_context(deployment.configured(FUNCTIONS, DEFI_CONFIG=str(settings)))
        for variable, url in (("GRAPH_URL", server.graph_url), ("TRANSPOSE_URL", server.transpose_url)):
            users = [step for step in FUNCTIONS if variable in deployment.environment_of(step)]
            assert len(users) >= 2
            stack.enter_context(deployment.configured(users, **{variable: url}))
        yield today


@pytest.fixture(scope="module")
def executions():
    """Returns the executions without input so far, by the day on which they were started."""
    return {}


@pytest.fixture
def daily(deployment, today, executions):
    """Returns the execution without input of this day, as the scheduler starts it: another one after midnight."""
    day = datetime.now(UTC).date()
    if day not in executions:
        executions[day] = deployment.run({})
        assert executions[day].status == "SUCCEEDED", executions[day]
    return executions[day]


def test_execution_without_input_publishes_today(deployment, daily, today):
    assert deployment.published() in {today.isoformat(), (today + timedelta(days=1)).isoformat()}
    assert "publish-features" in daily.states()


def test_execution_with_as_of_builds_that_day(deployment, daily, today):
    yesterday = (today - timedelta(days=1)).isoformat()
    before = deployment.published()
    execution = deployment.run({"as_of": yesterday})
    assert execution.status == "SUCCEEDED" and execution.output["as_of"] == yesterday, execution
    assert deployment.published() == before
    assert any(key.startswith(f"analytics/features/defi_features/as_of={yesterday}/") for key in deployment.versions())


@pytest.mark.parametrize("step", FUNCTIONS)
def test_function_accepts_an_empty_input(deployment, daily, step):
    failed, response, size = deployment.call(step, {})
    assert not failed, response
    assert size < MAX_RESPONSE_BYTES


@pytest.mark.parametrize("step", FUNCTIONS)
def test_function_rejects_an_unknown_field(deployment, daily, step):
    failed, response, size = deployment.call(step, {"no_such_field": True})
    assert failed and response["errorType"] == "BadInput"
    assert "no_such_field" in response["errorMessage"] and "\n" not in response["errorMessage"]
    assert size < MAX_RESPONSE_BYTES
