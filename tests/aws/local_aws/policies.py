"""Evaluates whether policies allow a call: the subset of IAM that the policies of the project use.

Unsupported parts of a policy raise an exception, so that no policy is accepted by mistake.
"""

import fnmatch
import json
import re
from dataclasses import dataclass, field
from functools import lru_cache


class UnsupportedPolicy(Exception):
    """A policy uses a feature that is not supported here."""


@dataclass(frozen=True)
class Call:
    """An action on a resource, with the values of condition keys."""

    action: str
    resource: str
    context: dict[str, str] = field(default_factory=dict, hash=False)


def allowed(documents: list[str], call: Call) -> bool:
    """Returns whether policies allow a call: a statement must allow it, and none may deny it."""
    effects = {statement["Effect"] for document in documents for statement in statements(document) if applies_to(statement, call)}
    return effects == {"Allow"}


def denied(document: str, call: Call) -> bool:
    """Returns whether the policy of a resource explicitly denies a call to everyone."""
    denials = [statement for statement in statements(document) if statement["Effect"] == "Deny"]
    if any(statement["Principal"] != "*" for statement in denials):
        raise UnsupportedPolicy("a denial for some principals, without a condition")
    return any(applies_to(statement, call) for statement in denials)


def trusts(document: str, service: str, context: dict[str, str]) -> bool:
    """Returns whether a trust policy allows an AWS service to assume its role."""
    call = Call("sts:AssumeRole", "*", context)
    matching = [s for s in statements(document) if names_service(s, service) and matches_action(s, call) and conditions_met(s, call)]
    return {statement["Effect"] for statement in matching} == {"Allow"}


@lru_cache(maxsize=256)
def statements(document: str) -> tuple[dict, ...]:
    return tuple(as_list(json.loads(document)["Statement"]))


def applies_to(statement: dict, call: Call) -> bool:
    return matches_action(statement, call) and matches_resource(statement, call) and conditions_met(statement, call)


def names_service(statement: dict, service: str) -> bool:
    principal = statement.get("Principal", {})
    return principal == "*" or service in as_list(principal.get("Service", []))


def matches_action(statement: dict, call: Call) -> bool:
    if "NotAction" in statement:
        return not any(matches_pattern(pattern.lower(), call.action.lower()) for pattern in as_list(statement["NotAction"]))
    return any(matches_pattern(pattern.lower(), call.action.lower()) for pattern in as_list(statement["Action"]))


def matches_resource(statement: dict, call: Call) -> bool:
    if "NotResource" in statement:
        return not any(matches_pattern(pattern, call.resource) for pattern in as_list(statement["NotResource"]))
    return any(matches_pattern(pattern, call.resource) for pattern in as_list(statement["Resource"]))


def conditions_met(statement: dict, call: Call) -> bool:
    """Returns whether all conditions of a statement are met. Keys are case-insensitive, as in AWS."""
    context = {key.lower(): value for key, value in call.context.items()}
    for operator, keys in statement.get("Condition", {}).items():
        if not all(is_met(operator, as_list(expected), context.get(key.lower())) for key, expected in keys.items()):
            return False
    return True


def is_met(operator: str, expected: list[str], actual: str | None) -> bool:
    if operator.endswith("IfExists"):
        return actual is None or is_met(operator.removesuffix("IfExists"), expected, actual)
    if operator == "Null":
        return (actual is None) == (str(expected[0]).lower() == "true")
    compare = COMPARISONS.get(operator)
    if compare is None:
        raise UnsupportedPolicy(f"the condition operator {operator}")
    # A negated operator is met if the key is missing.
    if "Not" in operator:
        return actual is None or not any(compare(str(value), actual) for value in expected)
    return actual is not None and any(compare(str(value), actual) for value in expected)


def matches_pattern(pattern: str, value: str) -> bool:
    if "${" in pattern:
        raise UnsupportedPolicy(f"the policy variable in {pattern}")
    return wildcard(pattern).fullmatch(value) is not None


@lru_cache(maxsize=1024)
def wildcard(pattern: str) -> re.Pattern:
    # IAM supports only * and ? as wildcards: a bracket is a literal character.
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")))


def as_list(value: object) -> list:
    return value if isinstance(value, list) else [value]


def equal(expected: str, actual: str) -> bool:
    return expected == actual


def equal_ignoring_case(expected: str, actual: str) -> bool:
    return expected.lower() == actual.lower()


COMPARISONS = {
    "StringEquals": equal,
    "StringNotEquals": equal,
    "StringEqualsIgnoreCase": equal_ignoring_case,
    "StringLike": matches_pattern,
    "StringNotLike": matches_pattern,
    "ArnEquals": matches_pattern,
    "ArnLike": matches_pattern,
    "ArnNotLike": matches_pattern,
    "Bool": equal_ignoring_case,
}
