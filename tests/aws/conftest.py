"""Shared fixtures: an empty local AWS, and a local AWS with the deployed pipeline.

The deployment takes about a minute. It therefore starts with the session, concurrently with the tests that do not need
it.
"""

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aws import LocalAws, clean_environment
from defi import RECORDING, FolderLake, ServeProcess, days
from deployment import Deployment
from fakes import document, package

NOT_RUN = pytest.StashKey[list[str]]()
DEPLOYMENT = pytest.StashKey[tuple]()
DEPLOYMENTS = {"deployment", "node_deployment"}


def pytest_configure(config):
    # The clients of the tests have the same environment as the commands that the tests start.
    kept = {name: os.environ[name] for name in ("DEFI_PACKAGES",) if name in os.environ}
    environment = {**clean_environment(), **kept}
    os.environ.clear()
    os.environ.update(environment)
    config.addinivalue_line("markers", "last: runs after all others")
    config.stash[NOT_RUN] = []


def missing_requirement() -> str | None:
    """Returns the reason why the pipeline can't be deployed on this machine, or None if it can."""
    if not shutil.which("terraform"):
        return "terraform is not on the PATH; get it from https://developer.hashicorp.com/terraform/install"
    if not (RECORDING / "manifest.json").exists():
        return f"there is no recording in {RECORDING}"
    return None


def pytest_collection_modifyitems(config, items):
    """Moves tests without a deployment to the front. If the deployment is impossible, deselects its tests and reports
    that, or fails in CI."""
    needing = [item for item in items if DEPLOYMENTS & set(item.fixturenames)]
    if needing and (reason := missing_requirement()):
        message = f"NOT RUN: {len(needing)} tests of the deployment: {reason}"
        if os.environ.get("CI"):
            raise pytest.UsageError(message)
        config.stash[NOT_RUN].append(message)
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]
    items.sort(key=lambda item: (item in needing, item.get_closest_marker("last") is not None))


def pytest_collection_finish(session):
    if session.config.option.collectonly or not any("deployment" in item.fixturenames for item in session.items):
        return
    folder = Path(tempfile.mkdtemp(prefix="deployment-"))
    deployment = Deployment(folder, ServeProcess())
    session.stash[DEPLOYMENT] = (deployment, ThreadPoolExecutor(1).submit(deployment.__enter__))


def pytest_sessionfinish(session):
    deployment, started = session.stash.get(DEPLOYMENT, (None, None))
    if started:
        started.exception()
        deployment.__exit__()
        shutil.rmtree(deployment.folder, ignore_errors=True)


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash[NOT_RUN]:
        terminalreporter.write_line(line, red=True, bold=True)


@pytest.fixture(scope="session")
def local_aws(tmp_path_factory):
    """Returns an empty local AWS."""
    with LocalAws(tmp_path_factory.mktemp("functions")) as aws:
        yield aws


@pytest.fixture(scope="session")
def role(local_aws):
    """Returns a function that creates a role with policy statements, which a service may assume."""

    def create(name: str, service: str, *statements: dict) -> str:
        iam = local_aws.client("iam")
        trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trust))["Role"]["Arn"]
        if statements:
            iam.put_role_policy(RoleName=name, PolicyName="policy", PolicyDocument=document(*statements))
        return arn

    return create


@pytest.fixture(scope="session")
def function(local_aws, role):
    """Returns a function that creates a Lambda function with the package of `fakes.py`."""

    def create(name: str, *statements: dict, trusted: str = "lambda.amazonaws.com", **configuration) -> str:
        local_aws.client("lambda").create_function(
            FunctionName=name,
            Role=role(name, trusted, *statements),
            Runtime="provided.al2023",
            Handler="bootstrap",
            Code={"ZipFile": package()},
            **configuration,
        )
        return name

    return create


@pytest.fixture(scope="session")
def deployment(request) -> Deployment:
    """Returns the deployed pipeline."""
    return request.session.stash[DEPLOYMENT][1].result()


@pytest.fixture(scope="session")
def folder_lake(deployment, tmp_path_factory) -> FolderLake:
    """Returns a lake in a folder, to which `defi run` wrote the recording."""
    lake = FolderLake(tmp_path_factory.mktemp("lake"), deployment.server)
    first, last = days()
    lake.run("--from", first, "--as-of", last)
    return lake
