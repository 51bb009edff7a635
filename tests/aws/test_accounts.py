"""The command finds credentials, region and bucket where people have them: profiles of IAM Identity Center, roles that a
profile assumes, `credential_process`, and the location of the Glue database."""

import hashlib
import json
import stat
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from aws import REGION, clean_environment
from packages import BUILT

KEYS = {"AWS_ACCESS_KEY_ID": "administrator", "AWS_SECRET_ACCESS_KEY": "administrator"}
START_URL = "https://example.awsapps.com/start"


@pytest.fixture(scope="module")
def state_machine(local_aws, role):
    """Creates a state machine with the name of the deployed one."""
    definition = json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}})
    arn = role("of-the-state-machine", "states.amazonaws.com")
    return local_aws.client("stepfunctions").create_state_machine(name="defi-dev", definition=definition, roleArn=arn)


class Account:
    """A home directory with a profile, and the environment of a person."""

    def __init__(self, home: Path, endpoint: str):
        self.home, self.endpoint = home, endpoint

    def profile(self, text: str) -> None:
        (self.home / ".aws").mkdir(exist_ok=True)
        (self.home / ".aws" / "config").write_text(text)

    def token(self, identifier: str, expires: str) -> None:
        """Writes the token that `aws sso login` leaves."""
        cache = self.home / ".aws" / "sso" / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        token = {"accessToken": "token", "expiresAt": expires, "region": REGION, "startUrl": START_URL}
        (cache / f"{hashlib.sha1(identifier.encode()).hexdigest()}.json").write_text(json.dumps(token))

    def defi(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        kept = {"HOME": str(self.home), "AWS_ENDPOINT_URL": self.endpoint, "AWS_EC2_METADATA_DISABLED": "true"}
        environment = {**clean_environment(), **kept, **variables}
        result = subprocess.run([BUILT / "defi", *arguments], env=environment, capture_output=True, text=True, timeout=60)
        return result.returncode, result.stdout, result.stderr

    def succeeds(self, **variables: str) -> None:
        code, out, err = self.defi("status", **variables)
        assert (code, err) == (0, "") and "no execution exists yet" in out, out + err

    def fails(self, *parts: str, kind: str = "BadCredentials", **variables: str) -> None:
        """Asserts that the command ends with one line that has a kind and the parts, the last of which is the next step."""
        code, _, err = self.defi("status", **variables)
        assert code == (2 if kind == "BadInput" else 1) and err.startswith(f"error: {kind}: ") and err.count("\n") == 1, err
        assert all(part in err for part in parts) and parts[-1] in err.rpartition("; next: ")[2], err


@pytest.fixture
def account(local_aws, state_machine, tmp_path):
    return Account(tmp_path, local_aws.endpoint)


@pytest.fixture
def portal():
    """Serves the API of the portal of IAM Identity Center, for one token."""

    class Portal(BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.headers["x-amz-sso_bearer_token"] == "token" and "role_name=Analyst" in self.path
            credentials = {"accessKeyId": "administrator", "secretAccessKey": "administrator", "sessionToken": "session"}
            granted = {"roleCredentials": {**credentials, "expiration": 4_000_000_000_000}}
            denied = {"__type": "UnauthorizedException", "message": "Session token not found or invalid"}
            self.send_response(200 if known else 401)
            self.send_header("x-amzn-errortype", "" if known else "UnauthorizedException")
            self.end_headers()
            self.wfile.write(json.dumps(granted if known else denied).encode())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Portal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_credential_process(account):
    script = account.home / "vault"
    account.profile(f"[profile vault]\nregion = {REGION}\ncredential_process = {script} --of me\n")
    keys = {"Version": 1, "AccessKeyId": "administrator", "SecretAccessKey": "administrator"}
    script.write_text(f"#!/bin/sh\necho '{json.dumps(keys)}'\n")
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    account.succeeds(AWS_PROFILE="vault")
    script.write_text("#!/bin/sh\necho 'the vault\nis locked' >&2\nexit 3\n")
    account.fails("the vault is locked", "profile=vault", "run the credential_process", AWS_PROFILE="vault")


def test_assumed_role(account, role):
    statements = [{"Effect": "Allow", "Action": ["states:ListStateMachines", "states:ListExecutions"], "Resource": "*"}]
    profiles = f"[profile base]\naws_access_key_id = %s\naws_secret_access_key = administrator\n[profile reader]\nregion = {REGION}\nrole_arn = %s\nsource_profile = base\n"
    account.profile(profiles % ("administrator", role("reader-of-runs", "ec2.amazonaws.com", *statements)))
    account.succeeds(AWS_PROFILE="reader")
    # The calls are those of the role.
    without = role("reader-of-nothing", "ec2.amazonaws.com")
    account.profile(profiles % ("administrator", without))
    account.fails("assumed-role/reader-of-nothing/", "not authorized", "grant the role", AWS_PROFILE="reader")
    # A session that STS does not know, such as one that has expired.
    account.profile(profiles % ("ASIAEXPIRED", without))
    account.fails("security token", "aws sts get-caller-identity --profile reader", AWS_PROFILE="reader")


@pytest.mark.parametrize("form", ["session", "start_url"])
def test_profile_of_identity_center(account, portal, form):
    session = f"[sso-session people]\nsso_start_url = {START_URL}\nsso_region = {REGION}\nsso_registration_scopes = sso:account:access\n"
    start = "sso_session = people" if form == "session" else f"sso_start_url = {START_URL}\nsso_region = {REGION}"
    identifier = "people" if form == "session" else START_URL
    role = "sso_account_id = 123456789012\nsso_role_name = %s\n"
    account.profile(f"{session}[profile analyst]\nregion = {REGION}\n{start}\n{role % 'Analyst'}[profile other]\nregion = {REGION}\n{start}\n{role % 'Other'}")
    account.fails("the session of IAM Identity Center is not valid", "sign in again: aws sso login --profile analyst", AWS_PROFILE="analyst", AWS_ENDPOINT_URL_SSO=portal)
    account.token(identifier, "2099-01-01T00:00:00Z")
    account.succeeds(AWS_PROFILE="analyst", AWS_ENDPOINT_URL_SSO=portal)
    account.fails("Session token not found", "aws sso login --profile other", AWS_PROFILE="other", AWS_ENDPOINT_URL_SSO=portal)
    if form == "session":
        account.token(identifier, "2020-01-01T00:00:00Z")
        account.fails("expired", "aws sso login --profile analyst", AWS_PROFILE="analyst", AWS_ENDPOINT_URL_SSO=portal)


def test_missing_credentials_and_region_say_what_to_do(account):
    account.fails("there are no AWS credentials", "aws sso login or aws configure", AWS_REGION=REGION)
    account.profile("[default]\n")
    account.fails("`dev`", "correct the profile", AWS_REGION=REGION, AWS_PROFILE="dev")
    account.fails("no AWS region is set", "AWS_REGION", kind="BadInput", **KEYS)


def test_bucket_is_that_of_the_database(account, local_aws):
    def tables() -> str:
        code, _, err = account.defi("tables", "--aws", AWS_REGION=REGION, **KEYS)
        assert code == 2 and err.startswith("error: BadInput: ") and err.count("\n") == 1, err
        return err

    assert "db_analytics_dev does not exist" in tables()
    glue, s3 = local_aws.client("glue"), local_aws.client("s3")
    glue.create_database(DatabaseInput={"Name": "db_analytics_dev"})
    try:
        assert "has no location in S3" in tables()
        s3.create_bucket(Bucket="a-lake-of-ours")
        glue.update_database(Name="db_analytics_dev", DatabaseInput={"Name": "db_analytics_dev", "LocationUri": "s3://a-lake-of-ours/"})
        code, _, err = account.defi("doctor", "--aws", "--json", AWS_REGION=REGION, **KEYS)
        assert "the bucket of the lake is unknown" not in err and code == 1, "the secrets are missing, the lake is found"
    finally:
        glue.delete_database(Name="db_analytics_dev")
