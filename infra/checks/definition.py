"""Checks the definition of the state machine against the code and the rules of this project.

Usage: definition.py DEFINITION.json ERROR_RS

Every error name is a kind in shared/src/error.rs or an error name of AWS. Every task has a timeout, retries errors of
the Lambda service and catches all other errors. Permanent errors are not retried."""

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
    "Sandbox.Timedout",
    "Runtime.ExitError",
}
LAMBDA_FAULTS = {name for name in AWS_ERRORS if name.startswith("Lambda.")}
TRANSIENT_KINDS = {"Throttled", "SourceUnavailable", "NotReady"}


def states_of(machine):
    """Yields the name and definition of every state, including those of branches and maps."""
    for name, state in machine["States"].items():
        yield name, state
        for inner in state.get("Branches", []) + [state[key] for key in ("ItemProcessor", "Iterator") if key in state]:
            yield from states_of(inner)


def errors_of(rules):
    return {error for rule in rules for error in rule["ErrorEquals"]}


def problems_of(name, state, kinds):
    retried, caught = errors_of(state.get("Retry", [])), errors_of(state.get("Catch", []))
    for error in sorted((retried | caught) - kinds - AWS_ERRORS):
        yield f"{name}: {error} is neither an error kind of the code nor an error name of AWS"
    for error in sorted(retried & kinds - TRANSIENT_KINDS):
        yield f"{name}: retries the permanent error {error}"
    if state["Type"] in ("Task", "Map", "Parallel") and "States.ALL" not in caught:
        yield f"{name}: does not catch States.ALL"
    if state["Type"] == "Task" and "TimeoutSeconds" not in state:
        yield f"{name}: has no TimeoutSeconds"
    if state.get("Resource", "").endswith(":lambda:invoke") and not LAMBDA_FAULTS | TRANSIENT_KINDS <= retried:
        yield f"{name}: does not retry {', '.join(sorted(LAMBDA_FAULTS | TRANSIENT_KINDS - retried))}"
    for rule in state.get("Retry", []):
        if rule.get("BackoffRate", 2) > 1 and rule.get("JitterStrategy") != "FULL":
            yield f"{name}: retries {', '.join(rule['ErrorEquals'])} with backoff but without jitter"


def main():
    definition, source = json.load(open(sys.argv[1])), open(sys.argv[2]).read()
    kinds = set(re.findall(r'Kind::\w+ => "(\w+)"', source))
    states = list(states_of(definition))
    problems = [problem for name, state in states for problem in problems_of(name, state, kinds)]
    if not TRANSIENT_KINDS <= kinds:
        problems.append(f"{sys.argv[2]} does not contain the error kinds. Update the regular expression of this check.")
    size = len(json.dumps(definition).encode())
    if size > 1_000_000:
        problems.append(f"the definition has {size} bytes, more than the 1 MB that Step Functions allows")
    print("\n".join(problems) if problems else f"{len(states)} states, {size} bytes: errors, timeouts and retries are correct")
    sys.exit(1 if problems else 0)


main()
