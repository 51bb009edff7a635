# What Feast needs to read the history of the features through Athena, with `feast = true`: it writes the result of each query
# into a temporary table at a place of its own, which the workgroup of the analysts does not let it choose.
resource "aws_athena_workgroup" "feast" {
  # checkov:skip=CKV_AWS_82:Feast chooses where results go. The bucket encrypts whatever is written to it.
  count = var.feast ? 1 : 0

  name          = "${local.name}-feast"
  description   = "Queries of Feast on the lake of ${local.environment}"
  force_destroy = var.force_destroy

  configuration {
    enforce_workgroup_configuration    = false
    publish_cloudwatch_metrics_enabled = true
    bytes_scanned_cutoff_per_query     = var.athena_scan_limit_gb * 1024 * 1024 * 1024

    # Of queries that name no place.
    result_configuration {
      output_location = "s3://${module.athena_results.name}/results/"

      encryption_configuration {
        encryption_option = var.kms_key_arn == null ? "SSE_S3" : "SSE_KMS"
        kms_key_arn       = var.kms_key_arn
      }
    }
  }
}

resource "aws_glue_catalog_database" "feast" {
  count = var.feast ? 1 : 0

  name        = "db_feast_${local.environment}"
  description = "Temporary tables of Feast."
}

locals {
  # The folders that Feast uses in the bucket of Athena's results: the wallets of a question, and its answer. Feast deletes
  # their objects, and what an interrupted call leaves expires like results.
  feast_prefixes = ["entity_df/", "unload/"]

  # What a reader needs besides `reader_policy` to use Feast. An output, like that.
  feast_policy = {
    Version = "2012-10-17"
    Statement = concat(local.key_statements, [
      {
        # Athena also looks up the database `default` when a table is created or dropped.
        Sid      = "LookUpDefault"
        Effect   = "Allow"
        Action   = ["glue:GetDatabase"]
        Resource = ["${local.glue_arn}:catalog", "${local.glue_arn}:database/default"]
      },
      {
        Sid    = "TemporaryTables"
        Effect = "Allow"
        Action = ["glue:GetDatabase", "glue:CreateTable", "glue:GetTable", "glue:GetTables", "glue:GetPartition", "glue:GetPartitions", "glue:DeleteTable"]
        Resource = [
          "${local.glue_arn}:catalog",
          "${local.glue_arn}:database/db_feast_${local.environment}",
          "${local.glue_arn}:table/db_feast_${local.environment}/*",
        ]
      },
      {
        Sid      = "Query"
        Effect   = "Allow"
        Action   = ["athena:GetWorkGroup", "athena:StartQueryExecution", "athena:StopQueryExecution", "athena:GetQueryExecution", "athena:GetQueryResults"]
        Resource = ["arn:${local.partition}:athena:${local.arn_scope}:workgroup/${local.name}-feast"]
      },
      {
        Sid      = "TemporaryObjects"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
        Resource = [for prefix in local.feast_prefixes : "${local.bucket_arn}-athena/${prefix}*"]
      },
      {
        Sid       = "ListTemporaryObjects"
        Effect    = "Allow"
        Action    = ["s3:ListBucket"]
        Resource  = ["${local.bucket_arn}-athena"]
        Condition = { StringLike = { "s3:prefix" = [for prefix in local.feast_prefixes : "${prefix}*"] } }
      },
    ])
  }
}
