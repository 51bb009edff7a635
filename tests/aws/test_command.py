"""`defi start`, `status`, `backfill` and the commands that read the deployed lake."""

import ast
import json
import re
import subprocess
from datetime import date, timedelta

import pytest
from botocore.exceptions import ClientError

from aws import REGION
from defi import days
from deployment import ENVIRONMENT
from packages import BUILT

FIRST = days()[0]
LATER = tuple((date.fromisoformat(FIRST) + timedelta(days=number)).isoformat() for number in range(6))


@pytest.fixture(scope="module")
def defi(deployment):
    """Returns a function that runs the command on the deployment and returns exit code, standard output and standard
    error."""
    deployment.empty()

    def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
        environment = {**deployment.aws.environment(), **variables}
        result = subprocess.run([BUILT / "defi", *arguments], env=environment, capture_output=True, text=True)
        return result.returncode, result.stdout, result.stderr

    return run


def test_start_follows_a_run_and_prints_its_report(deployment, defi):
    code, out, err = defi("start", "--from", FIRST, "--as-of", LATER[1])
    assert code == 0, err
    assert re.search(r"^publish-features: 1 calls in [\d.]+ s$", err, re.M), "one line per step if standard error is not a terminal"
    steps = {line.split()[0] for line in out.splitlines() if re.match(r" *[a-z]+-[a-z-]+ +\d", line)}
    assert {"extract-daily-blocks", "stage-events", "link-wallets", "build-features"} <= steps, out
    assert re.search(rf"^\d+ wallets as of {LATER[1]}$", out, re.M) and "quarantined_share" in out
    assert re.search(rf"^report +s3://{deployment.bucket}/runs/{LATER[1]}-\w+/reports/report-run/report.html$", out, re.M), out
    assert deployment.published() == LATER[1]

    code, out, err = defi("start", "--from", FIRST, "--as-of", LATER[1])
    assert code == 0 and "no unit is missing" in out, out + err


@pytest.fixture
def shown_at_once(deployment):
    """Lets ListExecutions show the runs of the tests before this one."""
    with deployment.aws.settings(listing_delay=0):
        yield


def test_status_lists_runs_and_shows_one(shown_at_once, defi):
    code, out, err = defi("status")
    assert code == 0 and "SUCCEEDED" in out, err
    (name, status, *_) = out.splitlines()[2].split()
    code, out, err = defi("status", name)
    assert code == 0 and "input" in out and "plan-run" in out, err
    code, out, err = defi("status", "--follow")
    assert code == 0 and "no unit is missing" in out, err
    code, _, err = defi("status", "no-such-execution")
    assert code == 2 and err.startswith("error: BadInput:") and err.count("\n") == 1


def test_json_output_is_one_line_per_run(shown_at_once, defi):
    code, out, err = defi("status", "--json")
    listed = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and {run["status"] for run in listed} == {"SUCCEEDED"}, out + err
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", run["started"]) for run in listed)

    code, out, err = defi("status", "--json", listed[-1]["execution"])
    first = json.loads(out)
    assert code == 0 and first["input"] == {"from": FIRST, "as_of": LATER[1]}, out + err
    assert all(step["done"] == step["calls"] and step["seconds"] >= 0 for step in first["steps"])
    assert {"plan-run", "stage-events", "report-run"} <= {step["step"] for step in first["steps"]}
    run = first["run"]
    assert (run["as_of"], run["nothing_to_do"], run["checks"]["passed"]) == (LATER[1], False, True)
    assert run["page"].endswith(f"runs/{run['run_id']}/reports/report-run/report.html") and run["report"]["steps"]

    code, out, err = defi("start", "--json", "--from", FIRST, "--as-of", LATER[1])
    again = json.loads(out)
    assert code == 0 and again["run"]["nothing_to_do"] and again["stopped"] >= again["started"], out + err


