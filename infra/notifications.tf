resource "aws_sns_topic" "runs" {
  name              = local.name
  display_name      = local.name
  kms_master_key_id = var.kms_key_arn
}

resource "aws_sns_topic_policy" "runs" {
  arn = aws_sns_topic.runs.arn

  policy = jsonencode(local.topic_policy)
}

locals {
  topic_policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Alarms"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = ["sns:Publish"]
        Resource  = [local.topic_arn]
        Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
      },
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = ["sns:Publish"]
        Resource  = [local.topic_arn]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  }
}

resource "aws_sns_topic_subscription" "email" {
  count = var.notification_email == null ? 0 : 1

  topic_arn = aws_sns_topic.runs.arn
  protocol  = "email"
  endpoint  = var.notification_email
}
