"""A call that stops before its deadline is continued by further calls, which process only the units that remain."""

import json
from datetime import date, timedelta

from defi import days

STEP = "extract-daily-blocks"
FIRST = days()[0]
DAYS = 10


def test_call_that_stops_at_its_deadline_is_continued(deployment):
    deployment.empty()
    function = deployment.functions[STEP]
    already = len(deployment.calls())
    # The step starts no unit after 3 s and cuts those in progress after 23 s. It sends a request every 3 s.
    with deployment.configured([STEP], timeout=33, SHARE_OF_SOURCE="1500"):
        as_of = (date.fromisoformat(FIRST) + timedelta(days=DAYS - 1)).isoformat()
        execution = deployment.run({"from": FIRST, "as_of": as_of})
    assert execution.status == "SUCCEEDED", execution
    calls = [call for call in deployment.calls()[already:] if call["function"] == function]
    assert len(calls) > 1 and {call["kind"] for call in calls} == {None}, calls

    (message,) = deployment.messages(execution)
    report = json.loads(deployment.body(f"runs/{message['run_id']}/reports/check-features/report.json"))
    (blocks,) = [step for step in report["steps"] if step["step"] == STEP]
    assert blocks["units"] == DAYS, "no unit is done twice"
    assert blocks["remaining"]["count"] == 0
    reports = [key for key in deployment.versions() if key.startswith(f"runs/{message['run_id']}/reports/{STEP}/")]
    assert len(reports) == len(calls), "each call has a report of its own"
