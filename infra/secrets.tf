# The secrets are created empty: a key in Terraform would be stored in its state. README.md shows how to set the keys.
resource "aws_secretsmanager_secret" "api_key" {
  for_each = local.secret_descriptions

  name                    = "${local.name}/${each.key}-api-key"
  description             = each.value
  recovery_window_in_days = var.force_destroy ? 0 : 7
  kms_key_id              = var.kms_key_arn
}

locals {
  secret_descriptions = local.from_a_node ? { ethereum = "URL of the Ethereum node." } : {
    for source in ["graph", "transpose"] : source => "API key of ${source}, or several keys separated by commas."
  }

  # Secrets Manager appends a hyphen and six random characters to a secret's ARN.
  secret_arns = {
    for source in keys(local.secret_descriptions) :
    source => "arn:${local.partition}:secretsmanager:${local.arn_scope}:secret:${local.name}/${source}-api-key-??????"
  }
}
