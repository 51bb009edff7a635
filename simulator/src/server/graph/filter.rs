//! The `where` argument: the filter of a query.

use std::cmp::Ordering;
use std::ops::{Bound, RangeBounds};

use async_graphql::dynamic::ObjectAccessor;
use serde_json::Value;

use super::entities::{Entity, Field, FieldType, Operation, sides};
use super::values::{compare, parse_bytes, text_of};
use crate::server::SchemaVersion;

/// A range of ids, by which rows are looked up, and further conditions.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) low: Bound<String>,
    pub(super) high: Bound<String>,
    conditions: Vec<Condition>,
    /// Lists of filters, of each of which a row meets at least one.
    alternatives: Vec<Vec<Filter>>,
}

/// The names of filters whose values are lists of filters.
pub(super) const LIST_FILTERS: [&str; 2] = ["and", "or"];

/// graph-node's message for a list of filters that is none, or beside which there are conditions.
const NOT_AN_OBJECT: &str = "Filter must by an object";

#[derive(Debug)]
struct Condition {
    field: &'static str,
    field_type: FieldType,
    operation: Operation,
    values: Vec<Value>,
}

impl Filter {
    /// Returns the filter that accepts all rows.
    pub(super) fn all() -> Filter {
        Filter { low: Bound::Unbounded, high: Bound::Unbounded, conditions: Vec::new(), alternatives: Vec::new() }
    }

    /// Parses the argument. Its names and value types are already validated against the schema.
    pub(super) fn parse(
        entity: &Entity,
        schema: SchemaVersion,
        argument: &ObjectAccessor<'_>,
    ) -> Result<Filter, String> {
        let mut filter = Filter::all();
        let is_list = |name: &str| LIST_FILTERS.contains(&name);
        let columns: Vec<&str> = argument.keys().map(|name| name.as_str()).filter(|name| !is_list(name)).collect();
        if argument.get("or").is_some() && !columns.is_empty() {
            return Err(mixed(&columns));
        }
        if argument.get("and").is_some() && !columns.is_empty() {
            return Err(NOT_AN_OBJECT.to_owned());
        }
        for name in LIST_FILTERS.into_iter().filter(|name| argument.get(name).is_some()) {
            // Where both are there, graph-node joins the elements of both lists, for each.
            let mut elements = Vec::new();
            for (_, list) in argument.iter() {
                for element in list.list().map_err(|_| NOT_AN_OBJECT.to_owned())?.iter() {
                    let object = element.object().map_err(|_| NOT_AN_OBJECT.to_owned())?;
                    elements.push(Filter::parse(entity, schema, &object)?);
                }
            }
            match name {
                "and" => elements.into_iter().for_each(|element| filter.add_all_of(element)),
                _ => filter.alternatives.push(elements),
            }
        }
        for (name, value) in argument.iter().filter(|(name, _)| !is_list(name)) {
            let unknown = || format!("Entity `{}` has no attribute `{name}`", entity.name);
            let (field, operation) = entity.filter(name).ok_or_else(unknown)?;
            let value = value.as_value().clone().into_json().map_err(|error| error.to_string())?;
            let values = match value {
                Value::Array(values) if operation.takes_list() => values,
                single => vec![single],
            };
            let values =
                values.into_iter().map(|value| validate(field, schema, value)).collect::<Result<Vec<_>, _>>()?;
            filter.add(field, operation, values);
        }
        Ok(filter)
    }

    /// Returns whether a row meets all conditions except the range of ids.
    pub(super) fn accepts(&self, row: &Value) -> bool {
        let is_in_range = |filter: &Filter| {
            let id = text_of(&row["id"]).into_owned();
            (filter.low.clone(), filter.high.clone()).contains(&id)
        };
        let any = |filters: &Vec<Filter>| filters.iter().any(|filter| is_in_range(filter) && filter.accepts(row));
        self.conditions.iter().all(|condition| condition.accepts(row)) && self.alternatives.iter().all(any)
    }

    /// Adds the conditions of another filter, which a row must meet, too.
    fn add_all_of(&mut self, other: Filter) {
        self.raise_low(other.low);
        self.lower_high(other.high);
        self.conditions.extend(other.conditions);
        self.alternatives.extend(other.alternatives);
    }

