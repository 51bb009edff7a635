# The state is in S3, and only one person or job changes it at a time. infra/env/{environment}.s3.tfbackend has the
# bucket and its region, and infra/init-environment initializes with it.
terraform {
  backend "s3" {
    key          = "defi-features/terraform.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}
