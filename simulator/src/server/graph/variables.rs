//! Checks that the variables of a query have the types of the positions in which they are used.
//!
//! graph-node rejects a query that declares `$id: ID!` and uses it where `Bytes!` is expected. async-graphql has this
//! rule, but release 7 never applies it (its visitor chain does not pass on input values), so this module applies it to
//! the arguments of the served schemas. Without it, the server would accept queries that only one of the two real
//! schemas accepts.

use async_graphql::parser::types::{ExecutableDocument, Field, OperationDefinition, Selection, SelectionSet, Type};
use async_graphql_value::{Name, Value};

use super::entities::Entity;
use super::filter::LIST_FILTERS;
use crate::server::SchemaVersion;

/// Checks all operations of a document.
pub(super) fn check(document: &ExecutableDocument, schema: SchemaVersion) -> Result<(), String> {
    document.operations.iter().try_for_each(|(_, operation)| {
        let check = VariableCheck { document, operation: &operation.node, schema };
        check.selections(&operation.node.selection_set.node)
    })
}

struct VariableCheck<'a> {
    document: &'a ExecutableDocument,
    operation: &'a OperationDefinition,
    schema: SchemaVersion,
}

impl VariableCheck<'_> {
    /// Checks the fields. The library has already validated that fragments exist and are not recursive.
    fn selections(&self, selections: &SelectionSet) -> Result<(), String> {
        selections.items.iter().try_for_each(|selection| match &selection.node {
            Selection::Field(field) => self.field(&field.node),
            Selection::InlineFragment(fragment) => self.selections(&fragment.node.selection_set.node),
            Selection::FragmentSpread(spread) => match self.document.fragments.get(&spread.node.fragment_name.node) {
                Some(fragment) => self.selections(&fragment.node.selection_set.node),
                None => Ok(()),
            },
        })
    }

    fn field(&self, field: &Field) -> Result<(), String> {
        let kept = self.schema.kept().iter().map(|kept| kept.queried());
        let queried =
            self.schema.tables().into_iter().chain(kept).find(|queried| queried.field == field.name.node.as_str());
        let entity = queried.map(|queried| queried.entity);
        field.arguments.iter().try_for_each(|(name, value)| {
            let expected = match (name.node.as_str(), entity) {
                ("skip" | "first", _) => "Int".to_owned(),
                ("orderDirection", _) => "OrderDirection".to_owned(),
                ("block", _) => "Block_height".to_owned(),
                ("orderBy", Some(entity)) => format!("{}_orderBy", entity.name),
                ("where", Some(entity)) => format!("{}_filter", entity.name),
                _ => return Ok(()),
            };
            self.value(&value.node, &expected, entity)
        })?;
        self.selections(&field.selection_set.node)
    }

    /// Checks the variables in a value and the values nested in it.
    fn value(&self, value: &Value, expected: &str, entity: Option<&Entity>) -> Result<(), String> {
        match value {
            Value::Variable(name) => self.variable(name, expected),
            Value::List(values) => {
                let element = expected.strip_prefix('[').and_then(|list| list.strip_suffix(']')).unwrap_or(expected);
                values.iter().try_for_each(|value| self.value(value, element, entity))
            }
            Value::Object(fields) => fields
                .iter()
                .try_for_each(|(name, value)| self.value(value, &self.field_type(expected, name, entity), entity)),
            _ => Ok(()),
        }
    }

    /// Returns the type of a field of an input type.
    fn field_type(&self, input_type: &str, name: &str, entity: Option<&Entity>) -> String {
        match (input_type, name, entity.and_then(|entity| entity.filter(name))) {
            ("Block_height", "hash", _) => "Bytes".to_owned(),
            ("Block_height", _, _) => "Int".to_owned(),
            (_, _, Some((field, operation))) if operation.takes_list() => {
                format!("[{}!]", field.field_type.input_type(self.schema))
            }
            (_, _, Some((field, _))) => field.field_type.input_type(self.schema).to_owned(),
            (_, list, _) if LIST_FILTERS.contains(&list) => format!("[{input_type}]"),
            // An unknown field, which the library rejects.
            _ => String::new(),
        }
    }

    fn variable(&self, name: &Name, expected: &str) -> Result<(), String> {
        let definition = self.operation.variable_definitions.iter().find(|variable| variable.node.name.node == *name);
        let Some(definition) = definition else { return Ok(()) };
        let declared = &definition.node.var_type.node;
        let has_default = definition.node.default_value.is_some();
        if is_assignable(declared, expected, has_default) {
            return Ok(());
        }
        Err(format!("Variable \"${name}\" of type \"{declared}\" used in position expecting type \"{expected}\"."))
    }
}

