resource "aws_scheduler_schedule" "daily" {
  name                         = local.name
  description                  = "Starts a run of defi-features"
  state                        = var.schedule_enabled ? "ENABLED" : "DISABLED"
  schedule_expression          = local.schedule
  schedule_expression_timezone = "UTC"

  # Start on time: the sources keep a short history.
  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_sfn_state_machine.starter.arn
    role_arn = aws_iam_role.scheduler.arn
    # Not jsonencode, which escapes the brackets: EventBridge Scheduler would not replace the name of the attribute.
    input = "{\"time\":\"<aws.scheduler.scheduled-time>\",\"input\":${jsonencode(local.scheduled_input)}}"

    retry_policy {
      maximum_event_age_in_seconds = 3600
      maximum_retry_attempts       = 10
    }
  }
}

# EventBridge Scheduler may start an execution more than once, and can't name it after its day: the only time that it
# knows has colons, which the name of an execution can't have, and its ids are new with each attempt. A state machine of
# one state makes the name.
locals {
  # A node keeps the states of 128 blocks, 25 minutes: the day's first block is final after 64.
  schedule = coalesce(var.schedule, local.from_a_node ? "cron(20 0 * * ? *)" : "cron(30 0 * * ? *)")

  scheduled_input = { for name, value in { from = var.first_day } : name => value if value != null }

  starter_name = "${local.name}-starter"
  starter_arn  = "arn:${local.partition}:states:${local.arn_scope}:stateMachine:${local.starter_name}"
  starter = templatefile("${path.module}/schedule.asl.json", {
    partition     = local.partition
    state_machine = local.state_machine_arn
  })

  starter_policy = {
    Version = "2012-10-17"
    Statement = concat(local.logging_statements, [{
      Sid      = "StartRuns"
      Effect   = "Allow"
      Action   = ["states:StartExecution"]
      Resource = [local.state_machine_arn]
    }])
  }

  scheduler_policy = {
    Version = "2012-10-17"
    Statement = [{
      Sid      = "StartStarter"
      Effect   = "Allow"
      Action   = ["states:StartExecution"]
      Resource = [local.starter_arn]
    }]
  }
}

resource "aws_sfn_state_machine" "starter" {
  name       = local.starter_name
  type       = "STANDARD"
  role_arn   = aws_iam_role.starter.arn
  definition = local.starter

  logging_configuration {
    level                  = "ALL"
    include_execution_data = true
    log_destination        = "${aws_cloudwatch_log_group.state_machine.arn}:*"
  }

  tracing_configuration {
    enabled = true
  }

  depends_on = [aws_iam_role_policy.starter]
}

resource "aws_iam_role" "starter" {
  name                 = local.starter_name
  permissions_boundary = var.permissions_boundary

  assume_role_policy = jsonencode(local.trust_policies.starter)
}

resource "aws_iam_role_policy" "starter" {
  name   = "start-runs"
  role   = aws_iam_role.starter.id
  policy = jsonencode(local.starter_policy)
}

resource "aws_iam_role" "scheduler" {
  name                 = "${local.name}-scheduler"
  permissions_boundary = var.permissions_boundary

  assume_role_policy = jsonencode(local.trust_policies.scheduler)
}

resource "aws_iam_role_policy" "scheduler" {
  name   = "start-starter"
  role   = aws_iam_role.scheduler.id
  policy = jsonencode(local.scheduler_policy)
}
