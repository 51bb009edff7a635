"""Starts the local AWS as a process, and creates clients for it."""

import contextlib
import functools
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config

REGION = "us-east-1"
ACCOUNT = "123456789012"
HERE = Path(__file__).parent


class LocalAws:
    """Runs `python -m local_aws` on a free port, until the context or this process ends. `local_aws.controls` has the
    settings."""

    def __init__(self, folder: Path, **settings: float):
        self.folder, self.initial_settings = folder, settings
        self.endpoint = ""

    def __enter__(self) -> "LocalAws":
        command = [sys.executable, "-m", "local_aws", "--port", "0", "--folder", str(self.folder)]
        for name, value in self.initial_settings.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        # The server ends when its standard input is closed, and thus together with this process.
        self.process = subprocess.Popen(
            command, cwd=HERE, env=clean_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.endpoint = self.process.stdout.readline().strip()
        assert self.endpoint, "the local AWS did not start"
        return self

    def __exit__(self, *_) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def environment(self) -> dict[str, str]:
        """Returns the environment variables with which a command uses the local AWS."""
        return {
            **clean_environment(),
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "administrator",
            "AWS_SECRET_ACCESS_KEY": "administrator",
            # With the default, a call of an unsupported API is retried for so long that it looks like a hang.
            "AWS_MAX_ATTEMPTS": "3",
        }

    @contextlib.contextmanager
    def settings(self, **values: float):
        """Changes settings temporarily."""
        before = self.control("PUT", "settings", {})
        self.control("PUT", "settings", values)
        try:
            yield
        finally:
            self.control("PUT", "settings", before)

    @contextlib.contextmanager
    def answers(self, method: str, object: str, status: int, code: str = "", **more):
        """Lets S3 give an answer to the next requests of a kind, and requires that all of the answers were given."""
        self.control("POST", "answers", {"method": method, "object": object, "status": status, "code": code, **more})
        left = []
        try:
            yield
        finally:
            left = self.control("DELETE", "answers", {"object": object})
        assert not left, "there were fewer requests than answers"

    def control(self, method: str, name: str, values: dict):
        """Sends a request to `local_aws.controls`."""
        request = urllib.request.Request(f"{self.endpoint}/_local-aws/{name}", json.dumps(values).encode(), method=method)
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    @functools.cache
    def client(self, service: str):
        """Returns a client with administrator credentials."""
        return self.client_with(service, "administrator", "administrator", None)

    def client_as(self, service: str, role_arn: str):
        """Returns a client with the credentials of a role."""
        credentials = self.client("sts").assume_role(RoleArn=role_arn, RoleSessionName="test")["Credentials"]
        names = ("AccessKeyId", "SecretAccessKey", "SessionToken")
        return self.client_with(service, *(credentials[name] for name in names))

    def client_without_checksums(self, service: str):
        """Returns a client that sends checksums only where a service requires them."""
        return self.client_with(service, "administrator", "administrator", None, request_checksum_calculation="when_required")

    def client_with(self, service: str, key: str, secret: str, token: str | None, **config):
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            config=Config(retries={"total_max_attempts": 1}, read_timeout=600, **config),
        )


def clean_environment() -> dict[str, str]:
    """Returns the environment without the variables that AWS clients, the pipeline or Terraform read."""
    removed = (
        "AWS_",
        "MOTO_",
        "TF_VAR_",
        "TF_WORKSPACE",
        "TF_DATA_DIR",
        "TF_CLI_ARGS",
        "GRAPH_",
        "TRANSPOSE_",
        "ETHEREUM_",
        "DEFI_",
        "RUST_LOG",
    )
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(removed) or name == "DEFI_TERRAFORM_MIRROR"
    }
    # All requests go to this machine, except those to the Terraform registry.
    return {**kept, "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
