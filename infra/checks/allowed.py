"""What the planned policies allow, compared with the lists of what they may: roles.toml and resources.toml."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ACCOUNT = "123456789012"
EVENTS = ("borrow", "deposit", "liquidation", "repay", "withdraw")

# The roles that belong to no step.
SERVICES = {"state-machine", "starter", "scheduler"}

# The roles of functions that belong to no run. They write nothing.
SERVING = {"get-features"}

# The policies for people, which are outputs: nobody has them until somebody attaches them.
READERS = {"reader", "feast"}

# The sections of roles.toml that are no roles.
VOCABULARY = {"words", "kinds", "every-function", "every-step"} | READERS
SOURCES = ("apis", "chain")


def load(name: str) -> dict:
    return tomllib.loads((HERE / name).read_text())


@dataclass(frozen=True)
class Scope:
    """The deployment that policies are for. `key` is its KMS key, `writers` the list of writers, or None without one."""

    env: str = "dev"
    source: str = "apis"
    region: str = "us-east-1"
    lake: str = f"data-lakehouse-dev-{ACCOUNT}"
    key: str | None = None
    writers: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return f"{self.env}, {self.source}, {self.lake}"

    def names(self) -> dict[str, str]:
        """Returns what stands for the names in the lists."""
        return {"env": self.env, "lake": self.lake, "key": self.key or "", "scope": f"{self.region}:{ACCOUNT}", "account": ACCOUNT}


def as_list(value) -> list:
    return value if isinstance(value, list) else [value]


def fill(value, names: dict[str, str]):
    """Replaces the names in braces in all texts of a value."""
    match value:
        case dict():
            return {key: fill(item, names) for key, item in value.items()}
        case list():
            return [fill(item, names) for item in value]
        case str():
            for name, text in names.items():
                value = value.replace(f"{{{name}}}", text)
    return value


def roles_of(roles: dict) -> list[str]:
    return [name for name in roles if name not in VOCABULARY]


def allowed(roles: dict, role: str, scope: Scope) -> set[tuple[str, str]]:
    """Returns what a role may do: pairs of an action and a resource. The resource of a listing is the bucket with the
    prefix."""
    sections = [roles[role], roles[role].get(scope.source, {})]
    if role not in SERVICES | READERS:
        sections.append(roles["every-function"])
    if role not in SERVICES | SERVING | READERS:
        sections.append(roles["every-step"])
    pairs = set()
    for section in sections:
        for words, resources in section.items():
            if words == "trusts" or words in SOURCES:
                continue
            for word in words.split():
                for action in roles["words"].get(word, [word]):
                    pairs |= {(action, arn) for resource in resources for arn in arns(roles, resource, action, role, scope)}
    return pairs


def arns(roles: dict, resource: str, action: str, role: str, scope: Scope) -> list[str]:
    """Returns the ARNs of a resource in roles.toml."""
    kind, _, rest = resource.partition("/")
    if kind == "key" and scope.key is None:
        return []
    if action == "s3:ListBucket":
        rest = f"{rest.removesuffix('*')}*"
    layer, _, table = rest.partition("/")
    names = {**scope.names(), "rest": rest, "layer": layer, "table": table, "role": role}
    filled = fill(roles["kinds"][kind], names)
    return [arn.replace("{event}", event) for arn in filled for event in (EVENTS if "{event}" in arn else ("",))]


def planned(policy: dict) -> tuple[set[tuple[str, str]], list[str]]:
    """Returns the pairs of an action and a resource that the policy of a role allows, and what can't be put into pairs."""
    pairs, problems = set(), []
    for statement in as_list(policy["Statement"]):
        sid, condition = statement.get("Sid", "without a Sid"), statement.get("Condition")
        extra = statement.keys() - {"Sid", "Effect", "Action", "Resource", "Condition"}
        if extra or statement.get("Effect") != "Allow":
            problems.append(f"the statement {sid} has {', '.join(sorted(extra)) or 'another effect than Allow'}")
            continue
        for action in as_list(statement.get("Action", [])):
            resources = as_list(statement.get("Resource", []))
            if action == "s3:ListBucket":
                prefixes = as_list((condition or {}).get("StringLike", {}).get("s3:prefix", []))
                if not prefixes or condition != {"StringLike": {"s3:prefix": statement["Condition"]["StringLike"]["s3:prefix"]}}:
                    problems.append(f"the statement {sid} allows {action} on {', '.join(resources)} without a prefix, or with more conditions")
                    continue
                resources = [f"{bucket}/{prefix}" for bucket in resources for prefix in prefixes]
            elif condition is not None:
                problems.append(f"the statement {sid} allows {action} under a condition")
                continue
            pairs |= {(action, resource) for resource in resources}
    return pairs, problems


