variable "region" {
  description = "The AWS region of all resources."
  type        = string
  default     = "us-east-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "The region must be a region code, such as us-east-1."
  }
}

variable "account_id" {
  description = "The only account that Terraform may change, 12 digits. null: the account of the credentials."
  type        = string
  default     = null

  validation {
    condition     = var.account_id == null || can(regex("^[0-9]{12}$", var.account_id))
    error_message = "The account id must have 12 digits."
  }
}

variable "tags" {
  description = "Tags of every resource, in addition to project and environment."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "lake_bucket" {
  description = "Name of the lake's bucket. null: data-lakehouse-{environment}-{account}, since bucket names are global."
  type        = string
  default     = null

  validation {
    condition     = var.lake_bucket == null || can(regex("^[a-z0-9][a-z0-9-]{1,54}[a-z0-9]$", var.lake_bucket))
    error_message = "The name must have 3 to 56 lower-case letters, digits and hyphens: {name}-athena must be a valid bucket name of at most 63."
  }
}

variable "writers" {
  description = "ARNs of the roles and users that may write to the lake or delete from it besides the functions, with * as wildcard. null: in prod no others, in dev everyone whom IAM allows to."
  type        = list(string)
  default     = null

  validation {
    condition     = var.writers == null ? true : alltrue([for arn in var.writers : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/.", arn))])
    error_message = "A writer must be the ARN of an IAM role or user, such as arn:aws:iam::123456789012:role/admin. A session of a role counts as its role."
  }
}

variable "force_destroy" {
  description = "Whether terraform destroy also deletes the contents of the buckets and the workgroup, and the secrets without a recovery window. For temporary environments."
  type        = bool
  default     = false
  nullable    = false
}

variable "architecture" {
  description = "Instruction set of the functions: x86_64, or arm64, which costs 20 % less. The packages must be built for it."
  type        = string
  default     = "x86_64"
  nullable    = false

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "The architecture must be x86_64 or arm64."
  }
}

variable "package_dir" {
  description = "Folder of the functions' packages, {step}.zip. null: target/package/{architecture} of the repository, where make package writes them."
  type        = string
  default     = null
}

variable "steps" {
  description = <<-EOT
    Overrides of steps.tf, by step: memory (MB), timeout (s), ephemeral_storage (MB of /tmp), concurrency (concurrent calls of its map) and
    reserved_concurrency (reserved for this function from the account's limit; none by default, since a new account has a limit of ten).
  EOT
  type = map(object({
    memory               = optional(number)
    timeout              = optional(number)
    ephemeral_storage    = optional(number)
    concurrency          = optional(number)
    reserved_concurrency = optional(number)
  }))
  default  = {}
  nullable = false

  validation {
    condition     = length(setsubtract(keys(var.steps), keys(local.step_table))) == 0
    error_message = "Unknown steps: ${join(", ", setsubtract(keys(var.steps), keys(local.step_table)))}."
  }
  validation {
    condition     = alltrue([for step in values(var.steps) : step.memory == null ? true : step.memory >= 128 && step.memory <= 10240])
    error_message = "The memory of a function must be 128 to 10240 MB."
  }
  validation {
    condition     = alltrue([for step in values(var.steps) : step.timeout == null ? true : step.timeout >= 60 && step.timeout <= 900])
    error_message = "The timeout of a function must be 60 to 900 s: a step starts no unit in the last 30 s."
  }
  validation {
    condition     = alltrue([for step in values(var.steps) : step.ephemeral_storage == null ? true : step.ephemeral_storage >= 512 && step.ephemeral_storage <= 10240])
    error_message = "The ephemeral storage of a function must be 512 to 10240 MB."
  }
  validation {
    condition     = alltrue([for step in values(var.steps) : step.concurrency == null ? true : step.concurrency >= 1 && step.concurrency <= 1000])
    error_message = "The concurrency of a map must be 1 to 1000."
  }
  validation {
    condition     = try(coalesce(var.steps["link-wallets"].concurrency, 1), 1) == 1
    error_message = "The concurrency of link-wallets must be 1: all its calls update the same state of the links."
  }
}

# Not `source`, which Terraform reserves.
variable "data_source" {
  description = "What the lake is filled from: apis (The Graph and Transpose) or chain (an Ethereum node, whose URL is a secret). A lake keeps to the source that it began with."
  type        = string
  default     = "apis"

  validation {
    condition     = contains(["apis", "chain"], var.data_source)
    error_message = "The source must be apis or chain."
  }
}

variable "graph_url" {
  description = "URL of The Graph. null: its live gateway."
  type        = string
  default     = null

  validation {
    condition     = var.graph_url == null || can(regex("^(https://[^/@?#]+|http://(localhost|127([.][0-9]{1,3}){3}|\\[::1\\])(:[0-9]+)?)(/[^@?#]*)?$", var.graph_url))
    error_message = "The URL must start with https://, since the API key is sent to it (http:// only for the loopback interface), and must contain no user, query or fragment."
  }
}

variable "transpose_url" {
  description = "URL of Transpose. null: its live API."
  type        = string
  default     = null

  validation {
    condition     = var.transpose_url == null || can(regex("^(https://[^/@?#]+|http://(localhost|127([.][0-9]{1,3}){3}|\\[::1\\])(:[0-9]+)?)(/[^@?#]*)?$", var.transpose_url))
    error_message = "The URL must start with https://, since the API key is sent to it (http:// only for the loopback interface), and must contain no user, query or fragment."
  }
}

variable "log_level" {
  description = "Log filter of the functions, in the syntax of RUST_LOG: info, debug, or warn,defi_shared=debug."
  type        = string
  default     = "info"
  nullable    = false
}

variable "log_retention_days" {
  description = "Retention of the logs of the functions and of the state machine, in days."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "CloudWatch supports a retention of 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days."
  }
}

variable "run_timeout_hours" {
  description = "Timeout of a run, in hours. The default suffices for a backfill of all history. Daily runs are rejected while another run is in progress."
  type        = number
  default     = 72
  nullable    = false

  validation {
    condition     = var.run_timeout_hours >= 1 && var.run_timeout_hours <= 8760
    error_message = "The timeout of a run must be 1 to 8760 hours."
  }
}

variable "schedule" {
  description = "Schedule of the runs, as an EventBridge Scheduler expression in UTC. Soon after midnight, since subgraphs may keep as little as 100 minutes of history, and nodes 25. null: 00:30, or 00:20 from a node."
  type        = string
  default     = null

  validation {
    condition     = var.schedule == null || can(regex("^(cron|rate)\\(.+\\)$", var.schedule))
    error_message = "The schedule must be cron(…) or rate(…)."
  }
}

variable "first_day" {
  description = "The day from which the scheduled runs produce what is missing, YYYY-MM-DD. null: as a run without `from`."
  type        = string
  default     = null

  validation {
    condition     = var.first_day == null || can(regex("^[0-9]{4}-[0-9]{2}-[0-9]{2}$", var.first_day)) && can(timeadd("${var.first_day}T00:00:00Z", "0s"))
    error_message = "The first day must be a day, YYYY-MM-DD."
  }
}

variable "schedule_enabled" {
  description = "Whether runs start on the schedule, and an alarm fires if no run succeeds."
  type        = bool
  default     = true
  nullable    = false
}

variable "notification_email" {
  description = "E-mail address that is notified of every run and alarm, once the subscription is confirmed. null: none."
  type        = string
  default     = null

  validation {
    condition     = var.notification_email == null || can(regex("^[^@ ]+@[^@ ]+$", var.notification_email))
    error_message = "The value is not an e-mail address."
  }
}

variable "alarm_above" {
  description = "Thresholds per day above which an alarm fires: number of snapshots that their source no longer has, number of rows in quarantine, share of rows in quarantine, share of amounts without a price. check-features warns at the same shares."
  type = object({
    lost_units        = optional(number, 0)
    quarantined_rows  = optional(number, 1000)
    quarantined_share = optional(number, 0.01)
    unpriced_share    = optional(number, 0.05)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.alarm_above.quarantined_rows >= 0 && var.alarm_above.lost_units >= 0
    error_message = "The numbers of rows and of lost units must not be negative."
  }
  validation {
    condition     = alltrue([for share in [var.alarm_above.quarantined_share, var.alarm_above.unpriced_share] : share >= 0 && share <= 1])
    error_message = "A share must be between 0 and 1."
  }
}

variable "keep_days" {
  description = "Retention in days: old versions of objects, quarantined rows, the plans and reports of runs, and the query results of Athena."
  type = object({
    old_versions = optional(number, 30)
    quarantine   = optional(number, 400)
    runs         = optional(number, 180)
    results      = optional(number, 14)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for days in values(var.keep_days) : days >= 1])
    error_message = "The retention must be at least 1 day."
  }
  # A run reads its plan and its reports to its end.
  validation {
    condition     = var.keep_days.runs * 24 > var.run_timeout_hours
    error_message = "The reports of runs must be kept longer than run_timeout_hours."
  }
}

variable "athena_scan_limit_gb" {
  description = "Maximum number of GB that a query may scan. Larger queries are cancelled. Athena charges by the bytes scanned."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = var.athena_scan_limit_gb >= 1
    error_message = "The limit must be at least 1 GB."
  }
}

variable "feast" {
  description = "Whether to create what Feast needs to read the features through Athena: a workgroup that does not enforce where results go, and a database for temporary tables."
  type        = bool
  default     = false
  nullable    = false
}

variable "test_events" {
  description = "Whether to create shareable test events for each function in the Lambda console. Their registry must exist, or be created with test_event_registry."
  type        = bool
  default     = false
  nullable    = false
}

variable "test_event_registry" {
  description = "Whether to create the registry of the test events. It exists once per account and region, and the console creates it with the first event that somebody shares: true in at most one environment."
  type        = bool
  default     = false
  nullable    = false
}

variable "features_url" {
  description = "Whether the function get-features has a URL. Requests to it must be signed by somebody whom IAM allows to call it."
  type        = bool
  default     = false
  nullable    = false
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that encrypts the buckets, secrets, logs, messages and environment variables. Its policy must let CloudWatch use it: see README.md. null: keys of AWS."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/", var.kms_key_arn))
    error_message = "The value must be the ARN of a key, such as arn:aws:kms:us-east-1:123456789012:key/…: an alias can't be used in policies."
  }
}

variable "permissions_boundary" {
  description = "ARN of the policy that is the permissions boundary of every role. null: none."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary == null || can(regex("^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/", var.permissions_boundary))
    error_message = "The value must be the ARN of an IAM policy, such as arn:aws:iam::123456789012:policy/boundary."
  }
}

variable "lake_formation" {
  description = "Grants of Lake Formation, for accounts in which it controls new databases: the roles of the functions may register their tables, and the roles and users in `readers` (ARNs) may query all tables. null: none, IAM alone decides."
  type = object({
    readers = optional(list(string), [])
  })
  default = null
}
