"""Corrects the behaviour of moto's Step Functions."""

import functools
import json
import sys
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import boto3
from botocore.config import Config
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.core.config import default_user_config
from moto.core.exceptions import AWSError
from moto.core.responses import ActionResult
from moto.stepfunctions.exceptions import ExecutionDoesNotExist
from moto.stepfunctions.parser.api import (
    EvaluationFailedEventDetails,
    ExecutionStatus,
    HistoryEventType,
    MapRunFailedEventDetails,
)
from moto.stepfunctions.parser.asl.component.common.error_name.error_equals_decl import ErrorEqualsDecl
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import FailureEvent, FailureEventException
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import StatesErrorNameType
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.component.state.exec.state_map.item_reader.item_reader_decl import ItemReader
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.itemprocessor.distributed_item_processor_worker import (
    DistributedItemProcessorWorker,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_lambda import (
    StateTaskServiceLambda,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_sfn import StateTaskServiceSfn
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
from moto.stepfunctions.parser.asl.eval.program_state import ProgramEnded
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.backend.execution import BaseExecutionWorkerCommunication, Execution
from moto.stepfunctions.parser.models import StepFunctionsParserBackend
from moto.stepfunctions.responses import StepFunctionResponse

from . import roles
from .controls import settings

REGION = "us-east-1"
FATAL = (StatesErrorNameType.StatesRuntime, StatesErrorNameType.StatesStatesDataLimitExceeded)


class InvalidDefinition(AWSError):
    TYPE = "InvalidDefinition"
    STATUS = 400


def install(endpoint: str) -> None:
    """Corrects the interpreter and enables it."""
    default_user_config["stepfunctions"]["execute_state_machine"] = True
    parse_definitions_once()
    call_with_the_role_of_the_machine(endpoint)
    reject_invalid_transitions()
    name_every_execution()
    start_executions_from_executions()
    fail_a_map_whose_items_fail()
    fail_a_map_whose_items_cannot_be_read()
    keep_fatal_errors_from_catch_all()
    support_calls_of_terraform()
    page_histories()
    stop_executions_at_once()
    show_executions_late()
    scale_retry_intervals()


def parse_definitions_once() -> None:
    """Parses a definition once, because its evaluation changes nothing in the result. moto parses it for each execution,
    which takes half a second."""
    original = AmazonStateLanguageParser.parse
    AmazonStateLanguageParser.parse = staticmethod(functools.lru_cache(maxsize=32)(original))


def call_with_the_role_of_the_machine(endpoint: str) -> None:
    """Calls services with the credentials of the machine's role, and reuses clients. moto uses invalid keys and a new
    client for each call."""
    creation_lock = threading.Lock()

    @functools.cache
    def client(region: str, service: str, role_arn: str, machine_arn: str):
        assumed = roles.assume(role_arn, "states.amazonaws.com", uuid.uuid4().hex, machine_arn, region)
        return boto3.client(
            service,
            region_name=region,
            endpoint_url=endpoint,
            aws_access_key_id=assumed.access_key_id,
            aws_secret_access_key=assumed.secret_access_key,
            aws_session_token=assumed.session_token,
            config=Config(
                parameter_validation=False, retries={"total_max_attempts": 1}, read_timeout=1000, max_pool_connections=64
            ),
        )

    def boto_client_for(region: str, service: str, state_credentials=None):
        role_arn = state_credentials.role_arn
        with creation_lock:
            return client(region, service, role_arn, machine_of(role_arn))

    for module in [module for name, module in sys.modules.items() if name.startswith("moto.stepfunctions.")]:
        if hasattr(module, "boto_client_for"):
            module.boto_client_for = boto_client_for

    original = StateTaskServiceLambda._error_cause_from_client_error

    def error_and_cause(client_error):
        error, cause = original(client_error)
        # Step Functions has no specific error name for a call that the role does not allow.
        return ("Lambda.AWSLambdaException" if error.startswith("Lambda.AccessDenied") else error), cause

    StateTaskServiceLambda._error_cause_from_client_error = staticmethod(error_and_cause)


def machine_of(role_arn: str) -> str:
    from moto.stepfunctions.parser.models import stepfunctions_parser_backends

    machines = stepfunctions_parser_backends[ACCOUNT][REGION].state_machines
    return next((machine.arn for machine in machines if machine.roleArn == role_arn), "")


def reject_invalid_transitions() -> None:
    """Rejects a definition with transitions to missing states, which moto accepts."""
    original = StepFunctionsParserBackend._validate_definition

    def validate(definition: str) -> None:
        try:
            original(definition)
            wrong = problems(json.loads(definition), "")
        except Exception as cause:
            wrong = [f"SCHEMA_VALIDATION_FAILED: {getattr(cause, 'message', cause)}"]
        if wrong:
            raise InvalidDefinition(f"Invalid State Machine Definition: '{'; '.join(wrong)[:2000]}'")

    StepFunctionsParserBackend._validate_definition = staticmethod(validate)


def problems(machine: dict, path: str) -> list[str]:
    """Returns the transitions to missing states, and the unreachable states."""
    states = machine["States"]
    reached = {machine["StartAt"]}
    wrong = [] if machine["StartAt"] in states else [f"MISSING_TRANSITION_TARGET: StartAt at {path}"]
    for name, state in states.items():
        targets = list(transitions(state))
        reached.update(targets)
        wrong += [f"MISSING_TRANSITION_TARGET: {target} at {path}/States/{name}" for target in targets if target not in states]
        for part in ([state[key] for key in ("ItemProcessor", "Iterator") if key in state]) + state.get("Branches", []):
            wrong += problems(part, f"{path}/States/{name}")
    return wrong + [f"UNREACHABLE_STATE: {path}/States/{name}" for name in states if name not in reached]


def transitions(state: dict):
    """Yields the names of the next states of a state."""
    for part in [state, *state.get("Choices", []), *state.get("Catch", [])]:
        yield from (part[key] for key in ("Next", "Default") if key in part)


def name_every_execution() -> None:
    """Generates missing names of executions, validates given ones, and makes $$.Execution.StartTime a string. moto
    names an execution None, accepts any name, and uses another type for the time."""
    original = StepFunctionsParserBackend.start_execution

    def start_execution(self, state_machine_arn, name=None, execution_input=None, trace_header=None):
        name = name or str(uuid.uuid4())
        self._validate_name(name)
        return original(self, state_machine_arn, name, execution_input, trace_header)

    details = Execution.get_start_execution_details

    def get_start_execution_details(self):
        found = details(self)
        found.start_time = self.start_date.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return found

    StepFunctionsParserBackend.start_execution = start_execution
    Execution.get_start_execution_details = get_start_execution_details


def start_executions_from_executions() -> None:
    """Supports states:startExecution, whose parameters moto passes on with the capital letters of the definition."""
    original = StateTaskServiceSfn._normalise_parameters

    def normalise_parameters(self, parameters, *arguments):
        original(self, parameters, *arguments)
        renamed = {name[0].lower() + name[1:]: value for name, value in parameters.items()}
        parameters.clear()
        parameters.update(renamed)

    def normalise_response(self, response, *_):
        started = {"ExecutionArn": response["executionArn"], "StartDate": response["startDate"].isoformat()}
        response.clear()
        response.update(started)

    StateTaskServiceSfn._normalise_parameters = normalise_parameters
    StateTaskServiceSfn._normalise_response = normalise_response


def fail_a_map_whose_items_fail() -> None:
    """Fails a Distributed Map if more items fail than are tolerated, and makes each item a separate execution. In moto
    a failed item becomes null, and the map succeeds."""
    original = DistributedItemProcessorWorker._eval_job

    def eval_job(self, env, job):
        data = env.states.context_object.context_object_data
        name = str(uuid.uuid4())
        machine = self._map_run_record.map_state_machine_arn.replace(":stateMachine:", ":execution:")
        data["Execution"] = {**data["Execution"], "Id": f"{machine}:{name}", "Name": name, "Input": job.job_input}
        original(self, env, job)
        if not isinstance(env.program_state(), ProgramEnded) and exceeds_tolerated_failures(self._map_run_record):
            job.job_output = failure(
                env,
                StatesErrorNameType.StatesExceedToleratedFailureThreshold,
                "The specified tolerated failure threshold was exceeded",
                HistoryEventType.MapRunFailed,
            )

    DistributedItemProcessorWorker._eval_job = eval_job


def exceeds_tolerated_failures(run) -> bool:
    """Returns whether more items of a map run failed than either limit tolerates. A missing limit is 0."""
    counts = run.item_counter
    failed = max(1, counts.failed.get() + counts.timed_out.get() + counts.aborted.get())
    share = 100 * failed / max(1, counts.total.get())
    return failed > run.tolerated_failure_count and share > run.tolerated_failure_percentage


def fail_a_map_whose_items_cannot_be_read() -> None:
    """Reports the failure of an item reader as States.ItemReaderFailed. moto reports States.Runtime, which can't be
    caught."""
    original = ItemReader._eval_body

    def eval_body(self, env):
        try:
            original(self, env)
        except FailureEventException:
            raise
        except Exception as cause:
            raise failure(env, StatesErrorNameType.StatesItemReaderFailed, str(cause), HistoryEventType.MapRunFailed) from cause

    ItemReader._eval_body = eval_body


def failure(env, kind: StatesErrorNameType, cause: str, event: HistoryEventType) -> FailureEventException:
    details = {"error": kind.to_name(), "cause": cause}
    if event == HistoryEventType.MapRunFailed:
        details = EventDetails(mapRunFailedEventDetails=MapRunFailedEventDetails(**details))
    else:
        details = EventDetails(evaluationFailedEventDetails=EvaluationFailedEventDetails(**details))
    return FailureEventException(
        FailureEvent(env=env, error_name=StatesErrorName(typ=kind), event_type=event, event_details=details)
    )


def keep_fatal_errors_from_catch_all() -> None:
    """Excludes States.Runtime and States.DataLimitExceeded from States.ALL, as in AWS."""
    original = ErrorEqualsDecl._eval_body

    def eval_body(self, env):
        error = env.stack[-1]
        original(self, env)
        if isinstance(error, StatesErrorName) and error.error_name in [kind.to_name() for kind in FATAL]:
            env.stack[-1] = error in self.error_names

    ErrorEqualsDecl._eval_body = eval_body


def support_calls_of_terraform() -> None:
    """Supports the calls of Terraform's provider that moto lacks."""

    def validate_state_machine_definition(self):
        try:
            StepFunctionsParserBackend._validate_definition(self._get_param("definition"))
        except InvalidDefinition as cause:
            found = {"severity": "ERROR", "code": "SCHEMA_VALIDATION_FAILED", "message": cause.message}
            return ActionResult({"result": "FAIL", "diagnostics": [found], "truncated": False})
        return ActionResult({"result": "OK", "diagnostics": [], "truncated": False})

    StepFunctionResponse.validate_state_machine_definition = validate_state_machine_definition
    StepFunctionResponse.list_state_machine_versions = lambda self: ActionResult({"stateMachineVersions": []})


def page_histories() -> None:
    """Pages histories. moto always returns a whole history."""

    def get_execution_history(self):
        history = self.stepfunction_backend.get_execution_history(self._get_param("executionArn"))
        events = list(history["events"])
        if self._get_param("reverseOrder"):
            events.reverse()
        start = int(self._get_param("nextToken") or 0)
        end = start + (self._get_int_param("maxResults") or 100)
        token = {"nextToken": str(end)} if end < len(events) else {}
        return ActionResult({"events": events[start:end], **token})

    StepFunctionResponse.get_execution_history = get_execution_history


def stop_executions_at_once() -> None:
    """Ends an execution when it is stopped. moto ends it when its current task has ended."""
    stop, terminated = Execution.stop, BaseExecutionWorkerCommunication.terminated

    def stop_at_once(self, stop_date, error, cause):
        while self.exec_worker.env is None:
            time.sleep(0.01)
        stop(self, stop_date, error, cause)
        if self.exec_status == ExecutionStatus.RUNNING:
            self.stop_date, self.exec_status = datetime.now(UTC), ExecutionStatus.ABORTED

    def terminated_once(self):
        if self.execution.exec_status == ExecutionStatus.RUNNING:
            terminated(self)

    Execution.stop = stop_at_once
    BaseExecutionWorkerCommunication.terminated = terminated_once


def show_executions_late() -> None:
    """Makes ListExecutions and DescribeExecution eventually consistent, as they are documented to be. In moto they show
    every change at once."""
    describe = StepFunctionResponse.describe_execution

    def list_executions(self):
        backend, machine = self.stepfunction_backend, self._get_param("stateMachineArn")
        executions = backend.describe_state_machine(machine).executions
        listed = [as_of(execution, settings.listing_delay) for execution in executions]
        wanted = self._get_param("statusFilter")
        shown = [entry for entry in listed if entry and wanted in (None, entry["status"])]
        shown.sort(key=lambda entry: entry["startDate"], reverse=True)
        start = int(self._get_param("nextToken") or 0)
        end = start + (self._get_int_param("maxResults") or 100)
        token = {"nextToken": str(end)} if end < len(shown) else {}
        return ActionResult({"executions": shown[start:end], **token})

    def describe_execution(self):
        arn = self._get_param("executionArn")
        execution = self.stepfunction_backend.describe_execution(arn)
        if execution.start_date > datetime.now(UTC) - timedelta(seconds=settings.unknown_delay):
            raise ExecutionDoesNotExist(f"Execution Does Not Exist: '{arn}'")
        if has_ended(execution, settings.description_delay):
            response = describe(self).result
            if response["status"] == ExecutionStatus.ABORTED:
                response["stopDate"] -= timedelta(seconds=settings.stopped_earlier)
            return ActionResult(response)
        return ActionResult({**running(execution), "input": execution.execution_input})

    StepFunctionResponse.list_executions = list_executions
    StepFunctionResponse.describe_execution = describe_execution


def as_of(execution, delay: float) -> dict | None:
    """Returns an execution as it was some seconds ago, or None if it had not started."""
    if execution.start_date > datetime.now(UTC) - timedelta(seconds=delay):
        return None
    ended = {"status": execution.status, "stopDate": execution.stop_date} if has_ended(execution, delay) else {}
    return {**running(execution), **ended}


def has_ended(execution, delay: float) -> bool:
    """Returns whether an execution had ended some seconds ago. moto sets the stop date before the status."""
    before = datetime.now(UTC) - timedelta(seconds=delay)
    return execution.status != "RUNNING" and execution.stop_date <= before


def running(execution) -> dict:
    return {
        "executionArn": execution.execution_arn,
        "name": execution.name,
        "startDate": execution.start_date,
        "stateMachineArn": execution.state_machine_arn,
        "status": "RUNNING",
    }


def scale_retry_intervals() -> None:
    """Multiplies the intervals of Retry rules by the factor of the settings."""

    def sleep(seconds: float) -> None:
        time.sleep(seconds * settings.retry_interval_factor)

    retrier_decl.time = SimpleNamespace(sleep=sleep)
