# The functions create the tables and their partitions. Their columns are defined in shared/src/tables.
resource "aws_glue_catalog_database" "layer" {
  for_each = {
    raw       = "Rows as received from the sources."
    stage     = "Typed and validated rows."
    analytics = "Amounts in ETH, health, and the features of every wallet."
  }

  name         = "db_${each.key}_${local.environment}"
  description  = each.value
  location_uri = "s3://${local.bucket}/" # by which the defi command finds the bucket
}
