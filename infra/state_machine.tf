# The definition names the versions of the functions, and not an alias: an execution keeps the definition with which it
# started, and thus the code and configuration of that time. A deployment during a run changes nothing for that run.
locals {
  function_versions = { for name in keys(local.steps) : name => module.step[name].version }
  version_arns      = { for name, arn in local.function_arns : name => "${arn}:${local.function_versions[name]}" }

  mapped_steps = { for name, step in local.steps : name => step if step.concurrency != null }

  # Longer than the timeout of the function, so that a task times out only if the function does not respond at all.
  task_timeouts = { for name, step in local.steps : name => step.timeout + 60 }

  retry = indent(6, trimspace(file("${path.module}/retry.asl.json")))

  definition = templatefile("${path.module}/state-machine.asl.json", {
    environment = local.environment
    partition   = local.partition
    topic       = local.topic_arn
    function    = local.version_arns
    timeout     = local.task_timeouts
    run_timeout = var.run_timeout_hours * 3600
    retry       = local.retry
    batches     = local.batches
  })

  # The branch of each step that has a map.
  batches = {
    for name, step in local.mapped_steps : name => indent(8, trimspace(templatefile("${path.module}/batches.asl.json", {
      step        = name
      function    = local.version_arns[name]
      timeout     = local.task_timeouts[name]
      concurrency = step.concurrency
      bucket      = local.bucket
      partition   = local.partition
      retry       = local.retry
    })))
  }

  state_machine_policy = {
    Version = "2012-10-17"
    Statement = concat(local.key_statements, local.logging_statements, [
      {
        # Any version: the runs in progress call older ones.
        Sid      = "CallSteps"
        Effect   = "Allow"
        Action   = ["lambda:InvokeFunction"]
        Resource = [for name, arn in local.function_arns : "${arn}:*" if !local.steps[name].serves]
      },
      {
        Sid      = "ReadBatches"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = ["${local.bucket_arn}/runs/*/batches/*"]
      },
      {
        # A distributed map runs its items as executions of the same state machine.
        Sid      = "StartItems"
        Effect   = "Allow"
        Action   = ["states:StartExecution"]
        Resource = [local.state_machine_arn]
      },
      {
        Sid    = "FollowItems"
        Effect = "Allow"
        Action = ["states:DescribeExecution", "states:StopExecution"]
        Resource = [
          "arn:${local.partition}:states:${local.arn_scope}:execution:${local.name}:*",
          "arn:${local.partition}:states:${local.arn_scope}:execution:${local.name}/*",
        ]
      },
      {
        Sid      = "Notify"
        Effect   = "Allow"
        Action   = ["sns:Publish"]
        Resource = [local.topic_arn]
      },
    ])
  }

  # What a state machine needs to log and trace its executions.
  logging_statements = [
    {
      # Log delivery has no resource-level permissions.
      Sid    = "Log"
      Effect = "Allow"
      Action = [
        "logs:CreateLogDelivery", "logs:GetLogDelivery", "logs:UpdateLogDelivery", "logs:DeleteLogDelivery", "logs:ListLogDeliveries",
        "logs:PutResourcePolicy", "logs:DescribeResourcePolicies", "logs:DescribeLogGroups",
      ]
      Resource = ["*"]
    },
    {
      # X-Ray has no resource-level permissions.
      Sid      = "Trace"
      Effect   = "Allow"
      Action   = ["xray:PutTraceSegments", "xray:PutTelemetryRecords", "xray:GetSamplingRules", "xray:GetSamplingTargets"]
      Resource = ["*"]
    },
  ]
}

resource "aws_sfn_state_machine" "run" {
  name       = local.name
  type       = "STANDARD"
  role_arn   = aws_iam_role.state_machine.arn
  definition = local.definition

  logging_configuration {
    level                  = "ALL"
    include_execution_data = true # run ids, days and counts, no secrets
    log_destination        = "${aws_cloudwatch_log_group.state_machine.arn}:*"
  }

  tracing_configuration {
    enabled = true
  }

  # The definition refers to them by ARNs that are built from their parts.
  depends_on = [module.step, aws_sns_topic.runs, aws_iam_role_policy.state_machine]
}

# Log groups under /aws/vendedlogs/ don't count towards the size limit of the CloudWatch Logs resource policy.
resource "aws_cloudwatch_log_group" "state_machine" {
  name              = "/aws/vendedlogs/states/${local.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}

resource "aws_iam_role" "state_machine" {
  name                 = "${local.name}-state-machine"
  permissions_boundary = var.permissions_boundary

  assume_role_policy = jsonencode(local.trust_policies.state-machine)
}

resource "aws_iam_role_policy" "state_machine" {
  name   = "run"
  role   = aws_iam_role.state_machine.id
  policy = jsonencode(local.state_machine_policy)
}
