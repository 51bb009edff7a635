# The tables and their partitions are made by the functions: shared/src/tables alone knows their columns.
resource "aws_glue_catalog_database" "layer" {
  for_each = {
    raw       = "What the sources said."
    stage     = "The same, typed and valid."
    analytics = "Amounts in ETH, health, and the features of every wallet."
  }

  name        = "db_${each.key}_${local.environment}"
  description = each.value
}
