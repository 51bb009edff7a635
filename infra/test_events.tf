# Shareable test events of the Lambda console: examples of an OpenAPI document. The console determines the names of the
# registry and of the schemas.
resource "aws_schemas_registry" "test_events" {
  count = var.test_event_registry ? 1 : 0

  name        = "lambda-testevent-schemas"
  description = "Shareable test events of the Lambda console"
}

resource "aws_schemas_schema" "test_events" {
  for_each = { for name, step in local.steps : name => step if var.test_events }

  name          = "_${local.function_names[each.key]}-schema"
  registry_name = "lambda-testevent-schemas"
  type          = "OpenApi3"
  description   = "Test inputs of ${each.key}"

  content = jsonencode({
    openapi = "3.0.0"
    info    = { version = "1.0.0", title = "Event" }
    paths   = {}
    components = {
      schemas  = { Event = { type = "object" } }
      examples = { for name, event in each.value.test_events : name => { value = event } }
    }
  })

  depends_on = [aws_schemas_registry.test_events]
}
