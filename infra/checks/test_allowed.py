"""allowed.py and grants.py name whatever Terraform allows more, or less, than roles.toml and resources.toml say."""

import copy
import shutil
import tempfile
import unittest
from pathlib import Path

import allowed
import grants
from allowed import ACCOUNT, Scope

INFRA = Path(grants.__file__).parents[1]
FILES = [file for file in INFRA.rglob("*.tf") if not {".terraform", "node_modules"} & set(file.parts)]
ROLES, RESOURCES = allowed.load("roles.toml"), allowed.load("resources.toml")
DEV = Scope()
PROD = Scope(env="prod", source="chain", lake="some-lake", key="arn:aws:kms:us-east-1:123456789012:key/x", writers=(f"arn:aws:iam::{ACCOUNT}:role/x",))
LAKE = f"arn:aws:s3:::{DEV.lake}"
GLUE = f"arn:aws:glue:us-east-1:{ACCOUNT}"
LAMBDA = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:defi-dev"
STATES = f"arn:aws:states:us-east-1:{ACCOUNT}"


def statement(action, resource, **more):
    if action == "s3:ListBucket":
        resource, _, prefix = resource.partition("/")
        more["Condition"] = {"StringLike": {"s3:prefix": [prefix]}}
    return {"Sid": "Sid", "Effect": "Allow", "Action": [action], "Resource": [resource], **more}


def policy(statements):
    return {"Version": "2012-10-17", "Statement": list(statements)}


def policies_as_listed(scope):
    """Returns the policies of a deployment that are exactly what the lists say."""
    roles = allowed.roles_of(ROLES)
    of = lambda role: policy(statement(*pair) for pair in sorted(allowed.allowed(ROLES, role, scope)))  # noqa: E731
    listed = RESOURCES["policies"]
    return {
        "identity": {role: of(role) for role in roles},
        "trust": {role: allowed.trust_of(ROLES, role) for role in roles},
        "reader": {"reader": of("reader")},
        "resource": {
            name: policy(allowed.statements_of_resource(listed, ROLES, name, scope).values()) for name in listed
        },
    }


