# The bucket of the Terraform state of an environment, which must exist before everything else: see create-state-bucket.
# The workspace is the environment. The state of this configuration itself is local and not needed again.
terraform {
  required_version = ">= 1.11.0, < 2.0.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.80.0, < 7.0.0"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { project = "defi-features", environment = terraform.workspace }
  }
}

variable "region" {
  description = "The AWS region of the bucket."
  type        = string
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  bucket     = "defi-${terraform.workspace}-terraform-state-${data.aws_caller_identity.current.account_id}"
  bucket_arn = "arn:${data.aws_partition.current.partition}:s3:::${local.bucket}"
}

module "state" {
  source = "../modules/bucket"

  name             = local.bucket
  force_destroy    = false
  old_version_days = 90
  expire_days      = {}
  policy = {
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = ["s3:*"]
      Resource  = [local.bucket_arn, "${local.bucket_arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  }
}

output "bucket" {
  description = "The bucket's name."
  value       = module.state.name
}
