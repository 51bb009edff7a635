# Grants for accounts in which Lake Formation controls new databases. IAM must allow a call, too, and decides which tables
# a step may change: the tables do not exist before the first run, so Lake Formation can only grant all of a database.
locals {
  # By step and layer: whether the step registers tables there, or only looks them up.
  registers_in = merge([
    for name, step in local.steps : {
      for layer in distinct([for table in concat(step.registers, step.looks_up) : split("/", table)[0]]) :
      "${name}/${layer}" => { step = name, layer = layer, registers = anytrue([for table in step.registers : startswith(table, "${layer}/")]) }
      if var.lake_formation != null
    }
  ]...)

  # By reader and layer.
  reads_in = { for pair in setproduct(try(var.lake_formation.readers, []), keys(aws_glue_catalog_database.layer)) : "${pair[0]}/${pair[1]}" => pair }
}

resource "aws_lakeformation_permissions" "step_database" {
  for_each = local.registers_in

  principal   = module.step[each.value.step].role_arn
  permissions = each.value.registers ? ["CREATE_TABLE", "DESCRIBE"] : ["DESCRIBE"]

  database {
    name = aws_glue_catalog_database.layer[each.value.layer].name
  }
}

resource "aws_lakeformation_permissions" "step_tables" {
  for_each = local.registers_in

  principal   = module.step[each.value.step].role_arn
  permissions = each.value.registers ? ["ALTER", "DELETE", "DESCRIBE", "INSERT"] : ["DESCRIBE"]

  table {
    database_name = aws_glue_catalog_database.layer[each.value.layer].name
    wildcard      = true
  }
}

resource "aws_lakeformation_permissions" "reader_database" {
  for_each = local.reads_in

  principal   = each.value[0]
  permissions = ["DESCRIBE"]

  database {
    name = aws_glue_catalog_database.layer[each.value[1]].name
  }
}

# Who creates a table may use it.
resource "aws_lakeformation_permissions" "feast_database" {
  for_each = toset(var.feast ? try(var.lake_formation.readers, []) : [])

  principal   = each.value
  permissions = ["CREATE_TABLE", "DESCRIBE"]

  database {
    name = aws_glue_catalog_database.feast[0].name
  }
}

resource "aws_lakeformation_permissions" "reader_tables" {
  for_each = local.reads_in

  principal   = each.value[0]
  permissions = ["DESCRIBE", "SELECT"]

  table {
    database_name = aws_glue_catalog_database.layer[each.value[1]].name
    wildcard      = true
  }
}