class Lists(unittest.TestCase):
    def problems(self, change, scope=DEV):
        policies = policies_as_listed(scope)
        change(policies)
        return list(allowed.problems_of_scope(scope, policies))

    def assert_one_problem(self, change, *texts, scope=DEV):
        problems = self.problems(change, scope)
        self.assertEqual(len(problems), 1, problems)
        for text in texts:
            self.assertIn(text, problems[0])

    def test_policies_as_listed_have_no_problem(self):
        for scope in (DEV, PROD, Scope(source="chain")):
            self.assertEqual(self.problems(lambda policies: None, scope), [])
        identity = policies_as_listed(DEV)["identity"]
        self.assertEqual(len(identity), 17 + len(allowed.SERVICES))
        self.assertIn(statement("s3:PutObject", f"{LAKE}/raw/transpose/transpose_repay_events/*"), identity["extract-events"]["Statement"])

    def test_more_than_is_listed(self):
        graph = f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:defi-dev/graph-api-key-??????"
        for role, action, resource in (
            ("extract-events", "s3:PutObject", f"{LAKE}/digests/*"),
            ("extract-events", "s3:PutObject", f"{LAKE}/digests/raw/*"),
            ("extract-events", "s3:PutObject", f"{LAKE}/state/*"),
            ("extract-events", "s3:PutObject", f"{LAKE}/analytics/features/builds/*"),
            ("extract-events", "s3:DeleteObject", f"{LAKE}/state/passed/*"),
            ("extract-events", "s3:DeleteObjectVersion", f"{LAKE}/raw/transpose/transpose_borrow_events/*"),
            ("extract-events", "s3:PutBucketPolicy", LAKE),
            ("extract-events", "s3:PutLifecycleConfiguration", LAKE),
            ("extract-events", "sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/defi-dev-publish-features"),
            ("extract-events", "lambda:UpdateFunctionCode", f"{LAMBDA}-publish-features"),
            ("extract-events", "lambda:InvokeFunction", f"{LAMBDA}-publish-features:*"),
            ("extract-events", "glue:DeleteTable", f"{GLUE}:table/db_raw_dev/transpose_borrow_events"),
            ("extract-events", "glue:DeletePartition", f"{GLUE}:table/db_raw_dev/transpose_borrow_events"),
            ("extract-events", "states:StartExecution", f"{STATES}:stateMachine:defi-dev"),
            ("extract-current-positions", "s3:PutObject", f"{LAKE}/digests/*"),
            ("stage-events", "secretsmanager:GetSecretValue", graph),
            ("price-events", "s3:ListBucket", f"{LAKE}/digests/*"),
            ("scheduler", "states:StartExecution", f"{STATES}:stateMachine:defi-dev"),
            ("state-machine", "lambda:InvokeFunction", f"{LAMBDA}-other:*"),
        ):
            with self.subTest(role=role, action=action, resource=resource):
                more = statement(action, resource)
                self.assert_one_problem(
                    lambda policies: policies["identity"][role]["Statement"].append(more), role, f"allows {action} on {resource}"
                )
        self.assert_one_problem(
            lambda policies: policies["reader"]["reader"]["Statement"].append(statement("s3:PutObject", f"{LAKE}/raw/*")),
            "reader",
            f"allows s3:PutObject on {LAKE}/raw/*",
        )

    def test_secret_of_the_other_source(self):
        ethereum = f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:defi-dev/ethereum-api-key-??????"
        more = statement("secretsmanager:GetSecretValue", ethereum)
        self.assert_one_problem(
            lambda policies: policies["identity"]["extract-market-data"]["Statement"].append(more), "extract-market-data", ethereum
        )
        chain = policies_as_listed(Scope(source="chain"))["identity"]
        self.assertIn(more, chain["extract-market-data"]["Statement"])
        self.assertNotIn(more, chain["extract-events"]["Statement"])

    def test_less_than_is_listed(self):
        number = len(policies_as_listed(DEV)["identity"]["check-features"]["Statement"])
        for at in range(number):
            lost = policies_as_listed(DEV)["identity"]["check-features"]["Statement"][at]
            resource = lost["Resource"][0]
            self.assert_one_problem(
                lambda policies: policies["identity"]["check-features"]["Statement"].pop(at),
                f"check-features: does not allow {lost['Action'][0]} on {resource}",
            )
        self.assertTrue(self.problems(lambda policies: policies["identity"].pop("plan-run")))
        self.assertTrue(self.problems(lambda policies: policies["trust"].pop("plan-run")))
        self.assertTrue(self.problems(lambda policies: policies["resource"].pop("lake")))

    def test_statements_in_other_forms(self):
        bucket, condition = LAKE, {"StringLike": {"s3:prefix": ["raw/*"]}}
        for other, text in (
            ({"Effect": "Allow", "NotAction": "iam:*", "Resource": ["*"]}, "NotAction"),
            ({"Effect": "Allow", "Action": "s3:GetObject", "NotResource": ["x"]}, "NotResource"),
            ({"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": [bucket]}, "without a prefix"),
            ({"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": [bucket], "Condition": {**condition, "Bool": {}}}, "more conditions"),
            ({"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": [bucket], "Condition": {"StringLikeIfExists": condition["StringLike"]}}, "without a prefix"),
            ({"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": [f"{LAKE}/raw/*"], "Condition": condition}, "under a condition"),
            ({"Effect": "Deny", "Action": ["s3:GetObject"], "Resource": [f"{LAKE}/raw/*"]}, "another effect"),
        ):
            self.assert_one_problem(lambda policies: policies["identity"]["extract-events"]["Statement"].append(other), "extract-events", text)

    def test_trust(self):
        statement_of = lambda policies: policies["trust"]["plan-run"]["Statement"][0]  # noqa: E731
        for change in (
            {"Condition": {"StringEquals": {"aws:SourceAccount": "999999999999"}}},
            {"Condition": {}},
            {"Principal": "*"},
            {"Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/defi-dev-extract-events"}},
            {"Principal": {"Service": ["lambda.amazonaws.com", "ec2.amazonaws.com"]}},
            {"Principal": {"Service": "states.amazonaws.com"}},
            {"Action": ["sts:AssumeRole", "sts:TagSession"]},
        ):
            self.assert_one_problem(lambda policies: statement_of(policies).update(change), "plan-run: is trusted by")

    def test_policies_of_resources(self):
        def named(policies, name, sid):
            return next(statement for statement in policies["resource"][name]["Statement"] if statement["Sid"] == sid)

        bucket = "arn:aws:s3:::some-lake"
        for name, sid, change in (
            ("lake", "TlsOnly", {"Resource": [f"{bucket}/*"]}),
            ("lake", "TlsOnly", {"Resource": [bucket, f"{bucket}/raw/*"]}),
            ("lake", "TlsOnly", {"Effect": "Allow"}),
            ("lake", "TlsOnly", {"Condition": {"Bool": {"aws:SecureTransport": "true"}}}),
            ("lake", "OnlyWriters", {"Resource": [f"{bucket}/raw/*"]}),
            ("lake", "OnlyWriters", {"Resource": ["arn:aws:s3:::other/*"]}),
            ("lake", "OnlyWriters", {"Action": ["s3:PutObject"]}),
            ("lake", "OnlyWriters", {"Condition": {"ArnNotLike": {"aws:PrincipalArn": [f"arn:aws:iam::{ACCOUNT}:role/*"]}}}),
            ("athena", "TlsOnly", {"Resource": [f"{bucket}-athena"]}),
            ("topic", "Alarms", {"Principal": "*"}),
            ("topic", "TlsOnly", {"Action": ["sns:Subscribe"]}),
        ):
            (key,) = change
            self.assert_one_problem(
                lambda policies: named(policies, name, sid).update(change), f"{name}: {key} of {sid} is", scope=PROD
            )
            self.assert_one_problem(
                lambda policies: policies["resource"][name]["Statement"].remove(named(policies, name, sid)),
                f"{name}: lacks the statement {sid}",
                scope=PROD,
            )
        public = {"Sid": "Public", "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"{bucket}/*"}
        self.assert_one_problem(lambda policies: policies["resource"]["lake"]["Statement"].append(public), "the statement Public", scope=PROD)
        no_writers = allowed.statements_of_resource(RESOURCES["policies"], ROLES, "lake", DEV)
        self.assertEqual(list(no_writers), ["TlsOnly"])


class Grants(unittest.TestCase):
    def problems(self, name="secrets.tf", more="", old="", new=""):
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        for file in FILES:
            copied = folder / file.relative_to(INFRA)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copied)
        text = (folder / name).read_text() if (folder / name).exists() else ""
        self.assertIn(old, text)
        (folder / name).write_text(text.replace(old, new) + more)
        return list(grants.problems_of_terraform(folder, RESOURCES["terraform"]))

    def test_terraform_has_no_problem(self):
        self.assertEqual(self.problems(), [])

    def test_rights_that_are_not_listed(self):
        for change, text in (
            ({"more": '\nresource "aws_iam_role_policy" "more" {\n  policy = jsonencode({})\n}\n'}, "aws_iam_role_policy.more: policy"),
            ({"more": '\nresource "aws_iam_user" "more" {\n  name = "x"\n}\n'}, "aws_iam_user: a type"),
            ({"more": '\nresource "aws_lambda_permission" "more" {\n  action = "lambda:InvokeFunction"\n}\n'}, "aws_lambda_permission: a type"),
            ({"more": '\nresource "aws_s3_bucket_policy" "more" {\n  bucket = "x"\n  policy = <<-EOT\n    {}\n  EOT\n}\n'}, "aws_s3_bucket_policy.more: policy"),
            ({"name": "more.tf.json", "more": "{}"}, "more.tf.json"),
            ({"name": "functions.tf", "old": "local.step_policies[each.key]", "new": "merge(local.step_policies[each.key], {})"}, "module.step: policy"),
            ({"name": "functions.tf", "old": "local.step_policies[each.key]", "new": "merge(\n    local.step_policies[each.key],\n    {},\n  )"}, "module.step: policy"),
            ({"name": "modules/step/main.tf", "old": "assume_role_policy = ", "new": 'inline_policy {\n    name = "x"\n  }\n  assume_role_policy = '}, "aws_iam_role.this: inline_policy"),
            ({"name": "modules/step/main.tf", "old": "aws_iam_role.this.arn\n  file", "new": '"arn:aws:iam::123456789012:role/x"\n  file'}, "aws_lambda_function.this: role"),
            ({"name": "state/main.tf", "old": '"s3:*"', "new": '"s3:GetObject"'}, "state/module.state: policy"),
            ({"name": "lake_formation.tf", "old": '["DESCRIBE", "SELECT"]', "new": '["ALL"]'}, "reader_tables: permissions"),
        ):
            with self.subTest(text=text):
                problems = self.problems(**change)
                self.assertEqual(len(problems), 1, problems)
                self.assertIn(text, problems[0])

    def test_lost_rights(self):
        problems = self.problems("notifications.tf", old="policy = jsonencode(local.topic_policy)", new="")
        self.assertEqual(len(problems), 1, problems)
        with self.assertRaises(AssertionError):
            self.problems(more='\nresource "aws_iam_role_policy" "more" { policy = "{}" }\n')


if __name__ == "__main__":
    unittest.main()
