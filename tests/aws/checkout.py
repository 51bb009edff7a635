"""A checkout of the repository, from which `make deploy` deploys functions that are fakes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from packages import FUNCTIONS, REPOSITORY, STEPS
from terraform import LATE, LATE_FILE

TIMEOUT_SECONDS = 900

# Stands in for cargo-lambda: "builds" each function by copying the file `fake`.
CARGO = """#!/bin/sh
for step in functions/*/; do
  mkdir -p "target/lambda/$(basename "$step")"
  cp fake "target/lambda/$(basename "$step")/bootstrap"
done
"""

# Stands in for rustc: only x86_64 is installed.
RUSTC = """#!/bin/sh
case "$*" in *x86_64*) echo "$PWD/target/libdir" ;; *) echo /nonexistent ;; esac
"""

# A function that notes each call, and answers what the state machine expects of its step. plan-run writes one batch of
# stage-events, and answers once the file `gate` exists.
FAKE = """#!{python}
import json, os, time, urllib.request as http
import boto3
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime"
step = os.environ["AWS_LAMBDA_FUNCTION_NAME"].split("-", 2)[2]
while True:
    call = http.urlopen(api + "/invocation/next")
    request, event = call.headers["Lambda-Runtime-Aws-Request-Id"], json.load(call)
    note = {{"generation": {generation!r}, "log": os.environ["RUST_LOG"], "step": step, "event": event}}
    with open({notes!r}, "a") as notes:
        notes.write(json.dumps(note) + "\\n")
    answer = {{"remaining": {{"count": 0}}, "report": "report"}}
    if step == "plan-run":
        key = "runs/run/batches/stage-events.json"
        bucket = os.environ["LAKE"].removeprefix("s3://")
        boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=json.dumps([{{"batch": 1}}]))
        answer = {{
            "run_id": "run", "plan": "runs/run/plan.json", "as_of": "2023-03-01", "from": None, "force": False,
            "retry_lost": False, "rebuild_lost": False, "allow_concurrent": False, "published": False, "nothing_to_do": False,
            "unfinished_publication": False, "lease": None,
            "batches": {{name: {{"count": int(name == "stage-events"), "key": key}} for name in {steps!r}}},
        }}
        while not os.path.exists({gate!r}):
            time.sleep(0.05)
    http.urlopen(http.Request(api + "/invocation/" + request + "/response", json.dumps(answer).encode())).read()
"""


class Checkout:
    """The files that `make deploy` needs, in a folder. `environment` are the variables with which it reaches AWS."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder, self.variables = folder, {**environment, "TF_IN_AUTOMATION": "1"}
        ignored = shutil.ignore_patterns(".terraform", "terraform.tfstate*", "local-states", "node_modules", "__pycache__")
        shutil.copytree(REPOSITORY / "infra", folder / "infra", ignore=ignored, symlinks=True)
        # The shared deployment has the lifecycle rules.
        (folder / "infra" / LATE_FILE).write_text(LATE)
        shutil.copy(REPOSITORY / "Makefile", folder / "Makefile")
        for name in ("shared", "target/libdir", ".venv/package/bin", *(f"functions/{step}" for step in FUNCTIONS)):
            (folder / name).mkdir(parents=True)
        shutil.copy(REPOSITORY / "shared/config.toml", folder / "shared/config.toml")
        (folder / "target/libdir/libstd-x.rlib").touch()
        tools = folder / ".venv/package/bin"
        (tools / "python").symlink_to(sys.executable)
        for name, script in (("cargo", CARGO), ("rustc", RUSTC)):
            (tools / name).write_text(script)
            (tools / name).chmod(0o755)
        (folder / ".venv/pip").mkdir()
        for name in ("package", "pip"):
            (folder / ".venv" / name / "ready").touch()
        self.gate, self.journal = folder / "gate", folder / "notes.jsonl"
        self.set_generation("first")

    def set_generation(self, generation: str) -> None:
        """Changes the code of the functions."""
        source = FAKE.format(
            python=sys.executable, generation=generation, steps=list(STEPS), notes=str(self.journal), gate=str(self.gate)
        )
        (self.folder / "fake").write_text(source)
        (self.folder / "fake").chmod(0o755)

    def set_variables(self, environment: str, variables: dict) -> None:
        """Adds variables to those of an environment."""
        with (self.folder / f"infra/env/{environment}.tfvars").open("a") as file:
            file.writelines(f"{name} = {json.dumps(value)}\n" for name, value in variables.items())

    def notes(self) -> list[dict]:
        """Returns the calls of the functions so far."""
        return [json.loads(line) for line in self.journal.read_text().splitlines()] if self.journal.exists() else []

    def make(self, target: str, environment: str, **variables: str) -> str:
        return self.run("make", target, f"ENV={environment}", *(f"{name}={value}" for name, value in variables.items()))

    def terraform(self, *arguments: str) -> str:
        return self.run("terraform", "-chdir=infra", *arguments)

    def run(self, *command: str) -> str:
        """Runs a command and returns its output."""
        result = self.attempt(*command)
        assert result.returncode == 0, f"{command}\n{result.stdout[-4000:]}\n{result.stderr[-6000:]}"
        return result.stdout

    def attempt(self, *command: str) -> subprocess.CompletedProcess:
        environment = {name: value for name, value in self.variables.items() if not name.startswith("MAKE")}
        return subprocess.run(
            command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=TIMEOUT_SECONDS, check=False,
        )
