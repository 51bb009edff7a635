"""Checks the definition of the state machine against the code and the rules of this project.

Usage: definition.py ERROR_RS DEFINITION.json STARTER.json

STARTER.json is the definition of the state machine that starts the runs, which may fail by itself. Every error name is
a kind in shared/src/error.rs or an error name of AWS. Every task has a timeout, retries errors of the Lambda service and
catches all other errors. Permanent errors are not retried."""

import json
import re
import sys

AWS_ERRORS = {
    "States.ALL",
    "States.Timeout",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.Unknown",
    "Sandbox.Timedout",
    "Runtime.ExitError",
    "StepFunctions.ExecutionAlreadyExistsException",
}
LAMBDA_FAULTS = {name for name in AWS_ERRORS if name.startswith("Lambda.")}
# AlreadyRunning is one of them: an execution may be reported as running shortly after its end.
RETRIED_KINDS = {"Throttled", "SourceUnavailable", "NotReady", "AlreadyRunning"}


def states_of(machine):
    """Yields the name and definition of every state, including those of branches and maps."""
    for name, state in machine["States"].items():
        yield name, state
        for inner in state.get("Branches", []) + [state[key] for key in ("ItemProcessor", "Iterator") if key in state]:
            yield from states_of(inner)


def errors_of(rules):
    return {error for rule in rules for error in rule["ErrorEquals"]}


def problems_of(name, state, kinds, catches_all=True):
    retried, caught = errors_of(state.get("Retry", [])), errors_of(state.get("Catch", []))
    for error in sorted((retried | caught) - kinds - AWS_ERRORS):
        yield f"{name}: {error} is neither an error kind of the code nor an error name of AWS"
    for error in sorted(retried & kinds - RETRIED_KINDS):
        yield f"{name}: retries the permanent error {error}"
    if catches_all and state["Type"] in ("Task", "Map", "Parallel") and "States.ALL" not in caught:
        yield f"{name}: does not catch States.ALL"
    if state["Type"] == "Task" and "TimeoutSeconds" not in state:
        yield f"{name}: has no TimeoutSeconds"
    if state.get("Resource", "").endswith(":lambda:invoke") and not LAMBDA_FAULTS | RETRIED_KINDS <= retried:
        yield f"{name}: does not retry {', '.join(sorted(LAMBDA_FAULTS | RETRIED_KINDS - retried))}"
    for rule in state.get("Retry", []):
        if rule.get("MaxAttempts", 3) and rule.get("BackoffRate", 2) > 1 and rule.get("JitterStrategy") != "FULL":
            yield f"{name}: retries {', '.join(rule['ErrorEquals'])} with backoff but without jitter"


def problems_of_versions(definition):
    """Yields the tasks that call a function without naming a version: a deployment would change what a run calls."""
    for name, state in states_of(definition):
        function = state.get("Parameters", {}).get("FunctionName", "")
        if state.get("Resource", "").endswith(":lambda:invoke") and not re.search(r":function:[^:]+:[0-9]+$", function):
            yield f"{name}: calls {function}, which is not a version of a function"


def main():
    source, definition, starter = open(sys.argv[1]).read(), json.load(open(sys.argv[2])), json.load(open(sys.argv[3]))
    kinds = set(re.findall(r'Kind::\w+ => "(\w+)"', source))
    states = list(states_of(definition))
    problems = [problem for name, state in states for problem in problems_of(name, state, kinds)]
    problems += [problem for name, state in states_of(starter) for problem in problems_of(name, state, kinds, catches_all=False)]
    problems += problems_of_versions(definition)
    if not RETRIED_KINDS <= kinds:
        problems.append(f"{sys.argv[1]} does not contain the error kinds. Update the regular expression of this check.")
    size = len(json.dumps(definition).encode())
    if size > 1_000_000:
        problems.append(f"the definition has {size} bytes, more than the 1 MB that Step Functions allows")
    print("\n".join(problems) if problems else f"{len(states)} states, {size} bytes: errors, timeouts and retries are correct")
    sys.exit(1 if problems else 0)


main()
