"""Checks all policies, and where Terraform gives rights. Usage: policies.py POLICIES.json INFRA

POLICIES.json has for each deployment its policies by kind and name: those of the roles (`identity`), who may assume them
(`trust`), the policies of resources (`resource`), and the policy that readers get (`reader`). They must be what roles.toml
and resources.toml say, no more and no less (`allowed.py`, `grants.py`). Besides, whatever these lists say:

- No Allow statement has `*` in its actions. The resource `*` is only accepted for actions without resource-level
  permissions. Other wildcards are only accepted after a specific prefix.
- A bucket is listed only with a prefix.
- What decides about the published features, and what the state machine or other steps follow, is written by one step.
- A reader can change nothing but the results of its queries, and temporary tables of Feast."""

import fnmatch
import json
import re
import sys
from pathlib import Path

import allowed
import grants
from allowed import ACCOUNT, SERVICES, SERVING, as_list

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
    rf"{LAKE}-athena/(results|entity_df|unload)/\*",
    rf"{GLUE}:table/db_(raw|stage|analytics|feast)_dev/\*",
]

# What readers may change: the results of their queries, and temporary tables. Glue checks the latter against the catalog,
# too.
CHANGED_BY_READERS = rf"{LAKE}-athena/.*|{GLUE}:(catalog|database/db_feast_dev|table/db_feast_dev/\*)"

# The largest inline policy of a role in bytes, without the space that longer names of a bucket may need.
MAX_POLICY_BYTES = 10_240 - 1_500

REGISTERING = ("glue:CreateTable", "glue:UpdateTable", "glue:BatchCreatePartition", "glue:UpdatePartition")

# Who may do what alone: the actions, a resource, and the only policy that allows one of the actions on it.
OWNERS = [
    (["s3:PutObject"], f"{LAKE}/state/passed/as_of=2023-03-01.json", "check-features"),
    (["s3:PutObject"], f"{LAKE}/analytics/features/builds/as_of=2023-03-01/0.parquet", "build-features"),
    (["s3:PutObject"], f"{LAKE}/analytics/features/checked/as_of=2023-03-01/01ab/0.parquet", "publish-features"),
    (["s3:PutObject"], f"{LAKE}/analytics/features/defi_features/as_of=2023-03-01/0.parquet", "publish-features"),
    (["s3:DeleteObject"], f"{LAKE}/analytics/features/defi_features/as_of=2023-03-01/0.parquet", "publish-features"),
    (REGISTERING, f"{GLUE}:table/db_analytics_dev/defi_features", "publish-features"),
    (REGISTERING, f"{GLUE}:table/db_analytics_dev/defi_features_history", "publish-features"),
    (["s3:PutObject"], f"{LAKE}/runs/2023-03-01-0a1b/batches/stage-events.json", "plan-run"),
    (["s3:PutObject"], f"{LAKE}/runs/2023-03-01-0a1b/plan.json", "plan-run"),
    (["s3:PutObject"], f"{LAKE}/state/unfinished/2023-03-01-0a1b.json", "plan-run"),
    (["s3:PutObject"], f"{LAKE}/digests/before.json", "plan-run"),
]


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
            own = all(re.fullmatch(CHANGED_BY_READERS, resource) for resource in as_list(statement["Resource"]))
            if not reads and not own:
                yield f"{statement.get('Sid')} allows a reader {action} on {', '.join(as_list(statement['Resource']))}"


def problems_of_owners(policies):
    """Yields what others than its owner may do, and what the owner may not do. A step owns its reports."""
    without_reports = {"plan-run"} | SERVICES | SERVING
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


def problems_of(policies):
    """Yields the rules that the policies of roles and of readers break."""
    yield from problems_of_owners(policies["identity"])
    for kind, check in (("identity", problems_of_identity), ("reader", problems_of_reader)):
        for name, policy in policies[kind].items():
            yield from (f"{name}: {problem}" for problem in check(policy))


def main():
    deployments, infra = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    problems = list(grants.problems_of_terraform(infra, allowed.load("resources.toml")["terraform"]))
    scopes = []
    for deployment in deployments:
        policies, writers = deployment.pop("policies"), deployment.pop("writers")
        scopes.append(allowed.Scope(**deployment, writers=None if writers is None else tuple(writers)))
        problems += allowed.problems_of_scope(scopes[-1], policies)
        if scopes[-1].lake == allowed.Scope.lake:
            problems += problems_of(policies)
    print("\n".join(problems) if problems else f"policies: {'; '.join(map(str, scopes))}: as roles.toml and resources.toml say")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
