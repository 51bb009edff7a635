output "name" {
  description = "The bucket's name."
  value       = aws_s3_bucket.this.bucket
}

output "arn" {
  description = "The bucket's ARN, which is unknown while a plan replaces the bucket."
  value       = aws_s3_bucket.this.arn
}
