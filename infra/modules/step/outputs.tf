output "arn" {
  description = "The function's ARN."
  value       = aws_lambda_function.this.arn
}

output "version" {
  description = "The newest version of the function."
  value       = aws_lambda_function.this.version
}

output "alias" {
  description = "The name of the alias of the newest version."
  value       = aws_lambda_alias.live.name
}

output "role_arn" {
  description = "The ARN of the function's role."
  value       = aws_iam_role.this.arn
}

output "log_group" {
  description = "The name of the function's log group."
  value       = aws_cloudwatch_log_group.this.name
}
