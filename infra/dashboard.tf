locals {
  # The title and metrics of each widget. A row contains two widgets.
  widgets = [
    {
      title   = "Runs"
      metrics = [for metric in ["ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"] : ["AWS/States", metric, "StateMachineArn", local.state_machine_arn, { stat = "Sum" }]]
    },
    {
      title   = "Duration of a run (ms)"
      metrics = [["AWS/States", "ExecutionTime", "StateMachineArn", local.state_machine_arn, { stat = "Maximum" }]]
    },
    {
      title   = "Rows"
      metrics = [for metric in ["RowsIn", "RowsOut", "RowsRejected", "Unpriced"] : ["DefiFeatures", metric, "Environment", local.environment, { stat = "Sum" }]]
    },
    {
      title   = "Units produced and lost"
      metrics = [for metric in ["Units", "UnitsLost"] : ["DefiFeatures", metric, "Environment", local.environment, { stat = "Sum" }]]
    },
    {
      title   = "Wallets"
      metrics = [["DefiFeatures", "Wallets", "Environment", local.environment, { stat = "Maximum" }]]
    },
    {
      title   = "Shares in quarantine and without a price"
      metrics = [for metric in ["QuarantinedShare", "UnpricedShare"] : ["DefiFeatures", metric, "Environment", local.environment, { stat = "Maximum" }]]
    },
    {
      title   = "Requests to the sources"
      metrics = [for step in keys(local.share_of_source) : ["DefiFeatures", "Requests", "Environment", local.environment, "Step", step, { stat = "Sum", label = step }]]
    },
    {
      title   = "Retries of requests to the sources"
      metrics = [for step in keys(local.share_of_source) : ["DefiFeatures", "Retries", "Environment", local.environment, "Step", step, { stat = "Sum", label = step }]]
    },
    {
      title   = "Duration of the functions (ms)"
      metrics = [for step, name in local.function_names : ["AWS/Lambda", "Duration", "FunctionName", name, { stat = "Maximum", label = step }]]
    },
    {
      title   = "Total duration of a step's calls (s)"
      metrics = [for step, name in local.function_names : ["DefiFeatures", "Seconds", "Environment", local.environment, "Step", step, { stat = "Sum", label = step }] if !local.steps[step].serves]
    },
    {
      title   = "Errors of the functions"
      metrics = [for step, name in local.function_names : ["AWS/Lambda", "Errors", "FunctionName", name, { stat = "Sum", label = step }]]
    },
    {
      title   = "Throttled calls of the functions"
      metrics = [for step, name in local.function_names : ["AWS/Lambda", "Throttles", "FunctionName", name, { stat = "Sum", label = step }]]
    },
    {
      title   = "Bytes written"
      metrics = [["DefiFeatures", "Bytes", "Environment", local.environment, { stat = "Sum" }]]
    },
  ]

  alarms = concat(
    values(aws_cloudwatch_metric_alarm.execution),
    aws_cloudwatch_metric_alarm.no_success,
    [aws_cloudwatch_metric_alarm.failed_check],
    values(aws_cloudwatch_metric_alarm.data),
  )
}

resource "aws_cloudwatch_dashboard" "runs" {
  dashboard_name = local.name

  dashboard_body = jsonencode({
    widgets = concat(
      [{
        type       = "alarm", x = 0, y = 0, width = 24, height = 3
        properties = { title = "Alarms of ${local.name}", alarms = local.alarms[*].arn }
      }],
      [for index, widget in local.widgets : {
        type = "metric", x = 12 * (index % 2), y = 3 + 6 * floor(index / 2), width = 12, height = 6
        properties = {
          title   = widget.title
          region  = var.region
          view    = "timeSeries"
          period  = 3600
          metrics = widget.metrics
        }
      }],
    )
  })
}
