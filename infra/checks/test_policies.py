"""policies.py notices policies that break its rules."""

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
)

STEPS = ["build-features", "check-features", "plan-run", "publish-features", *(f"step-{letter}" for letter in "abcdefghijkl")]


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


class Policies(unittest.TestCase):
    def assert_finds(self, problems, text):
        problems = list(problems)
        self.assertTrue(any(text in problem for problem in problems), f"{text!r} is not in {problems}")

    def test_strong_policies_have_no_problem(self):
        policies = {"identity": identity(), "reader": {"reader": policy(allow(["s3:GetObject"], [f"{LAKE}/raw/*"]))}}
        self.assertEqual(list(problems_of(policies)), [])

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
            allow(["glue:CreateTable"], [f"{GLUE}:catalog", f"{GLUE}:database/db_feast_dev", f"{GLUE}:table/db_feast_dev/*"]),
        ]
        self.assertEqual(list(problems_of_reader(policy(*allowed))), [])
        for statement, problem in (
            (allow(["s3:PutObject"], [f"{LAKE}/raw/*"]), "allows a reader s3:PutObject"),
            (allow(["s3:PutObject"], [f"{LAKE}-athena/results/*", f"{LAKE}/raw/*"]), "allows a reader s3:PutObject"),
            (allow(["glue:UpdateTable"], [f"{GLUE}:table/db_raw_dev/*"]), "allows a reader glue:UpdateTable"),
            (allow(["glue:CreateTable"], [f"{GLUE}:catalog", f"{GLUE}:database/db_raw_dev"]), "allows a reader glue:CreateTable"),
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


if __name__ == "__main__":
    unittest.main()