def test_lake_commands_read_the_deployed_lake(deployment, defi, tmp_path):
    code, out, err = defi("doctor", "--aws", "--json")
    findings = json.loads(out)
    assert {finding["state"] for finding in findings} <= {"ok", "warn"} and code == 0, out + err
    assert {"state machine", "secret defi-dev/graph-api-key", "analytics.wallet_health_daily"} <= {finding["what"] for finding in findings}

    code, out, err = defi("features", "--aws", "--as-of", LATER[1])
    assert code == 0, err
    wallet = out.splitlines()[1].split(",")[0]
    code, out, err = defi("wallet", wallet, "--aws", "--explain", "all", "--json")
    assert code == 0 and all(explanation["agrees"] for explanation in json.loads(out)), err
    code, out, err = defi("tables", "--aws")
    assert code == 0 and "db_analytics_dev.defi_features" in out, err

    code, out, err = defi("report", "--aws", "--output", str(tmp_path / "report.html"))
    assert code == 0, err
    page = (tmp_path / "report.html").read_bytes()
    kept = [key for key in deployment.versions() if key.startswith("runs/") and key.endswith("/report.html")]
    assert page in [deployment.body(key) for key in kept], "the state machine writes the report next to the other objects of the run"
    types = {deployment.client("s3").head_object(Bucket=deployment.bucket, Key=key)["ContentType"] for key in kept}
    assert types == {"text/html; charset=utf-8"}, "a browser shows the report instead of saving it"


def test_reader_reads_features_and_wallets(deployment, defi):
    with deployment.reader() as reader:
        code, out, err = defi("features", "--aws", "--as-of", LATER[1], **reader)
        assert code == 0 and len(out.splitlines()) > 10, err
        wallet = out.splitlines()[1].split(",")[0]
        code, out, err = defi("wallet", wallet, "--aws", **reader)
        assert code == 0 and wallet in out, err
        code, _, err = defi("doctor", "--aws", **reader)
        assert code == 1, "a reader may not read the secrets of the API keys"


def test_feast_reads_through_what_was_deployed_for_it(deployment, defi, tmp_path):
    with deployment.reader() as reader:
        code, _, err = defi("feast", str(tmp_path / "feast"), "--athena", **reader)
        assert code == 0, err
    text = (tmp_path / "feast" / "feature_store.yaml").read_text()
    settings = dict(re.findall(r"^  (\w+): \"([^\"]*)\"$", text, re.MULTILINE))
    assert settings == {
        "data_source": "AwsDataCatalog",
        "region": REGION,
        "workgroup": f"defi-{ENVIRONMENT}-feast",
        "database": f"db_feast_{ENVIRONMENT}",
        "s3_staging_location": f"s3://{deployment.bucket}-athena",
    }
    athena = deployment.client("athena")
    feast = athena.get_work_group(WorkGroup=settings["workgroup"])["WorkGroup"]["Configuration"]
    assert not feast["EnforceWorkGroupConfiguration"] and feast["ResultConfiguration"]["OutputLocation"]
    assert deployment.client("glue").get_database(Name=settings["database"])
    # The workgroup of the analysts would refuse where Feast puts the result of a query.
    elsewhere = f"CREATE TABLE t WITH (external_location = '{settings['s3_staging_location']}/unload/t') AS SELECT 1 AS one"
    assert athena.start_query_execution(QueryString=elsewhere, WorkGroup=settings["workgroup"])["QueryExecutionId"]
    with pytest.raises(ClientError, match="enforces a centralized output location"):
        athena.start_query_execution(QueryString=elsewhere, WorkGroup=f"defi-{ENVIRONMENT}")
    source = (tmp_path / "feast" / "features.py").read_text()
    ast.parse(source)
    table = f'\\"AwsDataCatalog\\".\\"db_analytics_{ENVIRONMENT}\\".\\"defi_features_history\\"'
    assert f'query="SELECT *, CAST(as_of AS timestamp) AS as_of_time FROM {table}"' in source

    options = ["--workgroup", "w", "--database", "d", "--data-source", "s", "--staging", "s3://b/p/", "--region", "eu-west-1"]
    code, _, err = defi("feast", str(tmp_path / "named"), "--athena", *options)
    assert code == 0, err
    text = (tmp_path / "named" / "feature_store.yaml").read_text()
    assert re.findall(r"\"(.*)\"", text) == ["s", "eu-west-1", "w", "d", "s3://b/p"]


