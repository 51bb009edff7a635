# Created empty: a key in Terraform would lie in its state. README.md says how to put it in.
resource "aws_secretsmanager_secret" "api_key" {
  for_each = toset(["graph", "transpose"])

  name                    = "${local.name}/${each.key}-api-key"
  description             = "API key of ${each.key}, or several with commas between."
  recovery_window_in_days = var.force_destroy ? 0 : 7
}

locals {
  # Secrets Manager ends a secret's ARN with a hyphen and six characters of its own.
  secret_arns = {
    for source in ["graph", "transpose"] :
    source => "arn:${local.partition}:secretsmanager:${local.place}:secret:${local.name}/${source}-api-key-??????"
  }
}
