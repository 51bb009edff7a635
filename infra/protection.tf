# Keeps Terraform from destroying or replacing the lake and the databases of prod. The argument prevent_destroy takes no
# variable, so it belongs to this resource, which only prod has. Terraform destroys it before what it names, and replaces
# it with that: it therefore refuses such a plan as a whole. README.md shows how to remove prod on purpose.
resource "terraform_data" "protected" {
  count = local.environment == "prod" ? 1 : 0

  triggers_replace = {
    lake      = module.lake.arn
    databases = { for layer, database in aws_glue_catalog_database.layer : layer => database.arn }
  }

  lifecycle {
    prevent_destroy = true
  }
}
