"""Whether policies allow a call: the part of IAM's evaluation that the project's policies use.

What it does not know it refuses loudly, so that no policy passes here for want of understanding.
"""

import fnmatch
import json
import re
from dataclasses import dataclass, field
from functools import lru_cache


class NotUnderstood(Exception):
    """A policy uses something that this evaluation does not know."""


@dataclass(frozen=True)
class Call:
    """One thing that a request wants to do: an action on a resource, in a context of condition keys."""

    action: str
    resource: str
    context: dict[str, str] = field(default_factory=dict, hash=False)


def allowed(documents: list[str], call: Call) -> bool:
    """An explicit deny wins; without an allow there is none."""
    effects = {statement["Effect"] for document in documents for statement in statements(document) if concerns(statement, call)}
    return effects == {"Allow"}


def denied(document: str, call: Call) -> bool:
    """Whether a policy denies a call outright."""
    return any(statement["Effect"] == "Deny" and concerns(statement, call) for statement in statements(document))


def trusts(document: str, service: str, context: dict[str, str]) -> bool:
    """Whether a role's trust policy lets an AWS service assume it."""
    call = Call("sts:AssumeRole", "*", context)
    matching = [s for s in statements(document) if names_service(s, service) and matches_action(s, call) and holds(s, call)]
    return {statement["Effect"] for statement in matching} == {"Allow"}


@lru_cache(maxsize=256)
def statements(document: str) -> tuple[dict, ...]:
    return tuple(listed(json.loads(document)["Statement"]))


def concerns(statement: dict, call: Call) -> bool:
    return matches_action(statement, call) and matches_resource(statement, call) and holds(statement, call)


def names_service(statement: dict, service: str) -> bool:
    principal = statement.get("Principal", {})
    return principal == "*" or service in listed(principal.get("Service", []))


def matches_action(statement: dict, call: Call) -> bool:
    if "NotAction" in statement:
        return not any(like(pattern.lower(), call.action.lower()) for pattern in listed(statement["NotAction"]))
    return any(like(pattern.lower(), call.action.lower()) for pattern in listed(statement["Action"]))


def matches_resource(statement: dict, call: Call) -> bool:
    if "NotResource" in statement:
        return not any(like(pattern, call.resource) for pattern in listed(statement["NotResource"]))
    return any(like(pattern, call.resource) for pattern in listed(statement["Resource"]))


def holds(statement: dict, call: Call) -> bool:
    """Whether every condition of a statement is met. Keys are compared without case, as AWS does."""
    context = {key.lower(): value for key, value in call.context.items()}
    for operator, keys in statement.get("Condition", {}).items():
        if not all(met(operator, listed(expected), context.get(key.lower())) for key, expected in keys.items()):
            return False
    return True


def met(operator: str, expected: list[str], actual: str | None) -> bool:
    if operator.endswith("IfExists"):
        return actual is None or met(operator.removesuffix("IfExists"), expected, actual)
    if operator == "Null":
        return (actual is None) == (str(expected[0]).lower() == "true")
    compare = COMPARISONS.get(operator)
    if compare is None:
        raise NotUnderstood(f"the condition operator {operator}")
    # A negated operator is met where the key is not there at all.
    if "Not" in operator:
        return actual is None or not any(compare(str(value), actual) for value in expected)
    return actual is not None and any(compare(str(value), actual) for value in expected)


def like(pattern: str, value: str) -> bool:
    if "${" in pattern:
        raise NotUnderstood(f"the policy variable in {pattern}")
    return wildcard(pattern).fullmatch(value) is not None


@lru_cache(maxsize=1024)
def wildcard(pattern: str) -> re.Pattern:
    # IAM knows * and ? alone; a bracket is itself.
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")))


def listed(value: object) -> list:
    return value if isinstance(value, list) else [value]


def equal(expected: str, actual: str) -> bool:
    return expected == actual


def equal_ignoring_case(expected: str, actual: str) -> bool:
    return expected.lower() == actual.lower()


COMPARISONS = {
    "StringEquals": equal,
    "StringNotEquals": equal,
    "StringEqualsIgnoreCase": equal_ignoring_case,
    "StringLike": like,
    "StringNotLike": like,
    "ArnEquals": like,
    "ArnLike": like,
    "ArnNotLike": like,
    "Bool": equal_ignoring_case,
}
