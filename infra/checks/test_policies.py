"""policies.py notices weak policies."""

import copy
import unittest

from policies import (
    ACCOUNT,
    GLUE,
    LAKE,
    OWNERS,
    SERVICES,
    problems_of,
    problems_of_identity,
    problems_of_owners,
    problems_of_reader,
    problems_of_resource,
    problems_of_trust,
    problems_of_writers,
)

STEPS = ["check-features", "plan-run", "publish-features", *(f"step-{letter}" for letter in "abcdefghijklm")]


def allow(action, resource, **more):
    return {"Sid": "Sid", "Effect": "Allow", "Action": action, "Resource": resource, **more}


def policy(*statements):
    return {"Version": "2012-10-17", "Statement": list(statements)}


def identity():
    """Returns a policy for each role, in which each allows what it owns."""
    policies = {name: policy() for name in (*STEPS, *SERVICES)}
    for actions, resource, owner in OWNERS:
        policies[owner]["Statement"].append(allow(list(actions), [resource]))
    for step in STEPS:
        if step != "plan-run":
            policies[step]["Statement"].append(allow(["s3:PutObject"], [f"{LAKE}/runs/*/reports/{step}/*"]))
    return policies


def trust(**changes):
    condition = {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}, "Condition": condition}
    statement.update(changes)
    return policy({name: value for name, value in statement.items() if value is not None})


