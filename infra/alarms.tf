locals {
  execution_alarms = {
    failed    = { metric = "ExecutionsFailed", description = "A run failed. The execution contains the step, the kind of error and the cause." }
    timed-out = { metric = "ExecutionsTimedOut", description = "A run exceeded ${var.run_timeout_hours} hours and was stopped." }
    aborted   = { metric = "ExecutionsAborted", description = "A run was aborted. The next run produces the units that are missing." }
    # The schedule starts another state machine, which starts the run.
    not-started = { metric = "ExecutionsFailed", machine = local.starter_arn, description = "The schedule could not start a run." }
    throttled   = { metric = "ExecutionThrottled", description = "Step Functions throttles the runs. Lower the concurrency of the maps, or request a higher limit for the account." }
  }

  data_alarms = {
    lost-units        = { metric = "UnitsLost", statistic = "Sum", above = var.alarm_above.lost_units, description = "The number of snapshots lost in a day, because their source no longer has them," }
    quarantined-rows  = { metric = "RowsRejected", statistic = "Sum", above = var.alarm_above.quarantined_rows, description = "The number of rows quarantined in a day" }
    quarantined-share = { metric = "QuarantinedShare", statistic = "Maximum", above = var.alarm_above.quarantined_share, description = "The share of rows in quarantine" }
    unpriced-share    = { metric = "UnpricedShare", statistic = "Maximum", above = var.alarm_above.unpriced_share, description = "The share of amounts without a price" }
  }
}

resource "aws_cloudwatch_metric_alarm" "execution" {
  for_each = local.execution_alarms

  alarm_name          = "${local.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = "AWS/States"
  metric_name         = each.value.metric
  dimensions          = { StateMachineArn = try(each.value.machine, local.state_machine_arn) }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.runs.arn]
}

# 26 hours: a day, and two hours for the run itself. CloudWatch evaluates at most a week with periods of an hour, and at
# most a day with shorter periods.
resource "aws_cloudwatch_metric_alarm" "no_success" {
  count = var.schedule_enabled ? 1 : 0

  alarm_name          = "${local.name}-no-success"
  alarm_description   = "No run succeeded within 26 hours. defi_features is outdated."
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

# A call that fails writes no metrics of its own, but logs its error. A metric from a log has only dimensions from the
# log line, so the environment is in the namespace.
resource "aws_cloudwatch_log_metric_filter" "failed_checks" {
  name           = "failed-checks"
  log_group_name = module.step["check-features"].log_group
  pattern        = "{ $.fields.kind = \"QualityFailed\" }"

  metric_transformation {
    namespace = "DefiFeatures/${local.environment}"
    name      = "FailedChecks"
    value     = "1"
  }
}

resource "aws_cloudwatch_metric_alarm" "failed_check" {
  alarm_name          = "${local.name}-failed-check"
  alarm_description   = "A set of features failed its checks and was not published."
  namespace           = aws_cloudwatch_log_metric_filter.failed_checks.metric_transformation[0].namespace
  metric_name         = aws_cloudwatch_log_metric_filter.failed_checks.metric_transformation[0].name
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.runs.arn]
}

resource "aws_cloudwatch_metric_alarm" "data" {
  for_each = local.data_alarms

  alarm_name          = "${local.name}-${each.key}"
  alarm_description   = "${each.value.description} is above ${each.value.above}."
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