    fn add(&mut self, field: &Field, operation: Operation, values: Vec<Value>) {
        let id = match values.first() {
            Some(Value::String(id)) if field.field_type.is_own_id() => id.clone(),
            _ => return self.conditions.push(Condition::new(field, operation, values)),
        };
        match operation {
            Operation::Equal => {
                self.raise_low(Bound::Included(id.clone()));
                self.lower_high(Bound::Included(id));
            }
            Operation::Greater => self.raise_low(Bound::Excluded(id)),
            Operation::GreaterOrEqual => self.raise_low(Bound::Included(id)),
            Operation::Less => self.lower_high(Bound::Excluded(id)),
            Operation::LessOrEqual => self.lower_high(Bound::Included(id)),
            Operation::Not | Operation::In | Operation::NotIn => {
                self.conditions.push(Condition::new(field, operation, values));
            }
        }
    }

    fn raise_low(&mut self, low: Bound<String>) {
        if bound_key(&low, true) > bound_key(&self.low, true) {
            self.low = low;
        }
    }

    fn lower_high(&mut self, high: Bound<String>) {
        let is_lower = match (bound_key(&high, false), bound_key(&self.high, false)) {
            (Some(new), Some(old)) => new < old,
            (new, _) => new.is_some(),
        };
        if is_lower {
            self.high = high;
        }
    }
}

/// Returns graph-node's message for conditions beside `or`.
fn mixed(columns: &[&str]) -> String {
    let columns = columns.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    format!(
        "Cannot mix column filters with 'or' operator at the same level. Found column filter(s) {columns} alongside 'or' \
         operator.\n\nInstead of:\nwhere: {{ {columns}, or: [...] }}\n\nUse:\nwhere: {{ or: [{{ {columns}, ... }}, \
         {{ {columns}, ... }}] }}"
    )
}

/// Returns a sort key of a bound: the id, and whether the bound is before or after it.
fn bound_key(bound: &Bound<String>, is_low: bool) -> Option<(&str, bool)> {
    match bound {
        Bound::Unbounded => None,
        Bound::Included(id) => Some((id, !is_low)),
        Bound::Excluded(id) => Some((id, is_low)),
    }
}

impl Condition {
    fn new(field: &Field, operation: Operation, values: Vec<Value>) -> Condition {
        Condition { field: field.name, field_type: field.field_type, operation, values }
    }

    fn accepts(&self, row: &Value) -> bool {
        let value = field_value(row, self.field, self.field_type);
        let ordering = |expected: &Value| compare(value, expected, self.field_type.is_number());
        // As in SQL, null is neither less nor greater than any value; a filter can only test for null.
        let any = |accept: &dyn Fn(Ordering) -> bool| {
            self.values.iter().any(|expected| match (value.is_null(), expected.is_null()) {
                (false, false) => accept(ordering(expected)),
                (value_is_null, expected_is_null) => value_is_null && expected_is_null && accept(Ordering::Equal),
            })
        };
        match self.operation {
            Operation::Equal | Operation::In => any(&Ordering::is_eq),
            Operation::Not if self.values.iter().any(Value::is_null) => !value.is_null(),
            Operation::Not | Operation::NotIn => !value.is_null() && !any(&Ordering::is_eq),
            Operation::Greater => any(&Ordering::is_gt),
            Operation::Less => any(&Ordering::is_lt),
            Operation::GreaterOrEqual => any(&Ordering::is_ge),
            Operation::LessOrEqual => any(&Ordering::is_le),
        }
    }
}

/// Returns the value by which a field is filtered and sorted: the id of a referenced entity, else the value itself.
pub(super) fn field_value<'a>(row: &'a Value, field: &str, field_type: FieldType) -> &'a Value {
    match field_type {
        FieldType::Entity(_) => &row[field]["id"],
        _ => &row[field],
    }
}

/// Validates a filter value. Its GraphQL type is not enough, because the custom scalars of the schema accept any
/// literal.
fn validate(field: &Field, schema: SchemaVersion, value: Value) -> Result<Value, String> {
    if value.is_null() {
        return Ok(value);
    }
    let text = text_of(&value).into_owned();
    if field.field_type.is_id() && schema == SchemaVersion::V3_1_0 {
        return parse_bytes(&text).map(Value::from);
    }
    let is_integer = || !text.is_empty() && text.strip_prefix('-').unwrap_or(&text).bytes().all(|b| b.is_ascii_digit());
    match field.field_type {
        FieldType::Side if !sides(schema).contains(&text.as_str()) => Err(format!(
            "Failed to coerce value `{text}` of field `{}` to enum type `PositionSide`. Possible values are: {}",
            field.name,
            sides(schema).join(", ")
        )),
        FieldType::BigInt if !is_integer() => Err(format!("Failed to decode `BigInt` value: `{text}`")),
        FieldType::Id | FieldType::TextId => Ok(Value::from(text)),
        _ => Ok(value),
    }
}
