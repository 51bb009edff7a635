locals {
  execution_alarms = {
    failed    = { metric = "ExecutionsFailed", says = "A run failed. Its execution names the step, the kind of error and the cause." }
    timed-out = { metric = "ExecutionsTimedOut", says = "A run took longer than ${var.run_timeout_hours} hours and was ended." }
    aborted   = { metric = "ExecutionsAborted", says = "A run was stopped by hand. What it left undone is picked up by the next one." }
    throttled = { metric = "ExecutionThrottled", says = "Step Functions slows the runs down: lower the concurrency of the maps, or have the account's limit raised." }
  }

  data_alarms = {
    quarantined-rows  = { metric = "RowsRejected", statistic = "Sum", above = var.alarm_above.quarantined_rows, says = "rows were put in quarantine today" }
    quarantined-share = { metric = "QuarantinedShare", statistic = "Maximum", above = var.alarm_above.quarantined_share, says = "is the share of rows in quarantine" }
    unpriced-share    = { metric = "UnpricedShare", statistic = "Maximum", above = var.alarm_above.unpriced_share, says = "is the share of amounts without a price" }
  }
}

resource "aws_cloudwatch_metric_alarm" "execution" {
  for_each = local.execution_alarms

  alarm_name          = "${local.name}-${each.key}"
  alarm_description   = each.value.says
  namespace           = "AWS/States"
  metric_name         = each.value.metric
  dimensions          = { StateMachineArn = local.state_machine_arn }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.runs.arn]
}

# A day and two hours for the run itself. CloudWatch looks back a week at most in periods of an hour, and a day in shorter ones.
resource "aws_cloudwatch_metric_alarm" "no_success" {
  count = var.schedule_enabled ? 1 : 0

  alarm_name          = "${local.name}-no-success"
  alarm_description   = "No run has succeeded for 26 hours: defi_features is not today's."
  namespace           = "AWS/States"
  metric_name         = "ExecutionsSucceeded"
  dimensions          = { StateMachineArn = local.state_machine_arn }
  statistic           = "Sum"
  period              = 3600
  evaluation_periods  = 26
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.runs.arn]
  ok_actions          = [aws_sns_topic.runs.arn]
}

resource "aws_cloudwatch_metric_alarm" "data" {
  for_each = local.data_alarms

  alarm_name          = "${local.name}-${each.key}"
  alarm_description   = "More than ${each.value.above} ${each.value.says}."
  namespace           = "DefiFeatures"
  metric_name         = each.value.metric
  dimensions          = { Environment = local.environment }
  statistic           = each.value.statistic
  period              = 86400
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.above
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.runs.arn]
}