def test_detached_run_can_be_followed_later(deployment, defi):
    code, out, err = defi("start", "--from", FIRST, "--as-of", LATER[2], "--detach")
    assert code == 0, err
    follow = re.search(r"defi (status .*)$", out, re.M)[1].split()
    code, out, err = defi(*follow)
    assert code == 0 and f"wallets as of {LATER[2]}" in out, err


def test_backfill_publishes_every_nth_day_and_waits_for_other_runs(deployment, defi, tmp_path):
    other = deployment.start({"from": FIRST, "as_of": LATER[2], "force": True})
    deployment.wait_for_state(other, "Extract blocks")
    page = tmp_path / "backfill.html"
    call = ["backfill", LATER[3], LATER[5], "--every", "2", "--from", FIRST, "--page", page]
    code, out, err = defi(*call)
    assert code == 0, err
    assert "1 of 2 days done, 1 left" in out and "2 of 2 days done, 0 left" in out, out
    text = page.read_text()
    for part in (f"Backfill from {LATER[3]} to {LATER[5]}", "No execution failed", "extract-events", "credits of Transpose"):
        assert part in text, part
    assert f"waiting for the execution {other.rpartition(':')[2]} to end" in err
    assert deployment.wait(other).status == "SUCCEEDED"
    assert deployment.published() == LATER[5]
    history = deployment.partitions(f"{deployment.databases['analytics']}.defi_features_history")
    assert {(LATER[3],), (LATER[5],)} <= set(history) and (LATER[4],) not in history
    code, _, err = defi("backfill", LATER[5], LATER[3])
    assert code == 2 and "is after the last day" in err


def test_interrupted_backfill_goes_on_from_any_machine(deployment, defi, tmp_path):
    call = ["backfill", LATER[2], LATER[5], "--from", FIRST, "--page", tmp_path / "page.html"]
    # What a laptop that was closed has left: two days are done, and the third one is in progress.
    names = [f"backfill_{LATER[2]}_{LATER[5]}_1_{FIRST}__{LATER[day]}_1" for day in (2, 3, 4)]
    for name in names:
        arn = deployment.start({"from": FIRST, "as_of": name.split("_")[-2]}, name)
        if name != names[-1]:
            assert deployment.wait(arn).status == "SUCCEEDED"
    with deployment.aws.settings(listing_delay=0):
        check_that_it_goes_on(defi, call, names, tmp_path)


def check_that_it_goes_on(defi, call, names, tmp_path):
    code, out, err = defi("status")
    assert code == 0 and "2 of 4 days done, 2 left" in out and f"defi backfill {LATER[2]} {LATER[5]} --from {FIRST}" in out, out
    code, out, err = defi(*call)
    assert code == 0, err
    assert "going on: 3 of 4 days done, 1 left" in err, err
    assert f"features as of {LATER[5]} (4 of 4)" in out and f"features as of {LATER[4]}" not in out, out
    assert "4 of 4 days done, 0 left" in out, out
    page = (tmp_path / "page.html").read_text()
    assert all(name in page for name in names), "the page is about the whole backfill"
    code, out, err = defi("status")
    assert code == 0 and "days done" not in out, out


def test_failed_run_prints_one_error_line_with_its_kind(deployment, defi):
    future = (date.today() + timedelta(days=400)).isoformat()
    code, _, err = defi("start", "--as-of", future)
    last = err.splitlines()[-1]
    assert code == 2 and last.startswith("error: BadInput: plan-run: ") and "in the future" in last
    code, out, err = defi("start", "--as-of", future, "--json")
    failed = json.loads(out)
    assert code == 2 and (failed["status"], failed["error"], failed["run"]) == ("FAILED", "BadInput", None)
    assert "in the future" in failed["cause"] and failed["execution"] in err.splitlines()[-1]


def test_environment_that_is_not_deployed_is_bad_input(deployment, defi):
    code, _, err = defi("status", "--env", "prod")
    assert code == 2 and "defi-prod" in err and "deploy" in err
