"""Deploys the pipeline to a local AWS, and provides operations on the deployment for the tests."""

import contextlib
import functools
import json
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aws import LocalAws
from defi import FolderLake, NodeProcess, ServeProcess
from packages import FUNCTIONS, packages
from terraform import Terraform

ENVIRONMENT = "dev"
RUN_TIMEOUT_SECONDS = 240
# The time between two polls of an execution, each of which takes CPU time.
POLL_SECONDS = 0.3

# The local AWS is as slow and as eventually consistent as AWS, with the limits of a new account. The intervals of retries are
# shorter.
SETTINGS = {
    "latency_ms": 30,
    "listing_delay": 3,
    "description_delay": 0.5,
    "unknown_delay": 1.5,
    "retry_interval_factor": 0.02,
    "concurrent_calls": 10,
    "function_memory": 3008,
}


class Deployment:
    """The resources that Terraform deploys, with a server on this machine as their source."""

    def __init__(self, folder: Path, server: ServeProcess | NodeProcess):
        self.folder, self.server, self.stack = folder, server, contextlib.ExitStack()
        # All messages received so far.
        self.received: list[dict] = []

    def __enter__(self) -> "Deployment":
        self.stack.enter_context(self.server)
        self.aws = self.stack.enter_context(LocalAws(self.folder / "functions", **SETTINGS))
        variables = {
            "package_dir": str(packages(self.folder / "packages", self.server.schema)),
            **self.server.variables,
            "force_destroy": True,
            "feast": True,
            "test_events": True,
            "test_event_registry": True,
            "features_url": True,
            # Not the default, so that all that finds the lake finds it by what was deployed.
            "lake_bucket": "lake-of-the-tests",
        }
        self.terraform = Terraform(self.folder, self.aws.environment(), variables)
        self.stack.callback(self.terraform.finish)
        self.terraform.init()
        self.terraform.workspace(ENVIRONMENT)
        # More operations in parallel than by default, because most of them only wait.
        outputs = self.terraform.apply_at_once("-parallelism=30")
        self.bucket, self.machine, self.starter = (outputs[name] for name in ("lake_bucket", "state_machine_arn", "starter_arn"))
        self.functions, self.databases, self.secrets = (outputs[name] for name in ("functions", "databases", "secrets"))
        self.topic, self.reader_policy = outputs["topic_arn"], json.loads(outputs["reader_policy"])
        self.features_url = outputs["features_url"]
        self.feast_policy = json.loads(outputs["feast_policy"])
        self.queue = self.subscribe(self.topic)
        self.put_secrets(**self.server.secrets)
        return self

    def __exit__(self, *_) -> None:
        self.stack.close()

    def client(self, service: str):
        return self.aws.client(service)

    def subscribe(self, topic: str) -> str:
        """Creates a queue that receives the messages of a topic, and returns its URL."""
        sqs = self.client("sqs")
        queue = sqs.create_queue(QueueName="messages")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        self.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        return queue

    def messages(self, execution: "Execution | None" = None) -> list[dict]:
        """Returns the messages about an execution, or all messages, each with the value of its attribute `outcome`."""
        sqs = self.client("sqs")
        while received := sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages"):
            for message in received:
                sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
                body = json.loads(message["Body"])
                outcome = body["MessageAttributes"]["outcome"]["Value"]
                self.received.append({"subject": body.get("Subject"), "attribute": outcome, **json.loads(body["Message"])})
        return [message for message in self.received if execution is None or message["execution"] == execution.arn]

    def put_secrets(self, **values: str) -> None:
        """Sets the secrets of sources, as a person does after the first apply."""
        for source, value in values.items():
            self.client("secretsmanager").put_secret_value(SecretId=self.secrets[source], SecretString=value)

    def environment_of(self, step: str) -> dict[str, str]:
        return self.client("lambda").get_function_configuration(FunctionName=self.functions[step])["Environment"]["Variables"]

    @contextlib.contextmanager
    def configured(self, steps: Iterable[str], timeout: int | None = None, **variables: str):
        """Temporarily sets the environment variables of functions, and their timeout. As a deployment does, this publishes
        versions, which the state machine calls meanwhile. The functions restart and read their secrets again."""
        functions, states = self.client("lambda"), self.client("stepfunctions")
        before = {step: functions.get_function_configuration(FunctionName=self.functions[step]) for step in steps}
        definition = states.describe_state_machine(stateMachineArn=self.machine)["definition"]
        changed, versions = definition, {}
        try:
            for step, configuration in before.items():
                environment = {**configuration["Environment"]["Variables"], **variables}
                self.configure(step, environment, timeout or configuration["Timeout"])
                versions[step] = functions.publish_version(FunctionName=self.functions[step])["Version"]
                changed = re.sub(rf"(:function:{self.functions[step]}):[0-9]+", rf"\1:{versions[step]}", changed)
            states.update_state_machine(stateMachineArn=self.machine, definition=changed)
            yield
        finally:
            states.update_state_machine(stateMachineArn=self.machine, definition=definition)
            for step, configuration in before.items():
                self.configure(step, configuration["Environment"]["Variables"], configuration["Timeout"])
            for step, version in versions.items():
                functions.delete_function(FunctionName=self.functions[step], Qualifier=version)

    def configure(self, step: str, environment: dict[str, str], timeout: int) -> None:
        self.client("lambda").update_function_configuration(
            FunctionName=self.functions[step], Environment={"Variables": environment}, Timeout=timeout
        )

    def start(self, run_input: dict, name: str | None = None) -> str:
        """Starts an execution. AWS chooses its name, unless there is one."""
        named = {"name": name} if name else {}
        states = self.client("stepfunctions")
        return states.start_execution(stateMachineArn=self.machine, input=json.dumps(run_input), **named)["executionArn"]

    def run(self, run_input: dict) -> "Execution":
        """Starts an execution and waits until it ends."""
        return self.wait(self.start(run_input))

    def executions(self) -> list["Execution"]:
        """Returns all executions."""
        states = self.client("stepfunctions")
        with self.aws.settings(listing_delay=0):
            pages = states.get_paginator("list_executions").paginate(stateMachineArn=self.machine)
            arns = [execution["executionArn"] for page in pages for execution in page["executions"]]
        return [Execution(self, self.describe(arn)) for arn in arns]

    def describe(self, arn: str) -> dict:
        """Describes an execution, as soon as AWS knows of it."""
        states, deadline = self.client("stepfunctions"), time.monotonic() + RUN_TIMEOUT_SECONDS
        while True:
            try:
                return states.describe_execution(executionArn=arn)
            except states.exceptions.ExecutionDoesNotExist:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)

    def wait(self, arn: str) -> "Execution":
        deadline = time.monotonic() + RUN_TIMEOUT_SECONDS
        while (end := self.describe(arn))["status"] == "RUNNING":
            assert time.monotonic() < deadline, f"{arn} still runs: {Execution(self, end).states()[-5:]}"
            time.sleep(POLL_SECONDS)
        return Execution(self, end)

    def wait_for_state(self, arn: str, name: str) -> None:
        """Waits until an execution has entered a state."""
        execution = Execution(self, self.describe(arn))
        deadline = time.monotonic() + RUN_TIMEOUT_SECONDS
        while name not in execution.states():
            assert time.monotonic() < deadline, f"{arn} has not entered {name}: {execution.states()[-5:]}"
            time.sleep(0.1)

    def call(self, step: str, event: dict) -> tuple[bool, dict, int]:
        """Calls a function. Returns whether it failed, its response, and the size of the response in bytes."""
        response = self.client("lambda").invoke(FunctionName=self.functions[step], Payload=json.dumps(event))
        payload = response["Payload"].read()
        return "FunctionError" in response, json.loads(payload), len(payload)

    def policies(self) -> dict[str, dict[str, dict]]:
        """Returns all policies as they were deployed, by kind and name."""
        iam, s3, prefix = self.client("iam"), self.client("s3"), f"defi-{ENVIRONMENT}-"
        roles = {role["RoleName"].removeprefix(prefix): role for role in iam.list_roles()["Roles"] if role["RoleName"].startswith(prefix)}
        identity = {}
        for name, role in roles.items():
            (policy,) = iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
            identity[name] = iam.get_role_policy(RoleName=role["RoleName"], PolicyName=policy)["PolicyDocument"]
            assert not iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"], name
        buckets = {"lake": self.bucket, "athena": f"{self.bucket}-athena"}
        resource = {name: json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"]) for name, bucket in buckets.items()}
        resource["topic"] = json.loads(self.client("sns").get_topic_attributes(TopicArn=self.topic)["Attributes"]["Policy"])
        trust = {name: role["AssumeRolePolicyDocument"] for name, role in roles.items()}
        return {"identity": identity, "trust": trust, "resource": resource, "reader": {"reader": self.reader_policy, "feast": self.feast_policy}}

    @contextlib.contextmanager
    def reader(self) -> Iterator[dict[str, str]]:
        """Creates a role that has the policy for readers, for as long as the context lasts. Gives its credentials, as environment
        variables."""
        iam, name = self.client("iam"), "reads-the-lake"
        trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName="read", PolicyDocument=json.dumps(self.reader_policy))
        try:
            keys = self.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
            names = {"AWS_ACCESS_KEY_ID": "AccessKeyId", "AWS_SECRET_ACCESS_KEY": "SecretAccessKey", "AWS_SESSION_TOKEN": "SessionToken"}
            yield {variable: keys[name] for variable, name in names.items()}
        finally:
            iam.delete_role_policy(RoleName=name, PolicyName="read")
            iam.delete_role(RoleName=name)

    def role_of(self, step: str) -> str:
        return self.client("lambda").get_function_configuration(FunctionName=self.functions[step])["Role"]

    def versions(self) -> dict[str, tuple[str, str]]:
        """Returns the ETag and the id of the newest version of each object in the lake, by key."""
        pages = self.client("s3").get_paginator("list_object_versions").paginate(Bucket=self.bucket)
        newest = [version for page in pages for version in page.get("Versions", []) if version["IsLatest"]]
        return {version["Key"]: (version["ETag"], version["VersionId"]) for version in newest}

    def objects(self, without: tuple[str, ...] = ("runs/", "state/unfinished/")) -> dict[str, bytes]:
        """Returns the objects of the lake by key, without those of runs."""
        keys = [key for key in self.versions() if not key.startswith(without)]
        with ThreadPoolExecutor(16) as pool:
            return dict(zip(keys, pool.map(self.body, keys), strict=True))

    def body(self, key: str) -> bytes:
        return self.client("s3").get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def tables(self) -> dict[str, dict]:
        """Returns the tables of the catalog by `database.table`."""
        return {name: entry for name, entry in self.catalog().items() if entry["TableType"] != "VIRTUAL_VIEW"}

    def catalog(self) -> dict[str, dict]:
        """Returns the tables and views of the catalog by `database.name`."""
        glue = self.client("glue")
        found = {}
        for database in self.databases.values():
            for page in glue.get_paginator("get_tables").paginate(DatabaseName=database):
                found |= {f"{database}.{table['Name']}": table for table in page["TableList"]}
        return found

    def partitions(self, table: str) -> dict[tuple[str, ...], dict]:
        """Returns the partitions of a table, by their values."""
        database, name = table.split(".")
        pages = self.client("glue").get_paginator("get_partitions").paginate(DatabaseName=database, TableName=name)
        return {tuple(found["Values"]): found for page in pages for found in page["Partitions"]}

    def empty(self) -> None:
        """Deletes all objects of the lake and all tables of the catalog."""
        s3, glue = self.client("s3"), self.client("glue")
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=self.bucket):
            versions = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            named = [{name: version[name] for name in ("Key", "VersionId")} for version in versions]
            if named:
                assert "Errors" not in s3.delete_objects(Bucket=self.bucket, Delete={"Objects": named, "Quiet": True})
        for entry in self.catalog():
            database, name = entry.split(".")
            glue.delete_table(DatabaseName=database, Name=name)

    def published(self) -> str | None:
        """Returns the as-of day of defi_features, or None if nothing is published."""
        table = self.tables().get(f"{self.databases['analytics']}.defi_features")
        return table and table["Parameters"]["as_of"]

    def calls(self) -> list[dict]:
        """Returns all calls of functions so far, by the tests and by the state machine."""
        journal = self.folder / "functions" / "calls.jsonl"
        return [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []

    def texts(self) -> dict[str, str]:
        """Returns what people read of the deployment and its runs, by place: where no secret may be."""
        executions = self.executions()
        texts = {
            "logs": self.logs(),
            "output of the functions": "".join(file.read_text() for file in (self.folder / "functions" / "logs").iterdir()),
            "histories": str([(execution.output, execution.cause, execution.history()) for execution in executions]),
            "messages": str([self.messages(execution) for execution in executions]),
            "environments": str([self.environment_of(step) for step in FUNCTIONS]),
            "state of Terraform": "".join(
                file.read_text() for file in self.terraform.folder.rglob("terraform.tfstate*") if file.is_file()
            ),
            "definition": str(self.client("stepfunctions").describe_state_machine(stateMachineArn=self.machine)),
            "runs": str([self.body(key) for key in self.versions() if key.startswith("runs/")]),
        }
        assert all(len(text) > 200 for text in texts.values()), {place: len(text) for place, text in texts.items()}
        return texts

    def counted_by(self, name: str, step: str) -> int:
        """Returns how many lines in the log of a function a metric filter counts. moto stores filters, and counts nothing."""
        logs, group = self.client("logs"), f"/aws/lambda/{self.functions[step]}"
        (found,) = logs.describe_metric_filters(logGroupName=group, filterNamePrefix=name)["metricFilters"]
        path, value = re.fullmatch(r'{ \$\.([\w.]+) = "(\w+)" }', found["filterPattern"]).groups()
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
        lines = [json.loads(event["message"]) for page in pages for event in page["events"] if event["message"].startswith("{")]
        return sum(functools.reduce(lambda line, key: line.get(key, {}), path.split("."), line) == value for line in lines)

    def logs(self) -> str:
        """Returns all messages in the log groups of the functions."""
        logs = self.client("logs")
        groups = [f"/aws/lambda/{self.functions[step]}" for step in FUNCTIONS]
        pages = (page for group in groups for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group))
        return "\n".join(event["message"] for page in pages for event in page["events"])


