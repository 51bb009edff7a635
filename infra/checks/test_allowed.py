"""allowed.py and grants.py name whatever Terraform allows more, or less, than roles.toml and resources.toml say."""

import json
import re
import shutil
import tempfile
import unittest
from pathlib import Path

import allowed
import grants
from allowed import ACCOUNT, Scope

INFRA = Path(grants.__file__).parents[1]
NAMES = ("*.tf", "*.asl.json", "*.tfbackend", ".terraform.lock.hcl")
FILES = [file for name in NAMES for file in INFRA.rglob(name) if not {".terraform", "node_modules"} & set(file.parts)]
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
        "reader": {reader: of(reader) for reader in allowed.READERS},
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
        self.assertEqual(len(identity), 18 + len(allowed.SERVICES))
        self.assertIn(statement("s3:PutObject", f"{LAKE}/raw/transpose/transpose_repay_events/*"), identity["extract-events"]["Statement"])

    def test_more_than_is_listed(self):
        graph = f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:defi-dev/graph-api-key-??????"
        for role, action, resource in (
            ("extract-events", "s3:PutObject", f"{LAKE}/digests/*"),
            ("extract-events", "s3:PutObject", f"{LAKE}/digests/raw/*"),
            ("extract-events", "s3:PutObject", f"{LAKE}/state/*"),
            ("extract-events", "s3:PutObject", f"{LAKE}/analytics/features/builds/*"),
            ("extract-events", "s3:DeleteObject", f"{LAKE}/state/passed/*"),
            ("build-features", "s3:PutObject", f"{LAKE}/analytics/features/checked/*"),
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
        (folder / name).write_text(text.replace(old, new) + more, newline="")
        return list(grants.problems_of_terraform(folder, RESOURCES["terraform"]))

    def test_terraform_has_no_problem(self):
        self.assertEqual(self.problems(), [])
        self.assertEqual(self.problems(name="more.tf", more="# A comment.\n"), [])
        self.assertEqual(self.problems(name="more.tf"), [])

    def test_rights_that_are_not_listed(self):
        for change, text in (
            ({"more": '\nresource "aws_iam_role_policy" "more" {\n  policy = jsonencode({})\n}\n'}, "aws_iam_role_policy.more: policy"),
            ({"more": '\nresource "aws_iam_user" "more" {\n  name = "x"\n}\n'}, "aws_iam_user: a type"),
            ({"more": '\nresource "aws_lambda_permission" "more" {\n  action = "lambda:InvokeFunction"\n}\n'}, "aws_lambda_permission: a type"),
            ({"more": '\nresource "aws_s3_bucket_policy" "more" {\n  policy = <<-EOT\n    {}\n  EOT\n}\n'}, "aws_s3_bucket_policy.more: policy"),
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

    def assert_finds(self, text, **change):
        with self.subTest(text=text):
            problems = self.problems(**change)
            self.assertTrue(any(text in problem for problem in problems), f"{text!r} is not in {problems}")

    def test_lost_rights(self):
        problems = self.problems("notifications.tf", old="policy = jsonencode(local.topic_policy)", new="")
        self.assertEqual(len(problems), 1, problems)

    def test_override_files(self):
        block = 'resource "aws_iam_role_policy" "starter" {\n  policy = jsonencode(local.starter_policy)\n}\n'
        for name in ("override.tf", "aa_override.tf", "modules/step/more_override.tf"):
            self.assert_finds(f"{name}: an override file", name=name, more=block)
        for name in ("override.tf.json", "aa_override.tf.json", "modules/step/more.tf.json"):
            self.assert_finds(f"{name}: this check reads no Terraform in JSON", name=name, more="{}")
        self.assert_finds("aws_iam_role_policy.starter: exists 2 times", name="aa.tf", more=block)
        self.assert_finds("local.policies: exists 2 times", name="aa.tf", more="locals {\n  policies = {}\n}\n")

    def test_forms_of_blocks(self):
        for text, block in (
            ("more: policy", '# /*\nresource "aws_iam_role_policy" "more" {\n  policy = "{}" // */\n}\n'),
            ("more: policy", 'resource "aws_iam_role_policy" "more" { policy = "{}" }\n'),
            ("more: policy", 'resource aws_iam_role_policy more { policy = "{}" }\n'),
            ("more: policy", 'resource\t"aws_iam_role_policy"   "more" {\n\n\tpolicy="{}"\n}\n'),
            ("more: policy", 'resource "aws_secretsmanager_secret" "more" {\n  description = <<EOT\n}\nEOT\n  policy = "{}"\n}\n'),
            ("more: policy", 'resource "aws_secretsmanager_secret" "more" {\n  description = "}"\n# }\n  policy = "{}"\n}\n'),
            ("more: policy", 'resource "aws_sns_topic" "more" {\n  x {\n    y {\n      policy = "{}"\n    }\n  }\n}\n'),
            ("more: inline_policy", 'resource "aws_iam_role" "more" {\n  dynamic "inline_policy" {\n    for_each = [1]\n    content {}\n  }\n}\n'),
            ("more.tf: is not read", 'resource "aws_iam_role_policy" "more" {\n'),
            ("removed: a kind of block", 'removed {\n  from = aws_iam_role.more\n}\n'),
            ("check: a kind of block", 'check "more" {\n  data "external" "more" {}\n}\n'),
            ("ephemeral: a kind of block", 'ephemeral "aws_lambda_invocation" "more" {}\n'),
        ):
            self.assert_finds(text, name="more.tf", more=block)

    def test_texts_that_another_parser_ends_elsewhere(self):
        secret = 'resource "aws_secretsmanager_secret" "more" {\n%s}\n'
        for text, body in (
            ("a text", '  name = "$${"\n  policy = "x"\n  description = "}"\n'),
            ("a heredoc", '  name = <<EOT\nEOT\n  policy = "x"\n  description = <<EOT\n}\nEOT\n'),
            ("a heredoc", '  name = <<EOT\nx\nEOT == <<EOT\nx\nEOT\n'),
            ("a heredoc", '  name = <<EOT\n${"x"}EOT\nx\nEOT\n'),
            ("a text", '  name = "${1 # }"\n'),
            ("a text", '  name = "${1 // }"\n'),
            ("a comment", '  name = "x" /* } */\n'),
            ("a comment", '  name = "x"\n}\n/* {\n*/ # '),
        ):
            self.assert_finds(f"more.tf: is not read: {text}", name="more.tf", more=secret % body)

    def test_code_between_two_texts(self):
        # Either Terraform or the parser sees a comment, or a longer text, where the other one sees the middle block.
        middle = 'resource "aws_iam_role_policy" "more" {\n  policy = "{}"\n}\n'
        for before, after in (
            ('input = "%{if "/*" == ""}%{endif}x"', 'input = "%{if "*/ == " == " == "}%{endif}x"'),
            ('input = "${"\\""}" /* }"', 'triggers_replace = "*/ # "'),
            ('input = "${1 /* }"', '# */ }"'),
            ('input = { a = { b = "${"${"}" } " /* " = 1 }', '# */ }" } }'),
            ('input = "$${" /* }" }"', '# */'),
            ('input = <<EOT\n${ /*\nEOT', 'input = <<EOT\n*/ "a" }\nEOT'),
            ('input = <<EOT\nx\n\x1cEOT', 'input = <<EOT\nx\nEOT'),
            ('# \r input = <<EOT', '/*\nEOT\n  # */'),
        ):
            blocks = [f'resource "terraform_data" "{name}" {{\n  {text}\n}}\n' for name, text in (("before", before), ("after", after))]
            with self.subTest(before=before):
                problems = self.problems(name="more.tf", more=middle.join(blocks))
                self.assertEqual(len(problems), 1, problems)
                self.assertRegex(problems[0], "^more.tf: is not read: a (text|comment|heredoc|carriage return)")

    def test_texts_with_interpolations(self):
        for text in ("$", "100 %", "^[0-9]{12}$", r'\"{\n', "/* # //", "${a}/*", '${join(", ", [for x in y : x])}}', '${b["}/*"].c}-${d}'):
            self.assertEqual(self.problems(name="more.tf", more=f'output "more" {{\n  value = "{text}"\n}}\n'), [], text)
        self.assertEqual(self.problems(name="more.tf", more='output "more" {\n  value = <<-EOT\n    100 % of ${a["b"]} "\n  EOT\n}\n'), [])

    def test_labels_in_other_letters(self):
        block = 'resource "aws_iam_role" "more" {\n  dynamic "inline_p\\u006flicy" {\n    for_each = [1]\n    content {}\n  }\n}\n'
        self.assert_finds("more.tf: is not read: a text", name="more.tf", more=block)

    def test_more_attributes_that_give_rights(self):
        tables = '  permissions = ["DESCRIBE", "SELECT"]\n'
        grant = "aws_lakeformation_permissions.reader_tables"
        for text, change in (
            (f"{grant}: principal", {"name": "lake_formation.tf", "old": "principal   = each.value[0]", "new": 'principal = "IAM_ALLOWED_PRINCIPALS"'}),
            (f"{grant}: permissions_with_grant_option", {"name": "lake_formation.tf", "old": tables, "new": tables + '  permissions_with_grant_option = ["SELECT"]\n'}),
            (f"{grant}: catalog_resource", {"name": "lake_formation.tf", "old": tables, "new": tables + "  catalog_resource = true\n"}),
            ("aws_lakeformation_permissions.step_tables: table", {"name": "lake_formation.tf", "old": "wildcard      = true", "new": "wildcard = false"}),
            ("local.reads_in", {"name": "lake_formation.tf", "old": "try(var.lake_formation.readers, [])", "new": '["IAM_ALLOWED_PRINCIPALS"]'}),
            ("local.registers_in", {"name": "lake_formation.tf", "old": "for layer in distinct(", "new": "for layer in concat("}),
            ("var.lake_formation", {"name": "variables.tf", "old": "readers = optional(list(string), [])", "new": 'readers = optional(list(string), ["x"])'}),
            ("local.policies", {"name": "policies.tf", "old": "merge(local.bucket_policies, {", "new": "merge(local.other_policies, {"}),
            ("local.more", {"name": "more.tf", "more": 'locals {\n  more = "{}"\n}\nresource "aws_iam_role_policy" "more" {\n  policy = local.more\n}\n'}),
            ("output.reader_policy", {"name": "outputs.tf", "old": "jsonencode(local.reader_policy)", "new": '"{}"'}),
            ("modules/step/output.role_arn", {"name": "modules/step/outputs.tf", "old": "aws_iam_role.this.arn", "new": '"IAM_ALLOWED_PRINCIPALS"'}),
            ("aws_s3_bucket_policy.this: bucket", {"name": "modules/bucket/main.tf", "old": "bucket = aws_s3_bucket.this.id\n\n  policy", "new": 'bucket = "other"\n\n  policy'}),
            ("public_access_block.this: restrict_public_buckets", {"name": "modules/bucket/main.tf", "old": "restrict_public_buckets = true", "new": "restrict_public_buckets = false"}),
            ("public_access_block.this: count", {"name": "modules/bucket/main.tf", "old": '"aws_s3_bucket_public_access_block" "this" {', "new": '"aws_s3_bucket_public_access_block" "this" {\n  count = 0\n'}),
            ("ownership_controls.this: count", {"name": "modules/bucket/main.tf", "old": '"aws_s3_bucket_ownership_controls" "this" {', "new": '"aws_s3_bucket_ownership_controls" "this" {\n  count = 0\n'}),
            ("ownership_controls.this: rule", {"name": "modules/bucket/main.tf", "old": "BucketOwnerEnforced", "new": "ObjectWriter"}),
            ("block_public_policy", {"name": "modules/bucket/main.tf", "old": "block_public_policy     = true", "new": "block_public_policy = false"}),
            ("permissions_boundary", {"name": "schedule.tf", "old": "permissions_boundary = var.permissions_boundary", "new": ""}),
            ("aws_sns_topic.runs: http_success_feedback_role_arn", {"name": "notifications.tf", "old": "  display_name ", "new": '  http_success_feedback_role_arn = "x"\n  display_name '}),
            ("aws_athena_workgroup.analysts: execution_role", {"name": "athena.tf", "old": "    result_configuration {", "new": '    execution_role = "x"\n    result_configuration {'}),
            ("modules/step/aws_iam_role.this: ignore_changes", {"name": "modules/step/main.tf", "old": "  assume_role_policy = ", "new": "  lifecycle {\n    ignore_changes = all\n  }\n  assume_role_policy = "}),
            ("module.lake: source", {"name": "lake.tf", "old": "./modules/bucket", "new": "./modules/step"}),
            ("module.lake: expire_days", {"name": "lake.tf", "old": '"quarantine/" =', "new": '"state/" ='}),
            ("lifecycle_configuration.this: rule", {"name": "modules/bucket/main.tf", "old": "prefix = rule.key", "new": 'prefix = ""'}),
            ("module.lake: count", {"name": "lake.tf", "old": "  name ", "new": "  count = 0\n  name "}),
            ("module.step: for_each", {"name": "functions.tf", "old": "for_each = local.steps", "new": "for_each = local.other_steps"}),
            ("module.step: providers", {"name": "functions.tf", "old": "  name   ", "new": "  providers = { aws = aws.other }\n  name   "}),
        ):
            self.assert_finds(text, **change)

    def test_types_of_variables_that_carry_rights(self):
        without_condition = "object({ Version = string, Statement = list(object({ Effect = string, Action = any })) })"
        policy = 'as an object."\n  type        = '
        for text, change in (
            ("modules/step/var.policy: type", {"name": "modules/step/variables.tf", "old": f"role, {policy}any", "new": f"role, {policy}{without_condition}"}),
            ("modules/step/var.trust_policy: type", {"name": "modules/step/variables.tf", "old": f"role, {policy}any", "new": f"role, {policy}{without_condition}"}),
            ("modules/bucket/var.policy: type", {"name": "modules/bucket/variables.tf", "old": f"policy, {policy}any", "new": f"policy, {policy}{without_condition}"}),
            ("modules/step/var.permissions_boundary: default", {"name": "modules/step/variables.tf", "old": "boundary of the role. null: none.\"\n", "new": 'x"\n  default = "arn"\n'}),
            ("modules/step/var.permissions_boundary: nullable", {"name": "modules/step/variables.tf", "old": "boundary of the role. null: none.\"\n", "new": 'x"\n  nullable = false\n'}),
            ("var.permissions_boundary: default", {"name": "variables.tf", "old": 'boundary of every role. null: none."\n  type        = string\n  default     = null', "new": 'x"\n  type = string\n  default = "arn"'}),
            ("modules/step/var.more: type", {"name": "modules/step/main.tf", "old": "jsonencode(var.policy)", "new": "jsonencode(var.more)", "more": 'variable "more" {\n  type = any\n}\n'}),
            ("state/local.bucket: value", {"name": "state/main.tf", "old": '"defi-${terraform.workspace}-', "new": '"x-${terraform.workspace}-'}),
            ("modules/bucket/output.name: value", {"name": "modules/bucket/outputs.tf", "old": "aws_s3_bucket.this.bucket", "new": '"other"'}),
        ):
            self.assert_finds(text, **change)
        self.assertEqual(self.problems(name="modules/step/more.tf", more='variable "more" {\n  type = string\n}\n'), [])

    def test_values_that_depend_on_files_or_the_time(self):
        for call in (
            'fileexists("${path.root}/backend.tf")',
            'length(fileset(path.root, "*.tfvars")) > 0',
            'core::fileexists("backend.tf")',
            'fileexists  (\n    "backend.tf")',
            'file("${path.module}/retry.asl.json") == ""',
            'can(filesha256("backend.tf"))',
            'can(templatefile("backend.tf", {}))',
            'templatestring(local.more, {}) == "x"',
            'timecmp(timestamp(), "2030-01-01T00:00:00Z") > 0',
            'plantimestamp() == "x"',
            'uuid() == "x"',
            'bcrypt("x") == "x"',
            'startswith(path.cwd, "/tmp")',
            'startswith(abspath("."), "/tmp")',
            'pathexpand("~") == "/root"',
            '"${fileexists("backend.tf")}" == "true"',
        ):
            action = '["s3:GetObject"]'
            wide = {"old": f"Action   = {action}", "new": f'Action   = {call} ? ["s3:*"] : {action}'}
            self.assert_finds("policies.tf: looks outside with", name="policies.tf", **wide)
        # In a place that looks at another file today, and in a template.
        self.assert_finds("state_machine.tf: looks outside", name="state_machine.tf", old="retry.asl.json", new="more.asl.json")
        self.assert_finds("modules/step/main.tf: looks outside", name="modules/step/main.tf", old="fileexists(var.package) ?", new='fileexists("backend.tf") ?')
        self.assert_finds("schedule.tf: looks outside with nothing", name="schedule.tf", old='templatefile("${path.module}/schedule.asl.json", ', new="jsonencode(")
        self.assert_finds("schedule.asl.json: looks outside", name="schedule.asl.json", more='${fileexists("backend.tf")}')
        names = 'output "more" {\n  value = timeadd(var.file, formatdate(filename, profile(uuidv5("x", "y"))))\n}\n'
        self.assertEqual(self.problems(name="more.tf", more=names), [])

    def test_keys_places_and_code(self):
        secret = "  kms_key_id              = var.kms_key_arn\n"
        for text, change in (
            ("aws_secretsmanager_secret.api_key: kms_key_id", {"name": "secrets.tf", "old": secret, "new": '  kms_key_id = "arn:aws:kms:us-east-1:999999999999:key/x"\n'}),
            ("aws_secretsmanager_secret.api_key: replica", {"name": "secrets.tf", "old": secret, "new": secret + '  replica {\n    region = "eu-west-1"\n  }\n'}),
            ("aws_athena_workgroup.analysts: output_location", {"name": "athena.tf", "old": "s3://${module.athena_results.name}", "new": "s3://other"}),
            ("aws_athena_workgroup.analysts: encryption_configuration", {"name": "athena.tf", "old": '"SSE_KMS"', "new": '"CSE_KMS"'}),
            ("configuration.this: apply_server_side_encryption_by_default", {"name": "modules/bucket/main.tf", "old": "kms_master_key_id = var.kms_key_arn", "new": 'kms_master_key_id = "x"'}),
            ("aws_lambda_function_url.get_features: authorization_type", {"name": "functions.tf", "old": '"AWS_IAM"', "new": '"NONE"'}),
            ("aws_lambda_function.this: layers", {"name": "modules/step/main.tf", "old": "  handler ", "new": '  layers = ["x"]\n  handler '}),
            ("aws_lambda_function.this: image_uri", {"name": "modules/step/main.tf", "old": "  filename  ", "new": '  image_uri = "x"\n  filename  '}),
            ("aws_lambda_function.this: s3_bucket", {"name": "modules/step/main.tf", "old": "  filename  ", "new": '  s3_bucket = "x"\n  filename  '}),
            ("aws_lambda_function.this: s3_key", {"name": "modules/step/main.tf", "old": "  filename  ", "new": '  s3_key = "x"\n  filename  '}),
            ("module.lake: kms_key_arn", {"name": "lake.tf", "old": "var.kms_key_arn", "new": '"x"'}),
        ):
            self.assert_finds(text, **change)

    def test_settings_of_providers_and_backends(self):
        region, version = "  region              = ", "  required_version = "
        for text, change in (
            ("provider.aws: assume_role", {"name": "versions.tf", "old": region, "new": f'  assume_role {{\n    role_arn = "x"\n  }}\n{region}'}),
            ("provider.aws: profile", {"name": "versions.tf", "old": region, "new": f'  profile = "x"\n{region}'}),
            ("provider.aws: shared_config_files", {"name": "state/main.tf", "old": "  region = ", "new": '  shared_config_files = ["config"]\n  region = '}),
            ("provider.aws: endpoints", {"name": "versions.tf", "old": region, "new": f'  endpoints {{\n    s3 = "http://x"\n  }}\n{region}'}),
            ("provider.evil: another provider", {"name": "more.tf", "more": 'provider "evil" {}\n'}),
            ("modules/step/provider.evil: another provider", {"name": "modules/step/more.tf", "more": 'provider "evil" {}\n'}),
            ("terraform: required_providers evil", {"name": "versions.tf", "old": "    aws = {", "new": '    evil = {\n      source = "x/evil"\n    }\n    aws = {'}),
            ("terraform: required_providers evil", {"name": "more.tf", "more": 'terraform {\n  required_providers {\n    evil = {}\n  }\n}\n'}),
            ("modules/step/terraform: required_providers aws", {"name": "modules/step/versions.tf", "old": "hashicorp/aws", "new": "x/aws"}),
            ("terraform: backend http", {"name": "more.tf", "more": 'terraform {\n  backend "http" {}\n}\n'}),
            ("terraform: backend s3 profile", {"name": "backend.tf", "old": "    encrypt ", "new": '    profile = "x"\n    encrypt '}),
            ("terraform: backend s3 endpoints", {"name": "backend.tf", "old": "    encrypt ", "new": '    endpoints = { s3 = "http://x" }\n    encrypt '}),
            ("terraform: cloud", {"name": "versions.tf", "old": version, "new": f"  cloud {{}}\n{version}"}),
            ("env/prod.s3.tfbackend: profile", {"name": "env/prod.s3.tfbackend", "more": 'profile = "x"\n'}),
            ("env/prod.s3.tfbackend: is not read", {"name": "env/prod.s3.tfbackend", "more": "{"}),
        ):
            self.assert_finds(text, **change)

    def test_lock_files_name_one_provider(self):
        for name in (".terraform.lock.hcl", "state/.terraform.lock.hcl"):
            self.assertIn(INFRA / name, FILES)
            self.assert_finds(f"{name}: locks", name=name, more='provider "registry.terraform.io/x/evil" {\n  version = "1.0.0"\n}\n')
            self.assert_finds(f"{name}: locks", name=name, old="registry.terraform.io/hashicorp", new="registry.example.com/hashicorp")
            self.assert_finds(f"{name}: locks nothing", name=name, old=(INFRA / name).read_text())

    def test_hidden_files(self):
        self.assert_finds("modules/step/.more.tf: a hidden file", name="modules/step/.more.tf", more="# Not read.\n")

    def test_programs_and_foreign_modules(self):
        run = '  provisioner "local-exec" {\n    command = "aws iam attach-role-policy"\n  }\n'
        self.assert_finds("terraform_data.more: has a provisioner", name="more.tf", more=f'resource "terraform_data" "more" {{\n{run}}}\n')
        self.assert_finds("aws_sns_topic.runs: has a provisioner", name="notifications.tf", old="  display_name ", new=f"{run}  display_name ")
        self.assert_finds("null_resource: a type", name="more.tf", more='resource "null_resource" "more" {}\n')
        self.assert_finds("data.external: a type", name="more.tf", more='data "external" "more" {\n  program = ["aws"]\n}\n')
        for source in ('"hashicorp/x/aws"', '"git::https://example.com/x"', '"../x"', '"./checks"', '"./.terraform/x"', '"/tmp"', '"./modules/${var.x}"'):
            self.assert_finds("module.more: its source", name="more.tf", more=f'module "more" {{\n  source = {source}\n}}\n')
        self.assert_finds("module.more: its source", name="more.tf", more='module "more" {}\n')


class EveryVariable(unittest.TestCase):
    def test_a_rendering_sets_every_variable(self):
        variables = {block.labels[0]: block.counts() for block in grants.blocks_of(INFRA / "variables.tf", ".")}
        values = json.loads((Path(grants.__file__).parent / "every-variable.tfvars.json").read_text())
        self.assertEqual(values.keys(), variables.keys())
        for name, variable in variables.items():
            value = json.dumps(values[name])
            self.assertNotEqual(value, variable["default"], name)
            for optional in re.findall(r"(\w+) *= optional", variable["type"]):
                self.assertIn(f'"{optional}": ', value, name)

    def test_the_registry_of_test_events_is_off_by_default(self):
        # It exists once per account, and the console may have created it.
        variables = {block.labels[0]: block.counts() for block in grants.blocks_of(INFRA / "variables.tf", ".")}
        for name in ("test_events", "test_event_registry"):
            self.assertEqual(variables[name], {"type": "bool", "default": "false", "nullable": "false"})
        (registry,) = [block for block in grants.blocks_of(INFRA / "test_events.tf", ".") if block.labels == ["aws_schemas_registry", "test_events"]]
        attributes = {name: value for (name, *_), value, _ in grants.children(registry.body, registry.text)}
        self.assertEqual(attributes["count"], "var.test_event_registry ? 1 : 0")
        for file in INFRA.glob("env/*.tfvars"):
            self.assertNotIn("test_event", file.read_text(), file)

    def test_the_account_decides_no_right(self):
        # Without the id of the account, Terraform asks AWS for it. Therefore no rendering has the default of `account_id`.
        uses = {file.name: file.read_text().count("var.account_id") for file in INFRA.glob("*.tf")}
        self.assertEqual({name: number for name, number in uses.items() if number}, {"main.tf": 2, "variables.tf": 2, "versions.tf": 2})

    def test_the_versions_of_functions_decide_no_right(self):
        # A rendering has other versions than a deployment. Only the definition and an output name them.
        text = "".join(file.read_text() for file in sorted(INFRA.glob("*.tf")))
        self.assertEqual([text.count(f"local.{name}") for name in ("function_versions", "version_arns", "definition", "batches")], [2, 2, 1, 1])

    def test_variables_are_in_one_file(self):
        others = [file for file in INFRA.glob("*.tf") if file.name != "variables.tf"]
        self.assertEqual([block.address() for file in others for block in grants.blocks_of(file, ".") if block.kind == "variable"], [])


if __name__ == "__main__":
    unittest.main()
