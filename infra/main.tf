data "aws_caller_identity" "current" {
  lifecycle {
    precondition {
      condition     = contains(["dev", "prod"], terraform.workspace)
      error_message = "The workspace is the environment and must be dev or prod: terraform workspace select -or-create dev"
    }
  }
}

# Names and ARNs that other resources need are built from their parts instead of read from the resources. The definition
# and the policies can therefore be rendered and checked without an account, and plan-run and the state machine can
# refer to each other.
locals {
  environment = terraform.workspace
  name        = "defi-${local.environment}"
  account     = var.account_id == null ? data.aws_caller_identity.current.account_id : var.account_id
  partition   = startswith(var.region, "cn-") ? "aws-cn" : startswith(var.region, "us-gov-") ? "aws-us-gov" : "aws"
  arn_scope   = "${var.region}:${local.account}"

  bucket            = coalesce(var.lake_bucket, "data-lakehouse-${local.environment}-${local.account}")
  bucket_arn        = "arn:${local.partition}:s3:::${local.bucket}"
  function_names    = { for step in keys(local.steps) : step => "${local.name}-${step}" }
  function_arns     = { for step, name in local.function_names : step => "arn:${local.partition}:lambda:${local.arn_scope}:function:${name}" }
  state_machine_arn = "arn:${local.partition}:states:${local.arn_scope}:stateMachine:${local.name}"
  topic_arn         = "arn:${local.partition}:sns:${local.arn_scope}:${local.name}"
  package_dir       = coalesce(var.package_dir, "${path.module}/../target/package/${var.architecture}")
}
