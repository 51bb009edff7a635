"""What the tests share: a local AWS with nothing in it, and one that the pipeline is deployed on.

The deployment takes a minute and a half, most of which Terraform waits: it begins with the session, beside the tests that need none.
"""

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aws import LocalAws, bare_environment
from defi import RECORDING, FolderLake, days
from deployment import Deployment
from fakes import document, package

NOT_RUN = pytest.StashKey[list[str]]()
STARTED = pytest.StashKey[tuple]()


def pytest_configure(config):
    # The tests' own clients heed no more of the environment than the commands that they start.
    chosen = {name: os.environ[name] for name in ("DEFI_PACKAGES",) if name in os.environ}
    environment = {**bare_environment(), **chosen}
    os.environ.clear()
    os.environ.update(environment)
    config.addinivalue_line("markers", "last: runs after all others")
    config.stash[NOT_RUN] = []


def missing() -> str | None:
    """Why nothing can be deployed on this machine."""
    if not shutil.which("terraform"):
        return "terraform is not on the PATH; get it from https://developer.hashicorp.com/terraform/install"
    if not (RECORDING / "manifest.json").exists():
        return f"there is no recording in {RECORDING}"
    return None


def pytest_collection_modifyitems(config, items):
    """Tests that need no deployment come first. Without what a deployment needs its tests are not run, and that is said; in CI
    it is a failure."""
    needing = [item for item in items if "deployment" in item.fixturenames]
    if needing and (why := missing()):
        said = f"NOT RUN: {len(needing)} tests of the deployment: {why}"
        if os.environ.get("CI"):
            raise pytest.UsageError(said)
        config.stash[NOT_RUN].append(said)
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]
    items.sort(key=lambda item: (item in needing, item.get_closest_marker("last") is not None))


def pytest_collection_finish(session):
    if session.config.option.collectonly or not any("deployment" in item.fixturenames for item in session.items):
        return
    folder = Path(tempfile.mkdtemp(prefix="deployment-"))
    deployment = Deployment(folder)
    session.stash[STARTED] = (deployment, ThreadPoolExecutor(1).submit(deployment.__enter__))


def pytest_sessionfinish(session):
    deployment, started = session.stash.get(STARTED, (None, None))
    if started:
        started.exception()
        deployment.__exit__()
        shutil.rmtree(deployment.folder, ignore_errors=True)


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash[NOT_RUN]:
        terminalreporter.write_line(line, red=True, bold=True)


@pytest.fixture(scope="session")
def local_aws(tmp_path_factory):
    """A local AWS with nothing in it."""
    with LocalAws(tmp_path_factory.mktemp("functions")) as aws:
        yield aws


@pytest.fixture(scope="session")
def role(local_aws):
    """Makes a role that a service may assume, with these statements."""

    def make(name: str, service: str, *statements: dict) -> str:
        iam = local_aws.client("iam")
        trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trust))["Role"]["Arn"]
        if statements:
            iam.put_role_policy(RoleName=name, PolicyName="policy", PolicyDocument=document(*statements))
        return arn

    return make


@pytest.fixture(scope="session")
def function(local_aws, role):
    """Makes a function that does as it is told."""

    def make(name: str, *statements: dict, trusted: str = "lambda.amazonaws.com", **configuration) -> str:
        local_aws.client("lambda").create_function(
            FunctionName=name,
            Role=role(name, trusted, *statements),
            Runtime="provided.al2023",
            Handler="bootstrap",
            Code={"ZipFile": package()},
            **configuration,
        )
        return name

    return make


@pytest.fixture(scope="session")
def deployment(request) -> Deployment:
    """The pipeline, deployed."""
    return request.session.stash[STARTED][1].result()


@pytest.fixture(scope="session")
def folder_lake(deployment, tmp_path_factory) -> FolderLake:
    """What `defi run` makes of the recording."""
    lake = FolderLake(tmp_path_factory.mktemp("lake"), deployment.served)
    lake.run(*days())
    return lake
