# The policy of each step's role, derived from the step's row in steps.tf. Statements without resources are omitted.
locals {
  glue_read     = ["glue:GetDatabase", "glue:GetTable", "glue:GetPartitions"]
  glue_register = concat(local.glue_read, ["glue:CreateTable", "glue:UpdateTable", "glue:BatchCreatePartition"])

  step_policies = {
    for name, step in local.steps : name => {
      Version = "2012-10-17"
      Statement = [for statement in [
        {
          Sid      = "ReadObjects"
          Action   = ["s3:GetObject"]
          Resource = [for prefix in distinct(concat(step.reads, step.writes)) : "${local.bucket_arn}/${prefix}${endswith(prefix, "/") ? "*" : ""}"]
        },
        {
          Sid      = "WriteObjects"
          Action   = ["s3:PutObject", "s3:AbortMultipartUpload"]
          Resource = [for prefix in step.writes : "${local.bucket_arn}/${prefix}${endswith(prefix, "/") ? "*" : ""}"]
        },
        {
          Sid      = "DeleteObjects"
          Action   = ["s3:DeleteObject"]
          Resource = [for prefix in step.deletes : "${local.bucket_arn}/${prefix}*"]
        },
        {
          # Without this permission, a GET of a missing object fails with "access denied" instead of "not found". The
          # list therefore includes all prefixes that are read or written. IfExists, because AWS does not document the
          # value of s3:prefix for a GET.
          Sid       = "ListObjects"
          Action    = ["s3:ListBucket"]
          Resource  = [local.bucket_arn]
          Condition = { StringLikeIfExists = { "s3:prefix" = [for prefix in distinct(concat(step.lists, step.reads, step.writes)) : "${prefix}*"] } }
        },
        {
          Sid    = "Catalog"
          Action = concat(step.registers ? local.glue_register : local.glue_read, step.publishes ? ["glue:UpdatePartition"] : [])
          Resource = concat(["arn:${local.partition}:glue:${local.arn_scope}:catalog"], flatten([for database in step.databases : [
            "arn:${local.partition}:glue:${local.arn_scope}:database/${database}",
            "arn:${local.partition}:glue:${local.arn_scope}:table/${database}/*",
          ]]))
        },
        {
          Sid      = "Secret"
          Action   = ["secretsmanager:GetSecretValue"]
          Resource = step.secret == null ? [] : [local.secret_arns[step.secret]]
        },
        {
          Sid      = "OtherRuns"
          Action   = ["states:ListExecutions"]
          Resource = name == "plan-run" ? [local.state_machine_arn] : []
        },
        {
          Sid      = "Log"
          Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
          Resource = ["arn:${local.partition}:logs:${local.arn_scope}:log-group:/aws/lambda/${local.function_names[name]}:*"]
        },
        {
          # X-Ray has no resource-level permissions.
          Sid      = "Trace"
          Action   = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]
          Resource = ["*"]
        },
      ] : merge({ Effect = "Allow" }, statement) if length(statement.Resource) > 0]
    }
  }
}

# All policies by name, for infra/checks.
locals {
  policies = merge(local.step_policies, {
    state-machine = local.state_machine_policy
    scheduler     = local.scheduler_policy
    topic         = local.topic_policy
  })
}
