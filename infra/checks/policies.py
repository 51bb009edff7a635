"""Checks that all policies follow least privilege. Usage: policies.py POLICIES.json

An Allow statement must not have `*` in its actions. The resource `*` is only accepted for actions without
resource-level permissions. Other wildcards are only accepted after a specific prefix."""

import json
import re
import sys

# Actions that require the resource `*`, and why.
WITHOUT_RESOURCES = {
    "xray:PutTraceSegments": "X-Ray has no resource-level permissions",
    "xray:PutTelemetryRecords": "X-Ray has no resource-level permissions",
    "xray:GetSamplingRules": "X-Ray has no resource-level permissions",
    "xray:GetSamplingTargets": "X-Ray has no resource-level permissions",
    "logs:CreateLogDelivery": "log delivery has no resource-level permissions",
    "logs:GetLogDelivery": "log delivery has no resource-level permissions",
    "logs:UpdateLogDelivery": "log delivery has no resource-level permissions",
    "logs:DeleteLogDelivery": "log delivery has no resource-level permissions",
    "logs:ListLogDeliveries": "log delivery has no resource-level permissions",
    "logs:PutResourcePolicy": "log resource policies belong to the account",
    "logs:DescribeResourcePolicies": "log resource policies belong to the account",
    "logs:DescribeLogGroups": "log delivery lists all log groups",
}

# The resources in which a wildcard is accepted.
WILDCARD_RESOURCES = [
    r"arn:aws:s3:::data-lakehouse-dev-123456789012/[a-z_/]+/\*",
    r"arn:aws:glue:us-east-1:123456789012:table/db_[a-z]+_dev/\*",
    r"arn:aws:secretsmanager:us-east-1:123456789012:secret:defi-dev/[a-z]+-api-key-\?{6}",
    r"arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/defi-dev-[a-z-]+:\*",
    r"arn:aws:states:us-east-1:123456789012:execution:defi-dev[:/]\*",
]


def as_list(value):
    return value if isinstance(value, list) else [value]


def problems_of(statement):
    if statement["Effect"] != "Allow":
        return
    if "NotAction" in statement or "NotResource" in statement:
        yield "uses NotAction or NotResource: list the allowed actions and resources"
    if statement.get("Principal") == "*":
        yield "allows every principal"
    actions = as_list(statement.get("Action", []))
    for action in actions:
        if "*" in action:
            yield f"allows the actions {action}"
    for resource in as_list(statement.get("Resource", [])):
        if resource == "*":
            restrictable = [action for action in actions if action not in WITHOUT_RESOURCES]
            if restrictable:
                yield f"allows {', '.join(restrictable)} on all resources"
        elif re.search(r"[*?]", resource) and not any(re.fullmatch(pattern, resource) for pattern in WILDCARD_RESOURCES):
            yield f"allows {', '.join(actions)} on {resource}"


def main():
    policies = json.load(open(sys.argv[1]))
    statements = [(name, statement) for name, policy in policies.items() for statement in policy["Statement"]]
    problems = [
        f"{name}, {statement.get('Sid', 'statement without Sid')}: {problem}"
        for name, statement in statements
        for problem in problems_of(statement)
    ]
    if len(policies) < 15:
        problems.append(f"only {len(policies)} policies were rendered: every step must have one")
    print("\n".join(problems) if problems else f"{len(policies)} policies, {len(statements)} statements: least privilege")
    sys.exit(1 if problems else 0)


main()
