"""Failures end an execution in the failure path, which reports the step and the error kind, and keep the published
set."""

from datetime import date, timedelta

import pytest

from defi import API_KEY, days
from packages import config

FIRST = days()[0]
GRAPH_STEPS = ("extract-market-data", "extract-account-positions", "extract-current-positions")
WRONG_KEY = "key-of-someone-else"


def day(number: int) -> str:
    """Returns a day of the recording."""
    return (date.fromisoformat(FIRST) + timedelta(days=number)).isoformat()


def page_of(deployment, run: str) -> str:
    """Returns the HTML report of a run."""
    return deployment.body(f"runs/{run}/reports/report-run/report.html").decode()


def test_unknown_field_is_bad_input(deployment):
    execution = deployment.run({"asof": day(1)})
    assert (execution.status, execution.error) == ("FAILED", "BadInput")
    assert "asof" in execution.cause
    (message,) = deployment.messages(execution)
    assert (message["attribute"], message["step"], message["error"]) == ("failed", "plan-run", "BadInput")
    assert message["run_id"] == "none", "an execution that fails before its plan has no run id"


def test_invalid_day_is_bad_input(deployment):
    execution = deployment.run({"as_of": "yesterday"})
    assert (execution.status, execution.error) == ("FAILED", "BadInput")


@pytest.fixture(scope="module")
def published(deployment):
    """Publishes a day before the failures, and returns it."""
    deployment.empty()
    execution = deployment.run({"from": FIRST, "as_of": day(2)})
    assert execution.status == "SUCCEEDED" and deployment.published() == day(2), execution
    return day(2)


def test_failing_check_keeps_the_published_set(deployment, published, tmp_path):
    strict = config().replace("unpriced_share = { warn = 0.05, fail = 0.50 }", "unpriced_share = { warn = 0.0, fail = 0.0 }")
    assert strict != config()
    (tmp_path / "config.toml").write_text(strict)
    counted = deployment.counted_by("failed-checks", "check-features")
    with deployment.configured(["check-features"], DEFI_CONFIG=str(tmp_path / "config.toml")):
        execution = deployment.run({"from": FIRST, "as_of": day(3)})
    assert (execution.status, execution.error) == ("FAILED", "QualityFailed")
    assert execution.cause.startswith("check-features: ") and "unpriced" in execution.cause
    assert "publish-features" not in execution.states()
    (message,) = deployment.messages(execution)
    assert (message["attribute"], message["step"], message["error"]) == ("failed", "check-features", "QualityFailed")
    assert "unpriced" in message["cause"]
    assert deployment.published() == published
    assert deployment.counted_by("failed-checks", "check-features") == counted + 1, "the alarm failed-check counts the error"
    assert 'class="badge fail"' in page_of(deployment, message["run_id"]), "a run with failed checks has a report"

    # The next run computes nothing again: it only checks the features and publishes them.
    again = deployment.run({"from": FIRST, "as_of": day(3)})
    assert again.status == "SUCCEEDED" and deployment.published() == day(3)
    assert {"check-features", "publish-features"} <= set(again.states()) and "Extract" not in again.states()


def test_failing_item_fails_the_run_but_stops_no_other_item(deployment, published):
    before = deployment.published()
    deployment.put_secrets(graph=WRONG_KEY)
    with deployment.configured(GRAPH_STEPS):
        execution = deployment.run({"from": FIRST, "as_of": day(4)})
    deployment.put_secrets(graph=API_KEY)
    assert (execution.status, execution.error) == ("FAILED", "BadCredentials")
    (message,) = deployment.messages(execution)
    assert message["attribute"] == "failed" and message["step"] in GRAPH_STEPS and message["error"] == "BadCredentials"
    assert execution.cause.startswith(f"{message['step']}: ") and message["failures"] > 1
    assert "did not reach its checks" in page_of(deployment, message["run_id"]), "a run that fails before its checks has a report"
    assert WRONG_KEY not in execution.cause and deployment.published() == before
    events = f"raw/transpose/transpose_borrow_events/year={day(3)[:4]}/month={day(3)[5:7]}/{day(3)}.parquet"
    assert events in deployment.versions(), "the events were not extracted"

    # The next run produces the missing units.
    again = deployment.run({"from": FIRST, "as_of": day(4)})
    assert again.status == "SUCCEEDED" and deployment.published() == day(4)


@pytest.mark.last
def test_keys_are_only_in_the_secrets(deployment):
    texts = deployment.texts()
    for key in (API_KEY, WRONG_KEY):
        assert [place for place, text in texts.items() if key in text] == []
