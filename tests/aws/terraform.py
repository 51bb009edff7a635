"""Runs Terraform in a copy of infra/ with a local state, so that nothing is left in the repository."""

import json
import shutil
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

INFRA = Path(__file__).parents[2] / "infra"

# The provider waits 55 s after it has created the lifecycle rules of a bucket. An override file leaves them out.
LATE = 'resource "aws_s3_bucket_lifecycle_configuration" "this" {\n  count = 0\n}\n'
LATE_FILE = Path("modules", "bucket", "late_override.tf")

APPLY = ("-auto-approve", "-input=false", "-no-color")

# A command that takes longer is considered to hang: the provider retries a failing call for most of an hour.
TIMEOUT_SECONDS = 900


class TerraformFailed(Exception):
    """A Terraform command failed. The message is its output."""


class Terraform:
    """A working copy of infra/ that deploys to one AWS."""

    def __init__(self, folder: Path, environment: dict[str, str], variables: dict):
        self.folder, self.environment = folder / "infra", {**environment, "TF_IN_AUTOMATION": "1"}
        ignored = shutil.ignore_patterns(".terraform", "terraform.tfstate*", "local-states", "*.auto.tfvars*", "backend.tf")
        shutil.copytree(INFRA, self.folder, ignore=ignored)
        self.set_variables(variables)
        self.rest: Future | None = None

    def set_variables(self, variables: dict) -> None:
        """Sets the values of the variables."""
        (self.folder / "test.auto.tfvars.json").write_text(json.dumps(variables))

    def init(self) -> str:
        return self.run(str(self.folder / "terraform-init"), str(self.folder), "-no-color")

    def workspace(self, name: str) -> str:
        return self.terraform("workspace", "select", "-or-create", name)

    def validate(self) -> dict:
        return json.loads(self.run("terraform", f"-chdir={self.folder}", "validate", "-json"))

    def apply(self, *arguments: str) -> str:
        return self.terraform("apply", *APPLY, *arguments)

    def apply_at_once(self, *arguments: str) -> dict:
        """Applies everything except the lifecycle rules of buckets, and these in the background: all other commands wait for
        them. Returns the outputs."""
        (self.folder / LATE_FILE).write_text(LATE)
        self.apply(*arguments)
        outputs = self.outputs()
        (self.folder / LATE_FILE).unlink()
        rest = ("terraform", f"-chdir={self.folder}", "apply", *APPLY, "-refresh=false")
        self.rest = ThreadPoolExecutor(1).submit(run, rest, self.environment)
        return outputs

    def finish(self) -> None:
        """Waits until everything is applied."""
        if self.rest:
            self.rest.result()

    def destroy(self) -> str:
        return self.terraform("destroy", "-auto-approve", "-input=false", "-no-color")

    def plan(self) -> list["Change"]:
        """Returns the changes that an apply would make."""
        self.terraform("plan", "-input=false", "-no-color", "-out=plan")
        planned = json.loads(self.terraform("show", "-json", "plan"))["resource_changes"]
        changes = [Change(resource) for resource in planned if resource["mode"] == "managed"]
        return [change for change in changes if change.actions != ["no-op"]]

    def outputs(self) -> dict:
        return {name: output["value"] for name, output in json.loads(self.terraform("output", "-json")).items()}

    def resources(self) -> list[str]:
        """Returns the addresses of all managed resources."""
        return self.terraform("state", "list").split()

    def terraform(self, *arguments: str) -> str:
        return self.run("terraform", f"-chdir={self.folder}", *arguments)

    def run(self, *command: str) -> str:
        self.finish()
        return run(command, self.environment)


def run(command: tuple[str, ...], environment: dict[str, str]) -> str:
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    if result.returncode:
        raise TerraformFailed(f"{' '.join(command)}\n{result.stdout[-4000:]}\n{result.stderr[-8000:]}")
    return result.stdout


class Change:
    """A planned change of one resource."""

    def __init__(self, planned: dict):
        self.address, self.type = planned["address"], planned["type"]
        self.actions = planned["change"]["actions"]
        before, after = planned["change"]["before"] or {}, planned["change"]["after"] or {}
        self.attributes = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))

    def __repr__(self) -> str:
        return f"{'/'.join(self.actions)} {self.address}: {', '.join(self.attributes)}"
