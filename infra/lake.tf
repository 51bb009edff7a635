module "lake" {
  source = "./modules/bucket"

  name             = local.bucket
  force_destroy    = var.force_destroy
  policy           = local.bucket_policies.lake
  old_version_days = var.keep_days.old_versions
  expire_days = {
    "quarantine/" = var.keep_days.quarantine
    "runs/"       = var.keep_days.runs
  }
}
