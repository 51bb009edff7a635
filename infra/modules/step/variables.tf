variable "name" {
  description = "The function's name."
  type        = string
}

variable "step" {
  description = "The step that it runs."
  type        = string
}

variable "package" {
  description = "Path of the zip with bootstrap and config.toml."
  type        = string
}

variable "architecture" {
  description = "x86_64 or arm64."
  type        = string
}

variable "memory" {
  description = "Memory in MB; CPU follows it."
  type        = number
}

variable "timeout" {
  description = "Deadline of a call in seconds."
  type        = number
}

variable "ephemeral_storage" {
  description = "Size of /tmp in MB."
  type        = number
}

variable "reserved_concurrency" {
  description = "Calls at once that are set aside for this function and bound it. null: whatever the account has."
  type        = number
}

variable "log_retention_days" {
  description = "How long its log is kept."
  type        = number
}

variable "environment" {
  description = "Its environment variables."
  type        = map(string)
}

variable "policy" {
  description = "What its role allows: an IAM policy as an object."
  type        = any
}
