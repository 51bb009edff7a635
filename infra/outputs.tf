output "environment" {
  description = "dev or prod."
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

output "state_machine_arn" {
  description = "ARN of the state machine; defi start takes it."
  value       = aws_sfn_state_machine.run.arn
}

output "topic_arn" {
  description = "ARN of the topic that tells of runs and alarms."
  value       = aws_sns_topic.runs.arn
}

output "secrets" {
  description = "Names of the secrets to put the API keys in, by source."
  value       = { for source, secret in aws_secretsmanager_secret.api_key : source => secret.name }
}

output "workgroup" {
  description = "Name of the Athena workgroup."
  value       = aws_athena_workgroup.analysts.name
}

output "dashboard" {
  description = "Where the dashboard is."
  value       = "https://${var.region}.console.aws.amazon.com/cloudwatch/home?region=${var.region}#dashboards/dashboard/${aws_cloudwatch_dashboard.runs.dashboard_name}"
}