def problems_of_role(roles: dict, role: str, policy: dict, scope: Scope):
    """Yields how the policy of a role differs from roles.toml, with the action and the resource."""
    pairs, problems = planned(policy)
    yield from problems
    expected = allowed(roles, role, scope)
    for action, resource in sorted(pairs - expected):
        yield f"allows {action} on {resource}, which roles.toml does not"
    for action, resource in sorted(expected - pairs):
        yield f"does not allow {action} on {resource}, which roles.toml does"


def trust_of(roles: dict, role: str) -> dict:
    """Returns the policy of who may assume a role."""
    service = roles[role].get("trusts", roles["every-function"]["trusts"])
    statement = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"Service": f"{service}.amazonaws.com"},
        "Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def statements_of_resource(policies: dict, roles: dict, name: str, scope: Scope) -> dict[str, dict]:
    """Returns the statements that the policy of a resource must have, by Sid."""
    functions = [f"arn:aws:iam::{ACCOUNT}:role/defi-{scope.env}-{role}" for role in roles_of(roles) if role not in SERVICES | SERVING]
    statements = {}
    for statement in fill(policies[name], scope.names()):
        if statement["Sid"] == "OnlyWriters":
            if scope.writers is None:
                continue
            statement["Condition"] = {"ArnNotLike": {"aws:PrincipalArn": sorted([*functions, *scope.writers])}}
        statements[statement["Sid"]] = statement
    return statements


def normal(value):
    """Returns a value of a policy in one form: a single text is a list, and lists are in order."""
    if isinstance(value, dict):
        return {key: normal(item) for key, item in value.items()}
    return sorted(as_list(value), key=json.dumps)


def problems_of_resource(resources: dict, roles: dict, name: str, policy: dict, scope: Scope):
    """Yields how the policy of a resource differs from resources.toml."""
    expected, found = statements_of_resource(resources, roles, name, scope), {}
    for statement in as_list(policy["Statement"]):
        sid = statement.get("Sid", "without a Sid")
        if sid in found or sid not in expected:
            yield f"has the statement {sid}, which resources.toml does not: {json.dumps(statement)}"
        found[sid] = normal(statement)
    for sid, statement in expected.items():
        if sid not in found:
            yield f"lacks the statement {sid}, which resources.toml has"
            continue
        statement = normal(statement)
        for key in sorted(statement.keys() | found[sid].keys()):
            if statement.get(key) != found[sid].get(key):
                yield f"{key} of {sid} is {json.dumps(found[sid].get(key))} instead of {json.dumps(statement.get(key))}"


def problems_of_scope(scope: Scope, policies: dict, roles: dict | None = None, resources: dict | None = None):
    """Yields how the policies of one deployment differ from the lists."""
    roles, resources = roles or load("roles.toml"), resources or load("resources.toml")["policies"]
    names = roles_of(roles)
    for kind, expected in (("identity", names), ("trust", names), ("reader", READERS), ("resource", list(resources))):
        for name in sorted(policies[kind].keys() ^ set(expected)):
            yield f"{scope}: {name}: there is a {kind} policy of it in Terraform or in the lists, but not in both"
    for name in names:
        if name in policies["trust"] and normal(policies["trust"][name]) != normal(trust_of(roles, name)):
            yield f"{scope}: {name}: is trusted by {json.dumps(policies['trust'][name])} instead of {json.dumps(trust_of(roles, name))}"
    for role, policy in {**policies["identity"], **policies["reader"]}.items():
        if role in roles:
            yield from (f"{scope}: {role}: {problem}" for problem in problems_of_role(roles, role, policy, scope))
    for name, policy in policies["resource"].items():
        if name in resources:
            yield from (f"{scope}: {name}: {problem}" for problem in problems_of_resource(resources, roles, name, policy, scope))
