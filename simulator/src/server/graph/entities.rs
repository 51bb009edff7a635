//! The entities of the lending subgraphs, as far as they are served, and what graph-node generates from them.

use crate::server::SchemaVersion;

/// The type of a field, which decides how it is filtered and compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldType {
    /// The id of the entity: `Bytes` or `ID`.
    Id,
    BigInt,
    BigDecimal,
    Text,
    Int,
    Bool,
    Side,
    /// Another entity, which has an id itself.
    Entity(&'static str),
}

/// A field of an entity.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) field_type: FieldType,
    pub(super) required: bool,
}

/// A type of the schema that holds recorded values.
pub(super) struct Entity {
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
}

const fn field(name: &'static str, field_type: FieldType, required: bool) -> Field {
    Field { name, field_type, required }
}

pub(super) const MARKET: Entity = Entity {
    name: "Market",
    fields: &[
        field("id", FieldType::Id, true),
        field("name", FieldType::Text, false),
        field("maximumLTV", FieldType::BigDecimal, true),
        field("liquidationThreshold", FieldType::BigDecimal, true),
        field("inputTokenPriceUSD", FieldType::BigDecimal, true),
        field("inputToken", FieldType::Entity("Token"), true),
    ],
};

pub(super) const POSITION: Entity = Entity {
    name: "Position",
    fields: &[
        field("id", FieldType::Id, true),
        field("balance", FieldType::BigInt, true),
        field("side", FieldType::Side, true),
        field("isCollateral", FieldType::Bool, false),
        field("market", FieldType::Entity("Market"), true),
        field("account", FieldType::Entity("Account"), true),
    ],
};

pub(super) const TOKEN: Entity = Entity {
    name: "Token",
    fields: &[
        field("id", FieldType::Id, true),
        field("symbol", FieldType::Text, true),
        field("decimals", FieldType::Int, true),
    ],
};

pub(super) const ACCOUNT: Entity = Entity { name: "Account", fields: &[field("id", FieldType::Id, true)] };

impl Entity {
    /// The field and the operation behind a name in a filter, such as `balance_gt`.
    pub(super) fn filter(&self, name: &str) -> Option<(&'static Field, Operation)> {
        self.fields.iter().find_map(|field| {
            let suffix = name.strip_prefix(field.name)?;
            let operation = field.field_type.operations().iter().find(|operation| operation.suffix() == suffix)?;
            Some((field, *operation))
        })
    }
}

/// How a filter compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Equal,
    Not,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
    In,
    NotIn,
}

impl Operation {
    const ALL: [Operation; 8] = [
        Operation::Equal,
        Operation::Not,
        Operation::Greater,
        Operation::Less,
        Operation::GreaterOrEqual,
        Operation::LessOrEqual,
        Operation::In,
        Operation::NotIn,
    ];
    const WITHOUT_ORDER: [Operation; 4] = [Operation::Equal, Operation::Not, Operation::In, Operation::NotIn];

    /// What comes after the field in the name of a filter.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Operation::Equal => "",
            Operation::Not => "_not",
            Operation::Greater => "_gt",
            Operation::Less => "_lt",
            Operation::GreaterOrEqual => "_gte",
            Operation::LessOrEqual => "_lte",
            Operation::In => "_in",
            Operation::NotIn => "_not_in",
        }
    }

    /// Whether it takes a list.
    pub(super) fn takes_list(self) -> bool {
        matches!(self, Operation::In | Operation::NotIn)
    }
}

impl FieldType {
    /// The operations that graph-node generates for a field of the type.
    pub(super) fn operations(self) -> &'static [Operation] {
        match self {
            FieldType::Bool | FieldType::Side => &Operation::WITHOUT_ORDER,
            _ => &Operation::ALL,
        }
    }

    /// The GraphQL type of a field.
    pub(super) fn output_type(self, schema: SchemaVersion) -> &'static str {
        match self {
            FieldType::Entity(name) => name,
            other => other.input_type(schema),
        }
    }

    /// The GraphQL type of a filter value. Another entity is named by its id as a `String`, whatever type its id has.
    pub(super) fn input_type(self, schema: SchemaVersion) -> &'static str {
        match (self, schema) {
            (FieldType::Id, SchemaVersion::V2_0_1) => "ID",
            (FieldType::Id, SchemaVersion::V3_1_0) => "Bytes",
            (FieldType::BigInt, _) => "BigInt",
            (FieldType::BigDecimal, _) => "BigDecimal",
            (FieldType::Text | FieldType::Entity(_), _) => "String",
            (FieldType::Int, _) => "Int",
            (FieldType::Bool, _) => "Boolean",
            (FieldType::Side, _) => "PositionSide",
        }
    }

    /// Whether values are ordered as numbers.
    pub(super) fn is_number(self) -> bool {
        matches!(self, FieldType::BigInt | FieldType::BigDecimal | FieldType::Int)
    }

    /// Whether values are ids: of the entity itself or of another.
    pub(super) fn is_id(self) -> bool {
        matches!(self, FieldType::Id | FieldType::Entity(_))
    }
}

/// The sides that a position can have.
pub(super) fn sides(schema: SchemaVersion) -> [&'static str; 2] {
    match schema {
        SchemaVersion::V2_0_1 => ["LENDER", "BORROWER"],
        SchemaVersion::V3_1_0 => ["COLLATERAL", "BORROWER"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_field_and_an_operation() {
        let parse = |name: &str| POSITION.filter(name).map(|(field, operation)| (field.name, operation));
        assert_eq!(parse("id"), Some(("id", Operation::Equal)));
        assert_eq!(parse("id_not_in"), Some(("id", Operation::NotIn)));
        assert_eq!(parse("balance_gte"), Some(("balance", Operation::GreaterOrEqual)));
        assert_eq!(parse("side_gt"), None);
        assert_eq!(parse("idx"), None);
    }
}
