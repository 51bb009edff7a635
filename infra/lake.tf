module "lake" {
  source = "./modules/bucket"

  name             = local.bucket
  force_destroy    = var.force_destroy
  kms_key_arn      = var.kms_key_arn
  policy           = local.bucket_policies.lake
  old_version_days = var.keep_days.old_versions
  expire_days = {
    "quarantine/" = var.keep_days.quarantine
    "runs/"       = var.keep_days.runs
  }
}
