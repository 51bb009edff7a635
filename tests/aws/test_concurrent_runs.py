"""Of several executions only one runs, although a listing of executions does not show the newest, and although the end of
an execution is known only some time later."""

from datetime import date, timedelta

from defi import days

FIRST = days()[0]
RUN = {"from": FIRST, "as_of": (date.fromisoformat(FIRST) + timedelta(days=1)).isoformat()}


def test_of_two_starts_at_once_exactly_one_runs(deployment):
    deployment.empty()
    already = len(deployment.calls())
    started = [deployment.start(RUN) for _ in range(2)]
    ends = sorted((deployment.wait(arn) for arn in started), key=lambda end: end.status)
    assert [(end.status, end.error) for end in ends] == [("FAILED", "AlreadyRunning"), ("SUCCEEDED", None)], ends
    refused = [call for call in deployment.calls()[already:] if call["kind"] == "AlreadyRunning"]
    assert {call["function"] for call in refused} == {deployment.functions["plan-run"]}
    assert len(refused) == 4, "the later run is retried three times, in case the earlier one is about to end"
    assert deployment.published() == RUN["as_of"]


def test_run_takes_over_from_one_that_was_stopped(deployment):
    deployment.empty()
    stopped = deployment.start(RUN)
    deployment.wait_for_state(stopped, "Extract")
    deployment.client("stepfunctions").stop_execution(executionArn=stopped)
    with deployment.aws.settings(stopped_earlier=14 * 60):
        refused = deployment.run(RUN)
        assert refused.error == "AlreadyRunning" and "15 minutes" in refused.cause, "its functions may still write"
    with deployment.aws.settings(stopped_earlier=15 * 60):
        execution = deployment.run(RUN)
    assert execution.status == "SUCCEEDED", execution
    assert deployment.wait(stopped).status == "ABORTED"
