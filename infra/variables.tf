variable "region" {
  description = "The AWS region that everything lies in."
  type        = string
  default     = "us-east-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "The region must be a region's code, such as us-east-1."
  }
}

variable "account_id" {
  description = "The only account that may be changed, 12 digits. null: whichever the credentials belong to."
  type        = string
  default     = null

  validation {
    condition     = var.account_id == null || can(regex("^[0-9]{12}$", var.account_id))
    error_message = "The account id must have 12 digits."
  }
}

variable "tags" {
  description = "Tags of every resource, besides project and environment."
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
    error_message = "The name has 3 to 56 lower-case letters, digits and hyphens: a bucket's may have 63, and {name}-athena is one as well."
  }
}

variable "force_destroy" {
  description = "Whether terraform destroy also deletes what the buckets and the workgroup hold, and the secrets at once. For environments to throw away."
  type        = bool
  default     = false
  nullable    = false
}

variable "architecture" {
  description = "Instruction set of the functions: x86_64, or arm64, which costs a fifth less. The packages must be built for it."
  type        = string
  default     = "x86_64"
  nullable    = false

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "The architecture is x86_64 or arm64."
  }
}

variable "package_dir" {
  description = "Folder with the functions' packages, {step}.zip. null: target/package/{architecture} of the repository, where make package puts them."
  type        = string
  default     = null
}

variable "steps" {
  description = <<-EOT
    What is other than in steps.tf, by step: memory (MB), timeout (s), ephemeral_storage (MB of /tmp), concurrency (calls of its map at
    once) and reserved_concurrency (taken from the account's, for this function alone; none by default, since a new account has ten in all).
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
    error_message = "There is no such step: ${join(", ", setsubtract(keys(var.steps), keys(local.step_table)))}."
  }
  validation {
    condition     = alltrue([for step in values(var.steps) : step.memory == null ? true : step.memory >= 128 && step.memory <= 10240])
    error_message = "A function's memory is 128 to 10240 MB."
  }
  validation {
    condition     = alltrue([for step in values(var.steps) : step.timeout == null ? true : step.timeout >= 60 && step.timeout <= 900])
    error_message = "A function's timeout is 60 to 900 s: a step begins no unit within 30 s of it."
  }
  validation {
    condition     = alltrue([for step in values(var.steps) : step.ephemeral_storage == null ? true : step.ephemeral_storage >= 512 && step.ephemeral_storage <= 10240])
    error_message = "A function's ephemeral storage is 512 to 10240 MB."
  }
  validation {
    condition     = alltrue([for step in values(var.steps) : step.concurrency == null ? true : step.concurrency >= 1 && step.concurrency <= 1000])
    error_message = "A map's concurrency is 1 to 1000."
  }
  validation {
    condition     = try(coalesce(var.steps["link-wallets"].concurrency, 1), 1) == 1
    error_message = "link-wallets keeps one state of all links: its calls can't run side by side."
  }
}

variable "graph_url" {
  description = "Where The Graph is asked. null: its live gateway."
  type        = string
  default     = null

  validation {
    condition     = var.graph_url == null || can(regex("^https?://", var.graph_url))
    error_message = "The URL must begin with http:// or https://."
  }
}

variable "transpose_url" {
  description = "Where Transpose is asked. null: its live API."
  type        = string
  default     = null

  validation {
    condition     = var.transpose_url == null || can(regex("^https?://", var.transpose_url))
    error_message = "The URL must begin with http:// or https://."
  }
}

variable "log_level" {
  description = "What the functions log, as RUST_LOG takes it: info, debug, warn,defi_shared=debug, and the like."
  type        = string
  default     = "info"
  nullable    = false
}

variable "log_retention_days" {
  description = "How long the logs of the functions and of the state machine are kept, in days."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days."
  }
}

variable "run_timeout_hours" {
  description = "A run that takes longer is ended. Long enough for a backfill of all history; the next daily run is refused meanwhile."
  type        = number
  default     = 72
  nullable    = false

  validation {
    condition     = var.run_timeout_hours >= 1 && var.run_timeout_hours <= 8760
    error_message = "A run may take 1 to 8760 hours."
  }
}

variable "schedule" {
  description = "When a run starts, as EventBridge Scheduler takes it, in UTC. Soon after midnight: the subgraphs may keep no more than 100 minutes of history."
  type        = string
  default     = "cron(30 0 * * ? *)"
  nullable    = false

  validation {
    condition     = can(regex("^(cron|rate)\\(.+\\)$", var.schedule))
    error_message = "The schedule must be cron(…) or rate(…)."
  }
}

variable "schedule_enabled" {
  description = "Whether runs start by themselves, and the absence of a success raises the alarm."
  type        = bool
  default     = true
  nullable    = false
}

variable "notification_email" {
  description = "Gets a mail for every run and alarm, once the subscription is confirmed. null: nobody."
  type        = string
  default     = null

  validation {
    condition     = var.notification_email == null || can(regex("^[^@ ]+@[^@ ]+$", var.notification_email))
    error_message = "That is no e-mail address."
  }
}

variable "alarm_above" {
  description = "Figures of a day that raise an alarm when exceeded: rows put in quarantine, their share, the share of amounts without a price. The shares are those that check-features warns at."
  type = object({
    quarantined_rows  = optional(number, 1000)
    quarantined_share = optional(number, 0.01)
    unpriced_share    = optional(number, 0.05)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.alarm_above.quarantined_rows >= 0
    error_message = "A number of rows is not negative."
  }
  validation {
    condition     = alltrue([for share in [var.alarm_above.quarantined_share, var.alarm_above.unpriced_share] : share >= 0 && share <= 1])
    error_message = "A share lies between 0 and 1."
  }
}

variable "keep_days" {
  description = "How long the lake keeps what no step needs any more, in days: old versions of objects, quarantined rows, the runs' plans and reports; and Athena its results."
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
    error_message = "Everything is kept for a day at least."
  }
}

variable "athena_scan_limit_gb" {
  description = "A query that would scan more is cancelled, in GB. Athena charges by the bytes scanned."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = var.athena_scan_limit_gb >= 1
    error_message = "The limit is 1 GB at least."
  }
}

variable "test_events" {
  description = "Whether each function gets shareable test events in the Lambda console."
  type        = bool
  default     = true
  nullable    = false
}

variable "test_event_registry" {
  description = "Whether to create the registry that they lie in. There is one per account and region: false where another environment, or the console, has made it."
  type        = bool
  default     = true
  nullable    = false
}
