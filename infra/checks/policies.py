"""Checks that all policies follow least privilege. Usage: policies.py POLICIES.json

POLICIES.json has by kind and name the policies of the roles (`identity`), who may assume them (`trust`), the policies of
resources (`resource`), and the policy that readers get (`reader`).

- No Allow statement has `*` in its actions. The resource `*` is only accepted for actions without resource-level
  permissions. Other wildcards are only accepted after a specific prefix.
- A bucket is listed only with a prefix.
- What decides about the published features, and what the state machine or other steps follow, is written by one step.
- A role is assumed by one service, only for this account.
- A reader can change nothing but the results of its queries.
- Requests without TLS are denied. Nobody outside this account is allowed anything."""

import fnmatch
import json
import re
import sys

ACCOUNT = "123456789012"

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

LAKE = f"arn:aws:s3:::data-lakehouse-dev-{ACCOUNT}"
GLUE = f"arn:aws:glue:us-east-1:{ACCOUNT}"

# The resources in which a wildcard is accepted.
WILDCARD_RESOURCES = [
    rf"{LAKE}/[a-z_/]+/\*",
    rf"{LAKE}/runs/\*/(plan|plan-after-extraction)\.json",
    rf"{LAKE}/runs/\*/(batches|reports|reports/[a-z-]+)/\*",
    rf"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:defi-dev/[a-z]+-api-key-\?{{6}}",
    rf"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/aws/lambda/defi-dev-[a-z-]+:\*",
    rf"arn:aws:states:us-east-1:{ACCOUNT}:execution:defi-dev[:/]\*",
    rf"arn:aws:lambda:us-east-1:{ACCOUNT}:function:defi-dev-[a-z-]+:\*",
]

# Those of readers, who may read every table.
WILDCARDS_OF_READERS = [
    *WILDCARD_RESOURCES,
    rf"{LAKE}-athena/results/\*",
    rf"{GLUE}:table/db_(raw|stage|analytics)_dev/\*",
]

# The largest inline policy of a role in bytes, without the space that longer names of a bucket may need.
MAX_POLICY_BYTES = 10_240 - 1_500

# The roles that belong to no step.
SERVICES = {"state-machine", "starter", "scheduler"}

REGISTERING = ("glue:CreateTable", "glue:UpdateTable", "glue:BatchCreatePartition", "glue:UpdatePartition")

# Who may do what alone: the actions, a resource, and the only policy that allows one of the actions on it.
OWNERS = [
    (["s3:PutObject"], f"{LAKE}/state/passed/as_of=2023-03-01.json", "check-features"),
    (["s3:PutObject"], f"{LAKE}/analytics/features/defi_features/as_of=2023-03-01/0.parquet", "publish-features"),
    (["s3:DeleteObject"], f"{LAKE}/analytics/features/defi_features/as_of=2023-03-01/0.parquet", "publish-features"),
    (REGISTERING, f"{GLUE}:table/db_analytics_dev/defi_features", "publish-features"),
    (REGISTERING, f"{GLUE}:table/db_analytics_dev/defi_features_history", "publish-features"),
    (["s3:PutObject"], f"{LAKE}/runs/2023-03-01-0a1b/batches/stage-events.json", "plan-run"),
    (["s3:PutObject"], f"{LAKE}/runs/2023-03-01-0a1b/plan.json", "plan-run"),
    (["s3:PutObject"], f"{LAKE}/state/unfinished/2023-03-01-0a1b.json", "plan-run"),
]


def as_list(value):
    return value if isinstance(value, list) else [value]


def statements_of(policy):
    return as_list(policy["Statement"])


def matches(patterns, value):
    """Returns whether a value matches a pattern of IAM, in which only * and ? have a meaning."""
    return any(fnmatch.fnmatchcase(value, pattern.replace("[", "[[]")) for pattern in as_list(patterns))


def allows(policy, action, resource):
    return any(
        statement["Effect"] == "Allow"
        and matches(statement.get("Action", []), action)
        and matches(statement.get("Resource", []), resource)
        for statement in statements_of(policy)
    )


def problems_of_grant(statement):
    """Yields the problems of an Allow statement of any policy."""
    if "NotAction" in statement or "NotResource" in statement or "NotPrincipal" in statement:
        yield "uses NotAction, NotResource or NotPrincipal: list what is allowed"
    for action in as_list(statement.get("Action", [])):
        if "*" in action:
            yield f"allows the actions {action}"


def problems_of_identity(policy, wildcards=WILDCARD_RESOURCES):
    for statement in statements_of(policy):
        if statement["Effect"] != "Allow":
            continue
        sid, actions = statement.get("Sid", "statement without Sid"), as_list(statement.get("Action", []))
        yield from (f"{sid} {problem}" for problem in problems_of_grant(statement))
        for resource in as_list(statement.get("Resource", [])):
            if resource == "*":
                restrictable = [action for action in actions if action not in WITHOUT_RESOURCES]
                if restrictable:
                    yield f"{sid} allows {', '.join(restrictable)} on all resources"
            elif re.search(r"[*?]", resource) and not any(re.fullmatch(pattern, resource) for pattern in wildcards):
                yield f"{sid} allows {', '.join(actions)} on {resource}"
        if "s3:ListBucket" in actions:
            prefixes = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix", [])
            if not prefixes or any(prefix.startswith("*") or not prefix for prefix in as_list(prefixes)):
                yield f"{sid} allows to list a bucket without a prefix"
    size = len(json.dumps(policy, separators=(",", ":")))
    if size > MAX_POLICY_BYTES:
        yield f"has {size} bytes, more than {MAX_POLICY_BYTES}"


