output "arn" {
  description = "The function's ARN."
  value       = aws_lambda_function.this.arn
}

output "log_group" {
  description = "The name of the function's log group."
  value       = aws_cloudwatch_log_group.this.name
}