/// Returns whether a variable of a type is allowed in a position: the types are equal, or the variable is also
/// non-null.
fn is_assignable(declared: &Type, expected: &str, has_default: bool) -> bool {
    let declared = declared.to_string();
    let without_null = |text: &str| text.strip_suffix('!').map(str::to_owned);
    match without_null(expected) {
        Some(nullable) => {
            without_null(&declared).is_some_and(|declared| declared == nullable)
                || (has_default && declared == nullable)
        }
        None => declared == expected || without_null(&declared).is_some_and(|declared| declared == expected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_graphql::parser::parse_query;

    fn check_in(schema: SchemaVersion, query: &str) -> Result<(), String> {
        check(&parse_query(query).unwrap(), schema)
    }

    #[test]
    fn variable_types_must_match_their_positions() {
        for query in [
            "query Q($x: Int!) { positions(first: $x, block: {number: $x}) { id } }",
            "query Q($x: BigInt) { positions(where: {balance_gt: $x}) { id } }",
            "query Q($x: [String!]!) { positions(where: {account_in: $x}) { id } }",
            "query Q($x: String!) { positions(where: {account_in: [$x, \"0xaa\"]}) { id } }",
            "query Q($x: Position_filter) { positions(where: $x) { id } }",
            "query Q($x: [Position_filter]) { positions(where: {or: $x}) { id } }",
            "query Q($x: BigInt) { positions(where: {and: [{balance_gt: $x}]}) { id } }",
            "query Q($x: Bytes!) { _meta(block: {hash: $x}) { deployment } }",
            "query Q($x: Int = 3) { ...F } fragment F on Query { markets(skip: $x) { id } }",
            "query Q($x: PositionSnapshot_filter!) { positions { snapshots(where: $x) { balance } } }",
        ] {
            assert_eq!(check_in(SchemaVersion::V2_0_1, query), Ok(()), "{query}");
        }
        for query in [
            "query Q($x: String) { positions(first: $x) { id } }",
            "query Q($x: BigInt) { positions(block: {number: $x}) { id } }",
            "query Q($x: String) { positions(where: {balance_gt: $x}) { id } }",
            "query Q($x: String) { positions(where: {and: [{balance_gt: $x}]}) { id } }",
            "query Q($x: [String]) { positions(where: {account_in: $x}) { id } }",
            "query Q($x: String) { positions(where: {account_in: [$x]}) { id } }",
            "query Q($x: Market_filter) { positions(where: $x) { id } }",
            "query Q($x: ID) { ... { positions(where: {account: $x}) { id } } }",
            "query Q($x: ID) { ...F } fragment F on Query { markets(skip: $x) { id } }",
            "query Q($x: Position_filter!) { positions { snapshots(where: $x) { balance } } }",
        ] {
            assert!(check_in(SchemaVersion::V2_0_1, query).is_err(), "{query}");
        }
    }

    #[test]
    fn id_type_depends_on_the_schema() {
        let query = "query Q($x: ID!) { positions(where: {id_gt: $x}) { id } }";
        assert_eq!(
            [SchemaVersion::V2_0_1, SchemaVersion::V3_1_0].map(|schema| check_in(schema, query)),
            [Ok(()), Ok(())]
        );
        let query = "query Q($x: ID!) { userReserves(where: {id_gt: $x, scaledVariableDebt_not: \"0\"}) { id } }";
        assert_eq!(check_in(SchemaVersion::Aave, query), Ok(()));
        let query = "query Q($x: ID!) { markets(where: {id_gt: $x}) { id } }";
        assert_eq!(check_in(SchemaVersion::V2_0_1, query), Ok(()));
        assert_eq!(
            check_in(SchemaVersion::V3_1_0, query).unwrap_err(),
            "Variable \"$x\" of type \"ID!\" used in position expecting type \"Bytes\"."
        );
    }
}