def problems_of_reader(policy):
    yield from problems_of_identity(policy, WILDCARDS_OF_READERS)
    for statement in statements_of(policy):
        for action in as_list(statement.get("Action", [])):
            reads = re.match(r"[a-z0-9]+:(Get|List|BatchGet|Decrypt$)", action) or re.match(r"athena:(Start|Stop)QueryExecution$|kms:", action)
            results = all(resource.startswith(f"{LAKE}-athena/") for resource in as_list(statement["Resource"]))
            if not reads and not results:
                yield f"{statement.get('Sid')} allows a reader {action} on {', '.join(as_list(statement['Resource']))}"


def problems_of_owners(policies):
    """Yields what others than its owner may do, and what the owner may not do. A step owns its reports."""
    without_reports = {"plan-run"} | SERVICES
    reports = [
        (["s3:PutObject"], f"{LAKE}/runs/2023-03-01-0a1b/reports/{step}/x.json", step)
        for step in sorted(policies.keys() - without_reports)
    ]
    for actions, resource, owner in OWNERS + reports:
        for name, policy in policies.items():
            allowed = [action for action in actions if allows(policy, action, resource)]
            if allowed and name != owner:
                yield f"{name}: allows {', '.join(allowed)} on {resource}, which only {owner} may do"
            if not allowed and name == owner:
                yield f"{name}: does not allow {', '.join(actions)} on {resource}: update this check"


def problems_of_trust(policy):
    for statement in statements_of(policy):
        if statement["Effect"] != "Allow":
            continue
        yield from problems_of_grant(statement)
        principal = statement.get("Principal")
        service = principal.get("Service") if isinstance(principal, dict) and principal.keys() == {"Service"} else None
        if not isinstance(service, str) or not re.fullmatch(r"[a-z]+\.amazonaws\.com", service):
            yield f"trusts {json.dumps(principal)} instead of one service"
        if as_list(statement.get("Action")) != ["sts:AssumeRole"]:
            yield f"allows {statement.get('Action')} instead of sts:AssumeRole"
        if as_list(source_account(statement)) != [ACCOUNT]:
            yield "lets the service act for any account: aws:SourceAccount is missing"


def source_account(statement):
    return statement.get("Condition", {}).get("StringEquals", {}).get("aws:SourceAccount")


def denies_without_tls(statement, resources):
    return (
        statement["Effect"] == "Deny"
        and statement.get("Principal") == "*"
        and statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
        and all(matches(statement.get("Resource", []), resource) for resource in resources)
        and (as_list(statement.get("Action")) == ["s3:*"] or not resources[0].startswith("arn:aws:s3:"))
    )


def problems_of_resource(policy):
    allowed_to_others = [statement for statement in statements_of(policy) if statement["Effect"] == "Allow"]
    for statement in allowed_to_others:
        yield from problems_of_grant(statement)
        principal = statement.get("Principal")
        service = principal.get("Service") if isinstance(principal, dict) else None
        if not isinstance(service, str) or as_list(source_account(statement)) != [ACCOUNT]:
            yield f"allows {json.dumps(principal)} instead of one service that acts for this account"
    named = sorted({resource for statement in statements_of(policy) for resource in as_list(statement["Resource"])})
    # A bucket, and an object in it; or a topic.
    resources = [named[0].partition("/")[0], named[0].partition("/")[0] + "/x"] if named[0].startswith("arn:aws:s3:") else named
    if not any(denies_without_tls(statement, resources) for statement in statements_of(policy)):
        yield "does not deny all requests without TLS"


def problems_of_writers(policy, steps):
    """Yields the problems of the policy of a lake to which only its functions may write."""
    denials = [statement for statement in statements_of(policy) if statement.get("Sid") == "OnlyWriters"]
    if not denials:
        yield "lets everyone whom IAM allows write to the lake: there is no statement OnlyWriters"
    for statement in denials:
        writers = statement.get("Condition", {}).get("ArnNotLike", {}).get("aws:PrincipalArn", [])
        if statement["Effect"] != "Deny" or statement.get("Principal") != "*" or len(statement.get("Condition", {})) != 1:
            yield "OnlyWriters does not deny everyone else"
        for action in ("s3:PutObject", "s3:PutObjectTagging", "s3:DeleteObject", "s3:DeleteObjectVersion"):
            if not matches(statement.get("Action", []), action):
                yield f"OnlyWriters does not deny {action}"
        for other in sorted(set(writers) - {f"arn:aws:iam::{ACCOUNT}:role/defi-prod-{step}" for step in steps}):
            yield f"OnlyWriters lets {other} write to the lake"


def problems_of(policies):
    """Yields the problems of all policies."""
    identity, trust, resource = policies["identity"], policies["trust"], policies["resource"]
    if len(identity) < 19 or identity.keys() != trust.keys():
        yield f"{len(identity)} roles and {len(trust)} trust policies were rendered: every step must have both"
    yield from problems_of_owners(identity)
    checks = (
        (identity, problems_of_identity),
        (trust, problems_of_trust),
        (resource, problems_of_resource),
        (policies["reader"], problems_of_reader),
    )
    for policies_of_kind, check in checks:
        for name, policy in policies_of_kind.items():
            yield from (f"{name}: {problem}" for problem in check(policy))
    steps = identity.keys() - SERVICES
    yield from (f"lake of prod: {problem}" for problem in problems_of_writers(policies["resource_of_prod"]["lake"], steps))


def main():
    with open(sys.argv[1]) as file:
        policies = json.load(file)
    problems = list(problems_of(policies))
    counts = ", ".join(f"{len(policies[kind])} {kind}" for kind in ("identity", "trust", "resource", "reader"))
    print("\n".join(problems) if problems else f"policies: {counts}: least privilege")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
