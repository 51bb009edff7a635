module "step" {
  source   = "./modules/step"
  for_each = local.steps

  name                 = local.function_names[each.key]
  step                 = each.key
  package              = "${local.package_dir}/${each.key}.zip"
  architecture         = var.architecture
  memory               = each.value.memory
  timeout              = each.value.timeout
  ephemeral_storage    = each.value.ephemeral_storage
  reserved_concurrency = each.value.reserved
  log_retention_days   = var.log_retention_days
  kms_key_arn          = var.kms_key_arn
  permissions_boundary = var.permissions_boundary
  environment          = local.environments[each.key]
  policy               = local.step_policies[each.key]
  trust_policy         = local.trust_policies[each.key]
}

# Without it, get-features is called by Lambda's API only. A request must be signed by somebody whom IAM allows
# lambda:InvokeFunctionUrl.
resource "aws_lambda_function_url" "get_features" {
  count = var.features_url ? 1 : 0

  function_name      = local.function_names["get-features"]
  qualifier          = module.step["get-features"].alias
  authorization_type = "AWS_IAM"
}

locals {
  urls = { graph = var.graph_url, transpose = var.transpose_url }

  # The number of calls that share the source's rate limit: those of the step's map and of concurrent maps.
  share_of_source = {
    for name, step in local.steps : name => sum([for sharer in concat([name], step.shares_with) : local.steps[sharer].concurrency])
    if length(step.secrets) > 0
  }

  environments = {
    for name, step in local.steps : name => merge(
      {
        LAKE        = "s3://${local.bucket}"
        DEFI_ENV    = local.environment
        DEFI_CONFIG = "config.toml" # in the package
        DEFI_SOURCE = var.data_source
        RUST_LOG    = var.log_level
        # By default glibc creates an arena per thread, which makes a function use two to three times as much memory.
        MALLOC_ARENA_MAX = "2"
        # By default it returns memory to the kernel after each file, and asks for it again for the next one.
        MALLOC_MMAP_THRESHOLD_ = "33554432"
        MALLOC_TRIM_THRESHOLD_ = "67108864"
      },
      name == "plan-run" ? { STATE_MACHINE_ARN = local.state_machine_arn } : {},
      length(step.secrets) == 0 ? {} : { SHARE_OF_SOURCE = tostring(local.share_of_source[name]) },
      { for source in step.secrets : "${upper(source)}_SECRET" => aws_secretsmanager_secret.api_key[source].arn },
      { for source in step.secrets : "${upper(source)}_URL" => local.urls[source] if try(local.urls[source], null) != null },
    )
  }
}
