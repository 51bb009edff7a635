# The Lambda function of a step, with its log group and role. Every deployment that changes the function publishes a
# version of its code and configuration. Terraform keeps the older ones: see README.md.

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
  kms_key_arn      = var.kms_key_arn
  publish          = true

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

# The newest version, for people. The state machine calls the version itself, so that a run keeps its own.
resource "aws_lambda_alias" "live" {
  name             = "live"
  description      = "The newest version of ${var.step}"
  function_name    = aws_lambda_function.this.function_name
  function_version = aws_lambda_function.this.version
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}

resource "aws_iam_role" "this" {
  name                 = var.name
  permissions_boundary = var.permissions_boundary

  assume_role_policy = jsonencode(var.trust_policy)
}

resource "aws_iam_role_policy" "this" {
  name   = var.step
  role   = aws_iam_role.this.id
  policy = jsonencode(var.policy)
}
