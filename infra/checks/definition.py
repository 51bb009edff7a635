"""Holds the definition to the code and to this project's rules: definition.py DEFINITION.json ERROR_RS

Every error that it names is a kind of shared/src/error.rs or a name of AWS's own; every task has a timeout, retries Lambda's own faults
and catches what is left; no kind that is final is retried."""

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
    """Every state, with those of branches and maps."""
    for name, state in machine["States"].items():
        yield name, state
        for inner in state.get("Branches", []) + [state[key] for key in ("ItemProcessor", "Iterator") if key in state]:
            yield from states_of(inner)


def errors_of(rules):
    return {error for rule in rules for error in rule["ErrorEquals"]}


def problems_of(name, state, kinds):
    retried, caught = errors_of(state.get("Retry", [])), errors_of(state.get("Catch", []))
    for error in sorted((retried | caught) - kinds - AWS_ERRORS):
        yield f"{name}: {error} is neither a kind of error nor a name of AWS's"
    for error in sorted(retried & kinds - TRANSIENT_KINDS):
        yield f"{name}: {error} is final, and retried"
    if state["Type"] in ("Task", "Map", "Parallel") and "States.ALL" not in caught:
        yield f"{name}: what fails there reaches no failure path"
    if state["Type"] == "Task" and "TimeoutSeconds" not in state:
        yield f"{name}: has no timeout"
    if state.get("Resource", "").endswith(":lambda:invoke") and not LAMBDA_FAULTS | TRANSIENT_KINDS <= retried:
        yield f"{name}: does not retry {', '.join(sorted(LAMBDA_FAULTS | TRANSIENT_KINDS - retried))}"
    for rule in state.get("Retry", []):
        if rule.get("BackoffRate", 2) > 1 and rule.get("JitterStrategy") != "FULL":
            yield f"{name}: backs off from {', '.join(rule['ErrorEquals'])} without jitter"


def main():
    definition, source = json.load(open(sys.argv[1])), open(sys.argv[2]).read()
    kinds = set(re.findall(r'Kind::\w+ => "(\w+)"', source))
    states = list(states_of(definition))
    problems = [problem for name, state in states for problem in problems_of(name, state, kinds)]
    if not TRANSIENT_KINDS <= kinds:
        problems.append("the kinds of errors were not found in the code: has their place changed?")
    size = len(json.dumps(definition).encode())
    if size > 1_000_000:
        problems.append(f"the definition has {size} bytes, and Step Functions takes 1 MB")
    print("\n".join(problems) if problems else f"{len(states)} states, {size} bytes: errors, timeouts and retries are as they must be")
    sys.exit(1 if problems else 0)


main()