def tls_only(**changes):
    statement = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": ["s3:*"],
        "Resource": [LAKE, f"{LAKE}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return {**statement, **changes}


def only_writers(**changes):
    statement = {
        "Sid": "OnlyWriters",
        "Effect": "Deny",
        "Principal": "*",
        "Action": ["s3:PutObject*", "s3:DeleteObject*"],
        "Resource": [f"{LAKE}/*"],
        "Condition": {"ArnNotLike": {"aws:PrincipalArn": [f"arn:aws:iam::{ACCOUNT}:role/defi-prod-{step}" for step in STEPS]}},
    }
    return {**statement, **changes}


class Policies(unittest.TestCase):
    def assert_finds(self, problems, text):
        problems = list(problems)
        self.assertTrue(any(text in problem for problem in problems), f"{text!r} is not in {problems}")

    def test_strong_policies_have_no_problem(self):
        policies = {
            "identity": identity(),
            "trust": {name: trust() for name in identity()},
            "resource": {"lake": policy(tls_only())},
            "reader": {"reader": policy(allow(["s3:GetObject"], [f"{LAKE}/raw/*"]))},
            "resource_of_prod": {"lake": policy(tls_only(), only_writers())},
        }
        self.assertEqual(list(problems_of(policies)), [])
        for kind in ("identity", "trust"):
            fewer = copy.deepcopy(policies)
            del fewer[kind]["step-a"]
            self.assert_finds(problems_of(fewer), "every step must have both")

    def test_roles(self):
        listing = {"Condition": {"StringLike": {"s3:prefix": ["raw/*"]}}}
        for statement, problem in (
            (allow(["s3:*"], [f"{LAKE}/raw/*"]), "the actions s3:*"),
            (allow(["s3:GetObject"], ["*"]), "on all resources"),
            (allow(["s3:GetObject"], [f"{LAKE}/*"]), f"on {LAKE}/*"),
            (allow(["glue:UpdateTable"], [f"{GLUE}:table/db_analytics_dev/*"]), "table/db_analytics_dev/*"),
            (allow(["s3:ListBucket"], [LAKE]), "without a prefix"),
            (allow(["s3:ListBucket"], [LAKE], Condition={"StringLikeIfExists": {"s3:prefix": ["raw/*"]}}), "without a prefix"),
            (allow(["s3:ListBucket"], [LAKE], Condition={"StringLike": {"s3:prefix": ["*"]}}), "without a prefix"),
            (allow(["s3:ListBucket"], [LAKE], Condition={"StringLike": {"s3:prefix": ["raw/*", ""]}}), "without a prefix"),
            ({"Effect": "Allow", "NotAction": "iam:*", "Resource": [f"{LAKE}/raw/*"]}, "NotAction"),
            (allow(["s3:GetObject"], [f"{LAKE}/raw/{number}" for number in range(200)]), "bytes, more than"),
        ):
            self.assert_finds(problems_of_identity(policy(statement)), problem)
        self.assertEqual(list(problems_of_identity(policy(allow(["s3:ListBucket"], [LAKE], **listing)))), [])
        self.assertEqual(list(problems_of_identity(policy(allow(["xray:PutTraceSegments"], ["*"])))), [])

    def test_versions_of_functions(self):
        functions = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function"
        self.assertEqual(list(problems_of_identity(policy(allow(["lambda:InvokeFunction"], [f"{functions}:defi-dev-plan-run:*"])))), [])
        self.assert_finds(problems_of_identity(policy(allow(["lambda:InvokeFunction"], [f"{functions}:defi-dev-*"]))), "function:defi-dev-*")

    def test_reader(self):
        allowed = [
            allow(["s3:GetObject"], [f"{LAKE}/raw/*"]),
            allow(["glue:GetTables"], [f"{GLUE}:table/db_raw_dev/*"]),
            allow(["s3:PutObject"], [f"{LAKE}-athena/results/*"]),
        ]
        self.assertEqual(list(problems_of_reader(policy(*allowed))), [])
        for statement, problem in (
            (allow(["s3:PutObject"], [f"{LAKE}/raw/*"]), "allows a reader s3:PutObject"),
            (allow(["s3:PutObject"], [f"{LAKE}-athena/results/*", f"{LAKE}/raw/*"]), "allows a reader s3:PutObject"),
            (allow(["glue:UpdateTable"], [f"{GLUE}:table/db_raw_dev/*"]), "allows a reader glue:UpdateTable"),
            (allow(["s3:GetObject"], [f"{LAKE}/*"]), f"on {LAKE}/*"),
        ):
            self.assert_finds(problems_of_reader(policy(statement)), problem)

    def test_owners(self):
        self.assertEqual(list(problems_of_owners(identity())), [])
        for actions, resources in (
            (["s3:PutObject"], f"{LAKE}/state/*"),
            (["s3:PutObject"], f"{LAKE}/runs/*"),
            (["s3:PutObject"], f"{LAKE}/runs/*/reports/*"),
            (["s3:PutObject"], f"{LAKE}/runs/*/batches/*"),
            (["s3:PutObject"], f"{LAKE}/analytics/features/*"),
            (["s3:DeleteObject"], f"{LAKE}/analytics/features/defi_features/*"),
            (["glue:UpdateTable"], f"{GLUE}:table/db_analytics_dev/*"),
            (["glue:UpdatePartition"], f"{GLUE}:table/db_analytics_dev/defi_features_history"),
            (["glue:BatchCreatePartition"], f"{GLUE}:table/db_analytics_dev/defi_features_history"),
            (["glue:CreateTable"], f"{GLUE}:table/db_analytics_dev/defi_features"),
        ):
            policies = identity()
            policies["step-a"]["Statement"].append(allow(actions, [resources]))
            self.assert_finds(problems_of_owners(policies), "step-a: allows")
        policies = identity()
        policies["check-features"] = policy()
        self.assert_finds(problems_of_owners(policies), "check-features: does not allow")

    def test_trust(self):
        self.assertEqual(list(problems_of_trust(trust())), [])
        for changes, problem in (
            ({"Condition": None}, "aws:SourceAccount is missing"),
            ({"Condition": {"StringEquals": {"aws:SourceAccount": "999999999999"}}}, "aws:SourceAccount is missing"),
            ({"Condition": {"StringEqualsIfExists": {"aws:SourceAccount": ACCOUNT}}}, "aws:SourceAccount is missing"),
            ({"Principal": "*"}, "instead of one service"),
            ({"Principal": {"AWS": "*"}}, "instead of one service"),
            ({"Principal": {"AWS": "arn:aws:iam::999999999999:root"}}, "instead of one service"),
            ({"Principal": {"Service": "lambda.amazonaws.com", "AWS": "*"}}, "instead of one service"),
            ({"Principal": {"Service": ["lambda.amazonaws.com", "ec2.amazonaws.com"]}}, "instead of one service"),
            ({"Principal": {"Service": "*"}}, "instead of one service"),
            ({"Action": "sts:*"}, "the actions sts:*"),
            ({"Action": ["sts:AssumeRole", "sts:TagSession"]}, "instead of sts:AssumeRole"),
        ):
            self.assert_finds(problems_of_trust(trust(**changes)), problem)

    def test_resources(self):
        topic = {"Action": ["sns:Publish"], "Resource": ["arn:aws:sns:us-east-1:123456789012:defi-dev"]}
        self.assertEqual(list(problems_of_resource(policy(tls_only(**topic)))), [])
        for statements, problem in (
            ([only_writers()], "without TLS"),
            ([tls_only(Resource=[f"{LAKE}/*"])], "without TLS"),
            ([tls_only(Action=["s3:GetObject"])], "without TLS"),
            ([tls_only(Principal={"AWS": "arn:aws:iam::123456789012:role/x"})], "without TLS"),
            ([tls_only(Condition={"Bool": {"aws:SecureTransport": "true"}})], "without TLS"),
            ([tls_only(), allow(["s3:GetObject"], [f"{LAKE}/*"], Principal="*")], "instead of one service"),
            ([tls_only(), allow(["s3:GetObject"], [f"{LAKE}/*"], Principal={"AWS": "*"})], "instead of one service"),
            ([tls_only(), allow(["s3:GetObject"], [f"{LAKE}/*"], Principal={"Service": "s3.amazonaws.com"})], "instead of one service"),
            ([tls_only(), allow(["s3:*"], [f"{LAKE}/*"], Principal="*")], "the actions s3:*"),
        ):
            self.assert_finds(problems_of_resource(policy(*statements)), problem)

    def test_writers(self):
        self.assertEqual(list(problems_of_writers(policy(only_writers()), STEPS)), [])
        someone = {"ArnNotLike": {"aws:PrincipalArn": [f"arn:aws:iam::{ACCOUNT}:role/*"]}}
        for statement, problem in (
            (tls_only(), "no statement OnlyWriters"),
            (only_writers(Action=["s3:PutObject"]), "does not deny s3:DeleteObject"),
            (only_writers(Condition=someone), f"lets arn:aws:iam::{ACCOUNT}:role/* write"),
            (only_writers(Effect="Allow"), "does not deny everyone else"),
            (only_writers(Condition={**only_writers()["Condition"], "Bool": {}}), "does not deny everyone else"),
        ):
            self.assert_finds(problems_of_writers(policy(statement), STEPS), problem)


if __name__ == "__main__":
    unittest.main()