class Execution:
    """An execution that has ended."""

    def __init__(self, deployment: Deployment, description: dict):
        self.arn, self.status = description["executionArn"], description["status"]
        self.error, self.cause = description.get("error"), description.get("cause", "")
        self.output = json.loads(description.get("output") or "null")
        self.deployment = deployment

    def __repr__(self) -> str:
        return f"{self.status} {self.error}: {self.cause} {self.states()[-5:]}"

    def history(self) -> list[dict]:
        pages = self.deployment.client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=self.arn)
        return [event for page in pages for event in page["events"]]

    def states(self) -> list[str]:
        """Returns the names of the entered states in order, without those of a map's items, which are separate
        executions."""
        entered = (event.get("stateEnteredEventDetails") for event in self.history())
        return [details["name"] for details in entered if details]


def assert_equal_catalogs(deployment: Deployment, folder_lake: FolderLake) -> None:
    """Asserts that the catalog has the tables, columns, partitions and locations of a lake in a folder."""
    ours, theirs = deployment.tables(), folder_lake.tables()
    assert ours.keys() == theirs.keys()
    for name, table in ours.items():
        expected, storage = theirs[name], table["StorageDescriptor"]
        columns = [
            {"name": column["Name"], "type": column["Type"], "comment": column["Comment"]} for column in storage["Columns"]
        ]
        assert columns == expected["columns"], name
        assert [key["Name"] for key in table["PartitionKeys"]] == expected["partition_columns"], name
        assert storage["Location"] == f"s3://{deployment.bucket}/{expected['location']}/", name
        assert table["Parameters"].items() >= expected["parameters"].items(), name
        folders, found = folder_lake.partitions(name), deployment.partitions(name)
        assert found.keys() == folders.keys(), name
        for values, partition in found.items():
            assert partition["StorageDescriptor"]["Location"] == f"s3://{deployment.bucket}/{folders[values]}/", name
            assert partition["StorageDescriptor"]["Columns"] == storage["Columns"], name
