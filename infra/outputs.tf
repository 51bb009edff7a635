output "environment" {
  description = "The environment: dev or prod."
  value       = local.environment
}

output "lake_bucket" {
  description = "Name of the lake's bucket."
  value       = module.lake.name
}

output "databases" {
  description = "Names of the Glue databases, by layer."
  value       = { for layer, database in aws_glue_catalog_database.layer : layer => database.name }
}

output "functions" {
  description = "Names of the functions, by step."
  value       = local.function_names
}

output "versions" {
  description = "The versions of the functions that the state machine calls, by step."
  value       = local.function_versions
}

output "features_url" {
  description = "URL of the function get-features. null: it has none."
  value       = one(aws_lambda_function_url.get_features[*].function_url)
}

output "state_machine_arn" {
  description = "ARN of the state machine."
  value       = aws_sfn_state_machine.run.arn
}

output "starter_arn" {
  description = "ARN of the state machine that starts the run of a scheduled time."
  value       = aws_sfn_state_machine.starter.arn
}

output "reader_policy" {
  description = "IAM policy for who queries the lake, as JSON."
  value       = jsonencode(local.reader_policy)
}

output "feast_policy" {
  description = "IAM policy for who uses Feast, as JSON, in addition to reader_policy. null without feast = true."
  value       = var.feast ? jsonencode(local.feast_policy) : null
}

output "topic_arn" {
  description = "ARN of the topic to which runs and alarms send messages."
  value       = aws_sns_topic.runs.arn
}

output "secrets" {
  description = "Names of the secrets that hold the API keys, by source."
  value       = { for source, secret in aws_secretsmanager_secret.api_key : source => secret.name }
}

output "workgroup" {
  description = "Name of the Athena workgroup."
  value       = aws_athena_workgroup.analysts.name
}

output "dashboard" {
  description = "URL of the dashboard."
  value       = "https://${var.region}.console.aws.amazon.com/cloudwatch/home?region=${var.region}#dashboards/dashboard/${aws_cloudwatch_dashboard.runs.dashboard_name}"
}
