variable "name" {
  description = "The bucket's name."
  type        = string
}

variable "force_destroy" {
  description = "Whether to delete the bucket even if it is not empty."
  type        = bool
}

variable "old_version_days" {
  description = "Retention of old versions of replaced or deleted objects, in days."
  type        = number
  default     = 1
}

variable "expire_days" {
  description = "Retention of objects in days, by prefix."
  type        = map(number)
}

variable "kms_key_arn" {
  description = "The KMS key that encrypts the objects. null: the key of S3."
  type        = string
  default     = null
}

variable "policy" {
  description = "The bucket's policy, as an object."
  type        = any
}
