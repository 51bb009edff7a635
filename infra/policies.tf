# The policy of each step's role, derived from the step's row in steps.tf. Statements without resources are omitted.
locals {
  glue_arn = "arn:${local.partition}:glue:${local.arn_scope}"

  # Glue checks a call on a table against the catalog, the database and the table. By step, those of the tables that it
  # registers, and those of all tables that it looks up.
  catalog_resources = {
    for name, step in local.steps : name => {
      for use, tables in { registers = step.registers, looks_up = concat(step.registers, step.looks_up) } :
      use => length(tables) == 0 ? [] : distinct(concat(
        ["${local.glue_arn}:catalog"],
        [for table in tables : "${local.glue_arn}:database/db_${split("/", table)[0]}_${local.environment}"],
        [for table in tables : "${local.glue_arn}:table/db_${split("/", table)[0]}_${local.environment}/${split("/", table)[1]}"],
      ))
    }
  }

  step_policies = {
    for name, step in local.steps : name => {
      Version = "2012-10-17"
      Statement = [for statement in [
        {
          Sid      = "ReadObjects"
          Action   = ["s3:GetObject"]
          Resource = [for prefix in distinct(concat(step.reads, step.writes)) : "${local.bucket_arn}/${prefix}${endswith(prefix, "/") ? "*" : ""}"]
        },
        {
          Sid      = "WriteObjects"
          Action   = ["s3:PutObject", "s3:AbortMultipartUpload"]
          Resource = [for prefix in step.writes : "${local.bucket_arn}/${prefix}${endswith(prefix, "/") ? "*" : ""}"]
        },
        {
          Sid      = "DeleteObjects"
          Action   = ["s3:DeleteObject"]
          Resource = [for prefix in step.deletes : "${local.bucket_arn}/${prefix}*"]
        },
        {
          # S3 answers a GET of a missing object with "access denied" instead of "not found" unless the caller may list the
          # bucket without a prefix. A step that is denied an object therefore lists its key to learn whether it is missing:
          # the list includes all prefixes that are read or written.
          Sid       = "ListObjects"
          Action    = ["s3:ListBucket"]
          Resource  = [local.bucket_arn]
          Condition = { StringLike = { "s3:prefix" = [for prefix in distinct(concat(step.lists, step.reads, step.writes)) : "${prefix}*"] } }
        },
        {
          Sid      = "LookUpTables"
          Action   = ["glue:GetTable", "glue:GetPartition", "glue:GetPartitions"]
          Resource = local.catalog_resources[name].looks_up
        },
        {
          Sid      = "RegisterTables"
          Action   = concat(["glue:CreateTable", "glue:UpdateTable", "glue:BatchCreatePartition"], step.publishes ? ["glue:UpdatePartition"] : [])
          Resource = local.catalog_resources[name].registers
        },
        {
          Sid      = "Secret"
          Action   = ["secretsmanager:GetSecretValue"]
          Resource = [for source in step.secrets : local.secret_arns[source]]
        },
        {
          Sid      = "Key"
          Action   = local.key_actions
          Resource = var.kms_key_arn == null ? [] : [var.kms_key_arn]
        },
        {
          # Whether the execution that holds the lease of the lake has ended.
          Sid      = "OtherRuns"
          Action   = ["states:DescribeExecution"]
          Resource = name == "plan-run" ? ["arn:${local.partition}:states:${local.arn_scope}:execution:${local.name}:*"] : []
        },
        {
          Sid      = "Log"
          Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
          Resource = ["arn:${local.partition}:logs:${local.arn_scope}:log-group:/aws/lambda/${local.function_names[name]}:*"]
        },
        {
          # X-Ray has no resource-level permissions.
          Sid      = "Trace"
          Action   = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]
          Resource = ["*"]
        },
      ] : merge({ Effect = "Allow" }, statement) if length(statement.Resource) > 0]
    }
  }
}

# The permissions on the key of the deployment, if it has one: to read and to write what the key encrypts.
locals {
  key_actions    = ["kms:Decrypt", "kms:GenerateDataKey"]
  key_statements = [for key in compact([var.kms_key_arn]) : { Sid = "Key", Effect = "Allow", Action = local.key_actions, Resource = [key] }]
}

# Which service may assume each role. The condition rejects that service when it acts for another account.
locals {
  trust_policies = {
    for name, service in merge(
      { for step in keys(local.steps) : step => "lambda" },
      { state-machine = "states", starter = "states", scheduler = "scheduler" },
      ) : name => {
      Version = "2012-10-17"
      Statement = [{
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { Service = "${service}.amazonaws.com" }
        Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
      }]
    }
  }
}

# The policies of the buckets. If there are writers, only they and the functions can write to the lake or delete from it,
# whatever IAM allows others.
locals {
  role_arns = { for step, name in local.function_names : step => "arn:${local.partition}:iam::${local.account}:role/${name}" }
  writers   = var.writers == null && local.environment == "prod" ? [] : var.writers

  bucket_policies = {
    for name, bucket_arn in { lake = local.bucket_arn, athena = "${local.bucket_arn}-athena" } : name => {
      Version                      = "2012-10-17"
      Statement = concat(
        [{
          Sid       = "TlsOnly"
          Effect    = "Deny"
          Principal = "*"
          Action    = ["s3:*"]
          Resource  = [bucket_arn, "${bucket_arn}/*"]
          Condition = { Bool = { "aws:SecureTransport" = "false" } }
        }],
        [for writers in [local.writers] : {
          Sid       = "OnlyWriters"
          Effect    = "Deny"
          Principal = "*"
          Action    = ["s3:PutObject*", "s3:DeleteObject*", "s3:AbortMultipartUpload", "s3:RestoreObject", "s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"]
          Resource  = ["${bucket_arn}/*"]
          Condition = { ArnNotLike = { "aws:PrincipalArn" = concat([for name, arn in local.role_arns : arn if !local.steps[name].serves], writers) } }
        } if name == "lake" && writers != null],
      )
    }
  }
}

# All policies by kind and name, for infra/checks.
locals {
  policies = {
    identity = merge(local.step_policies, {
      state-machine = local.state_machine_policy
      starter       = local.starter_policy
      scheduler     = local.scheduler_policy
    })
    reader   = { reader = local.reader_policy, feast = local.feast_policy }
    trust    = local.trust_policies
    resource = merge(local.bucket_policies, { topic = local.topic_policy })
  }
}
