//! Views as Presto, Trino and so Athena store them in Glue: a comment with JSON in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{CatalogColumn, CatalogView};
use crate::error::{Error, Result};

/// The text in the place of the query, for engines that do not know the comment.
pub(super) const EXPANDED_TEXT: &str = "/* Presto View */";

/// The name of Glue among Athena's catalogs.
const CATALOG: &str = "awsdatacatalog";

/// Returns the comment that defines a view of a database.
pub(super) fn view_text(database: &str, view: &CatalogView) -> Result<String> {
    let column = |column: &CatalogColumn| json!({"name": column.name, "type": presto_type(&column.data_type)});
    let columns: Vec<_> = view.columns.iter().map(column).collect();
    let definition = json!({"originalSql": view.sql, "catalog": CATALOG, "schema": database, "columns": columns});
    let definition = serde_json::to_vec(&definition)
        .map_err(|cause| Error::internal("can't serialize a view").with_source(cause))?;
    Ok(format!("/* Presto View: {} */", STANDARD.encode(definition)))
}

/// Returns the name of a type in Athena's SQL. Glue has the names of Hive.
fn presto_type(glue_type: &str) -> &str {
    match glue_type {
        "string" => "varchar",
        "int" => "integer",
        "timestamp" => "timestamp(3)",
        same => same,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn comment_has_the_query_and_the_columns_with_athenas_types() {
        let column = |(name, data_type): (&str, &str)| CatalogColumn {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            comment: "a comment".to_owned(),
        };
        let columns = [("a", "string"), ("b", "decimal(38,0)"), ("c", "timestamp"), ("d", "int")].map(column).into();
        let view = CatalogView { description: "rows".to_owned(), columns, sql: "SELECT 'ä' AS a".to_owned() };
        let text = view_text("db_analytics_dev", &view).unwrap();
        let encoded = text.strip_prefix("/* Presto View: ").and_then(|text| text.strip_suffix(" */")).unwrap();
        let definition: Value = serde_json::from_slice(&STANDARD.decode(encoded).unwrap()).unwrap();
        let expected = json!({
            "originalSql": "SELECT 'ä' AS a",
            "catalog": "awsdatacatalog",
            "schema": "db_analytics_dev",
            "columns": [
                {"name": "a", "type": "varchar"},
                {"name": "b", "type": "decimal(38,0)"},
                {"name": "c", "type": "timestamp(3)"},
                {"name": "d", "type": "integer"},
            ],
        });
        assert_eq!(definition, expected);
    }
}
