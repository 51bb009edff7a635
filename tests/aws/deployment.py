"""The pipeline deployed on a local AWS, and what the tests do with it."""

import contextlib
import json
import time
from collections.abc import Iterable
from pathlib import Path

from aws import LocalAws
from defi import API_KEY, RECORDING, Served
from packages import STEPS, packages
from terraform import Terraform

ENVIRONMENT = "dev"
LONGEST_RUN_SECONDS = 240


class Deployment:
    """What `terraform apply` made, over a recording or the sample chain that is served on this machine."""

    def __init__(self, folder: Path, recording: Path | None = RECORDING):
        self.folder, self.recording, self.open = folder, recording, contextlib.ExitStack()
        # Every message so far.
        self.told: list[dict] = []

    def __enter__(self) -> "Deployment":
        self.served = self.open.enter_context(Served(self.recording))
        self.aws = self.open.enter_context(LocalAws(self.folder / "functions"))
        variables = {
            "package_dir": str(packages(self.folder / "packages")),
            "graph_url": self.served.graph_url,
            "transpose_url": self.served.transpose_url,
            "force_destroy": True,
        }
        self.terraform = Terraform(self.folder, self.aws.environment(), variables)
        self.terraform.init()
        self.terraform.workspace(ENVIRONMENT)
        # More at once than by default: what only waits should wait together.
        self.terraform.apply("-parallelism=30")
        outputs = self.terraform.outputs()
        self.bucket, self.machine = outputs["lake_bucket"], outputs["state_machine_arn"]
        self.functions, self.databases, self.secrets = (outputs[name] for name in ("functions", "databases", "secrets"))
        self.queue = self.subscribe(outputs["topic_arn"])
        self.put_keys(API_KEY)
        return self

    def __exit__(self, *_) -> None:
        self.open.close()

    def client(self, service: str):
        return self.aws.client(service)

    def subscribe(self, topic: str) -> str:
        """A queue that gets what the topic gets."""
        sqs = self.client("sqs")
        queue = sqs.create_queue(QueueName="messages")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        self.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        return queue

    def messages(self, execution: "Execution | None" = None) -> list[dict]:
        """What was told of an execution, or of all: the messages, each with its outcome as an attribute has it."""
        sqs = self.client("sqs")
        while received := sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages"):
            for message in received:
                sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
                body = json.loads(message["Body"])
                outcome = body["MessageAttributes"]["outcome"]["Value"]
                self.told.append({"subject": body.get("Subject"), "attribute": outcome, **json.loads(body["Message"])})
        return [message for message in self.told if execution is None or message["execution"] == execution.arn]

    def put_keys(self, graph: str, transpose: str | None = None) -> None:
        """What a person does once after the first apply."""
        for source, key in (("graph", graph), ("transpose", transpose or graph)):
            self.client("secretsmanager").put_secret_value(SecretId=self.secrets[source], SecretString=key)

    def environment_of(self, step: str) -> dict[str, str]:
        return self.client("lambda").get_function_configuration(FunctionName=self.functions[step])["Environment"]["Variables"]

    @contextlib.contextmanager
    def configured(self, steps: Iterable[str], **variables: str):
        """Functions with other environment variables. They begin anew, and so does their reading of secrets."""
        before = {step: self.environment_of(step) for step in steps}
        try:
            for step, environment in before.items():
                self.configure(step, {**environment, **variables})
            yield
        finally:
            for step, environment in before.items():
                self.configure(step, environment)

    def configure(self, step: str, environment: dict[str, str]) -> None:
        self.client("lambda").update_function_configuration(
            FunctionName=self.functions[step], Environment={"Variables": environment}
        )

    def start(self, given: dict) -> str:
        return self.client("stepfunctions").start_execution(stateMachineArn=self.machine, input=json.dumps(given))[
            "executionArn"
        ]

    def run(self, given: dict) -> "Execution":
        """An execution to its end."""
        return self.wait(self.start(given))

    def executions(self) -> list["Execution"]:
        """All that have ended."""
        states = self.client("stepfunctions")
        pages = states.get_paginator("list_executions").paginate(stateMachineArn=self.machine)
        arns = [execution["executionArn"] for page in pages for execution in page["executions"]]
        return [Execution(self, states.describe_execution(executionArn=arn)) for arn in arns]

    def wait(self, arn: str) -> "Execution":
        states, deadline = self.client("stepfunctions"), time.monotonic() + LONGEST_RUN_SECONDS
        while (end := states.describe_execution(executionArn=arn))["status"] == "RUNNING":
            assert time.monotonic() < deadline, f"{arn} still runs: {Execution(self, end).states()[-5:]}"
            time.sleep(0.1)
        return Execution(self, end)

    def call(self, step: str, event: dict) -> tuple[bool, dict, int]:
        """Whether a function failed, what it answered, and how many bytes that took."""
        answer = self.client("lambda").invoke(FunctionName=self.functions[step], Payload=json.dumps(event))
        payload = answer["Payload"].read()
        return "FunctionError" in answer, json.loads(payload), len(payload)

    def role_of(self, step: str) -> str:
        return self.client("lambda").get_function_configuration(FunctionName=self.functions[step])["Role"]

    def versions(self) -> dict[str, tuple[str, str]]:
        """The newest version of every object of the lake: its ETag and its id."""
        pages = self.client("s3").get_paginator("list_object_versions").paginate(Bucket=self.bucket)
        newest = [version for page in pages for version in page.get("Versions", []) if version["IsLatest"]]
        return {version["Key"]: (version["ETag"], version["VersionId"]) for version in newest}

    def objects(self) -> dict[str, bytes]:
        """What is in the lake, apart from the runs' own files."""
        return {key: self.body(key) for key in self.versions() if not key.startswith("runs/")}

    def body(self, key: str) -> bytes:
        return self.client("s3").get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def tables(self) -> dict[str, dict]:
        """The catalog, by database and table."""
        glue = self.client("glue")
        found = {}
        for database in self.databases.values():
            for page in glue.get_paginator("get_tables").paginate(DatabaseName=database):
                found |= {f"{database}.{table['Name']}": table for table in page["TableList"]}
        return found

    def partitions(self, table: str) -> dict[tuple[str, ...], dict]:
        """A table's partitions, by their values."""
        database, name = table.split(".")
        pages = self.client("glue").get_paginator("get_partitions").paginate(DatabaseName=database, TableName=name)
        return {tuple(found["Values"]): found for page in pages for found in page["Partitions"]}

    def empty(self) -> None:
        """Empties lake and catalog, as if nothing had run yet."""
        s3, glue = self.client("s3"), self.client("glue")
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=self.bucket):
            for version in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                s3.delete_object(Bucket=self.bucket, Key=version["Key"], VersionId=version["VersionId"])
        for table in self.tables():
            database, name = table.split(".")
            glue.delete_table(DatabaseName=database, Name=name)

    def published(self) -> str | None:
        """The as_of that defi_features points at."""
        table = self.tables().get(f"{self.databases['analytics']}.defi_features")
        return table and table["Parameters"]["as_of"]

    def calls(self) -> list[dict]:
        """Every call of a function so far, whoever made it."""
        return [json.loads(line) for line in (self.folder / "functions" / "calls.jsonl").read_text().splitlines()]

    def logs(self) -> str:
        """All that is in the log groups of the functions."""
        logs = self.client("logs")
        groups = [f"/aws/lambda/{self.functions[step]}" for step in STEPS]
        pages = (page for group in groups for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group))
        return "\n".join(event["message"] for page in pages for event in page["events"])


class Execution:
    """One that has ended."""

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
        """The names of the states that were entered, in that order. Those of a map's items are executions of their own."""
        entered = (event.get("stateEnteredEventDetails") for event in self.history())
        return [details["name"] for details in entered if details]
