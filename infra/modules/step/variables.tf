variable "name" {
  description = "The function's name."
  type        = string
}

variable "step" {
  description = "The step that the function runs."
  type        = string
}

variable "package" {
  description = "Path of the zip file with bootstrap and config.toml."
  type        = string
}

variable "architecture" {
  description = "Instruction set: x86_64 or arm64."
  type        = string
}

variable "memory" {
  description = "Memory in MB. CPU is proportional to it."
  type        = number
}

variable "timeout" {
  description = "Timeout of a call in seconds."
  type        = number
}

variable "ephemeral_storage" {
  description = "Size of /tmp in MB."
  type        = number
}

variable "reserved_concurrency" {
  description = "Reserved concurrency of the function, which is also its maximum. null: no reservation."
  type        = number
}

variable "log_retention_days" {
  description = "Retention of the log in days."
  type        = number
}

variable "kms_key_arn" {
  description = "The KMS key that encrypts the log and the environment variables. null: those of AWS."
  type        = string
}

variable "permissions_boundary" {
  description = "ARN of the permissions boundary of the role. null: none."
  type        = string
}

variable "environment" {
  description = "Environment variables of the function."
  type        = map(string)
}

variable "policy" {
  description = "IAM policy of the function's role, as an object."
  type        = any
}

variable "trust_policy" {
  description = "Who may assume the function's role, as an object."
  type        = any
}
