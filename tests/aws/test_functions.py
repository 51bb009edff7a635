"""Each function by itself, as a person calls it from the console: {} works, an unknown field does not."""

import contextlib
import re
from datetime import UTC, datetime, timedelta

import pytest

from defi import Served, moved
from packages import STEPS, config

LARGEST_ANSWER = 8 * 1024


@pytest.fixture(scope="module")
def today(deployment, tmp_path_factory):
    """The day that {} is about. The recording is moved to it; it ends a day later, in case midnight comes."""
    today = datetime.now(UTC).date()
    recording = moved(tmp_path_factory.mktemp("recording"), today + timedelta(days=1))
    settings = tmp_path_factory.mktemp("config") / "config.toml"
    settings.write_text(re.sub(r'first_day = ".*"', f'first_day = "{today - timedelta(days=2)}"', config()))
    deployment.empty()
    with contextlib.ExitStack() as until:
        served = until.enter_context(Served(recording))
        until.enter_context(deployment.configured(STEPS, DEFI_CONFIG=str(settings)))
        for variable, url in (("GRAPH_URL", served.graph_url), ("TRANSPOSE_URL", served.transpose_url)):
            users = [step for step in STEPS if variable in deployment.environment_of(step)]
            assert len(users) >= 2
            until.enter_context(deployment.configured(users, **{variable: url}))
        yield today


@pytest.fixture(scope="module")
def daily(deployment, today):
    """What the scheduler starts."""
    execution = deployment.run({})
    assert execution.status == "SUCCEEDED", execution
    return execution


def test_an_execution_without_input_is_about_today(deployment, daily, today):
    assert deployment.published() in {today.isoformat(), (today + timedelta(days=1)).isoformat()}
    assert "publish-features" in daily.states()


def test_an_execution_with_an_as_of_is_about_that_day(deployment, daily, today):
    yesterday = (today - timedelta(days=1)).isoformat()
    before = deployment.published()
    execution = deployment.run({"as_of": yesterday})
    assert execution.status == "SUCCEEDED" and execution.output["as_of"] == yesterday, execution
    assert deployment.published() == before
    assert any(key.startswith(f"analytics/features/defi_features/as_of={yesterday}/") for key in deployment.versions())


@pytest.mark.parametrize("step", STEPS)
def test_it_answers_to_nothing_given(deployment, daily, step):
    failed, answer, size = deployment.call(step, {})
    assert not failed, answer
    assert size < LARGEST_ANSWER


@pytest.mark.parametrize("step", STEPS)
def test_it_refuses_an_unknown_field(deployment, daily, step):
    failed, answer, size = deployment.call(step, {"no_such_field": True})
    assert failed and answer["errorType"] == "BadInput"
    assert "no_such_field" in answer["errorMessage"] and "\n" not in answer["errorMessage"]
    assert size < LARGEST_ANSWER
