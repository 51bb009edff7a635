variable "name" {
  description = "The bucket's name."
  type        = string
}

variable "force_destroy" {
  description = "Whether the bucket is deleted with what it holds."
  type        = bool
}

variable "old_version_days" {
  description = "How long an object that was replaced or deleted is kept, as an old version."
  type        = number
  default     = 1
}

variable "expire_days" {
  description = "How long objects are kept, by prefix."
  type        = map(number)
}
