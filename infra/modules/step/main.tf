# The Lambda function of a step, with its log group and role.

resource "aws_lambda_function" "this" {
  function_name    = var.name
  description      = "Step ${var.step} of defi-features"
  role             = aws_iam_role.this.arn
  filename         = var.package
  source_code_hash = fileexists(var.package) ? filebase64sha256(var.package) : null
  package_type     = "Zip"
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]
  memory_size      = var.memory
  timeout          = var.timeout

  # The provider uses -1 for no reserved concurrency.
  reserved_concurrent_executions = var.reserved_concurrency == null ? -1 : var.reserved_concurrency

  ephemeral_storage {
    size = var.ephemeral_storage
  }

  environment {
    variables = var.environment
  }

  tracing_config {
    mode = "Active"
  }

  lifecycle {
    precondition {
      condition     = fileexists(var.package)
      error_message = "The package ${var.package} is missing. Build it with make package."
    }
  }

  # Otherwise the first call could create the log group without a retention, or run without its permissions.
  depends_on = [aws_cloudwatch_log_group.this, aws_iam_role_policy.this]
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
}

resource "aws_iam_role" "this" {
  name = var.name

  assume_role_policy = jsonencode(var.trust_policy)
}

resource "aws_iam_role_policy" "this" {
  name   = var.step
  role   = aws_iam_role.this.id
  policy = jsonencode(var.policy)
}
