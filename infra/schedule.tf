resource "aws_scheduler_schedule" "daily" {
  name                         = local.name
  description                  = "Starts a run of defi-features"
  state                        = var.schedule_enabled ? "ENABLED" : "DISABLED"
  schedule_expression          = var.schedule
  schedule_expression_timezone = "UTC"

  # Start on time: the sources keep a short history.
  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_sfn_state_machine.run.arn
    role_arn = aws_iam_role.scheduler.arn
    input    = jsonencode({})

    retry_policy {
      maximum_event_age_in_seconds = 3600
      maximum_retry_attempts       = 10
    }
  }
}

locals {
  scheduler_policy = {
    Version = "2012-10-17"
    Statement = [{
      Sid      = "StartRuns"
      Effect   = "Allow"
      Action   = ["states:StartExecution"]
      Resource = [local.state_machine_arn]
    }]
  }
}

resource "aws_iam_role" "scheduler" {
  name = "${local.name}-scheduler"

  assume_role_policy = jsonencode(local.trust_policies.scheduler)
}

resource "aws_iam_role_policy" "scheduler" {
  name   = "start-runs"
  role   = aws_iam_role.scheduler.id
  policy = jsonencode(local.scheduler_policy)
}
