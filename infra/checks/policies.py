"""Holds every policy to the prefixes and actions that are used: policies.py POLICIES.json

No statement that allows may have a `*` in its actions. `*` as resource, or a resource whose part before the wildcard is shorter than
a service's own name for the thing, is only for what has no resources."""

import json
import re
import sys

# Actions that can't be given for less than everything, and why.
WITHOUT_RESOURCES = {
    "xray:PutTraceSegments": "X-Ray knows no resources",
    "xray:PutTelemetryRecords": "X-Ray knows no resources",
    "xray:GetSamplingRules": "X-Ray knows no resources",
    "xray:GetSamplingTargets": "X-Ray knows no resources",
    "logs:CreateLogDelivery": "the delivery of logs knows no resources",
    "logs:GetLogDelivery": "the delivery of logs knows no resources",
    "logs:UpdateLogDelivery": "the delivery of logs knows no resources",
    "logs:DeleteLogDelivery": "the delivery of logs knows no resources",
    "logs:ListLogDeliveries": "the delivery of logs knows no resources",
    "logs:PutResourcePolicy": "the resource policies of logs are the account's",
    "logs:DescribeResourcePolicies": "the resource policies of logs are the account's",
    "logs:DescribeLogGroups": "asked by the delivery of logs, for all groups",
}

# A wildcard must come after a prefix of ours.
OURS = [
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
        yield "allows all but a few: name what it allows"
    if statement.get("Principal") == "*":
        yield "allows anybody"
    actions = as_list(statement.get("Action", []))
    for action in actions:
        if "*" in action:
            yield f"allows the actions {action}"
    for resource in as_list(statement.get("Resource", [])):
        if resource == "*":
            bounded = [action for action in actions if action not in WITHOUT_RESOURCES]
            if bounded:
                yield f"allows {', '.join(bounded)} on everything"
        elif re.search(r"[*?]", resource) and not any(re.fullmatch(ours, resource) for ours in OURS):
            yield f"allows {', '.join(actions)} on {resource}"


def main():
    policies = json.load(open(sys.argv[1]))
    statements = [(name, statement) for name, policy in policies.items() for statement in policy["Statement"]]
    problems = [
        f"{name}, {statement.get('Sid', 'a statement')}: {problem}"
        for name, statement in statements
        for problem in problems_of(statement)
    ]
    if len(policies) < 15:
        problems.append(f"only {len(policies)} policies were rendered: each of the 15 steps has one")
    print("\n".join(problems) if problems else f"{len(policies)} policies, {len(statements)} statements: each is bounded")
    sys.exit(1 if problems else 0)


main()
