# What somebody needs to query the lake with Athena, or to read its tables and objects directly. An output: attach it to
# the roles and users of the readers.
locals {
  reader_policy = {
    Version = "2012-10-17"
    Statement = concat(local.key_statements, [
      {
        Sid      = "ReadObjects"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = [for prefix in local.reader_prefixes : "${local.bucket_arn}/${prefix}*"]
      },
      {
        Sid       = "ListObjects"
        Effect    = "Allow"
        Action    = ["s3:ListBucket"]
        Resource  = [local.bucket_arn]
        Condition = { StringLike = { "s3:prefix" = [for prefix in local.reader_prefixes : "${prefix}*"] } }
      },
      {
        Sid    = "ReadCatalog"
        Effect = "Allow"
        Action = ["glue:GetDatabase", "glue:GetDatabases", "glue:GetTable", "glue:GetTables", "glue:GetPartition", "glue:GetPartitions", "glue:BatchGetPartition"]
        Resource = concat(
          ["${local.glue_arn}:catalog"],
          [for layer in keys(local.tables) : "${local.glue_arn}:database/db_${layer}_${local.environment}"],
          [for layer in keys(local.tables) : "${local.glue_arn}:table/db_${layer}_${local.environment}/*"],
        )
      },
      {
        Sid    = "Query"
        Effect = "Allow"
        Action = [
          "athena:GetWorkGroup", "athena:StartQueryExecution", "athena:StopQueryExecution", "athena:GetQueryExecution", "athena:BatchGetQueryExecution",
          "athena:ListQueryExecutions", "athena:GetQueryResults", "athena:ListNamedQueries", "athena:GetNamedQuery", "athena:BatchGetNamedQuery",
        ]
        Resource = ["arn:${local.partition}:athena:${local.arn_scope}:workgroup/${local.name}"]
      },
      {
        Sid      = "Results"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
        Resource = ["${local.bucket_arn}-athena/results/*"]
      },
      {
        Sid       = "ListResults"
        Effect    = "Allow"
        Action    = ["s3:ListBucket"]
        Resource  = ["${local.bucket_arn}-athena"]
        Condition = { StringLike = { "s3:prefix" = ["results/*"] } }
      },
      {
        Sid      = "FindBuckets"
        Effect   = "Allow"
        Action   = ["s3:GetBucketLocation"]
        Resource = [local.bucket_arn, "${local.bucket_arn}-athena"]
      },
    ])
  }

  # `defi features --aws` reads only sets that passed their checks, and `defi wallet --aws` the links of a wallet.
  reader_prefixes = ["raw/", "stage/", "analytics/", "state/passed/", "state/links/"]
}
