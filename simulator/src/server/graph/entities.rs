//! The served entities of the lending subgraphs, and the filters that graph-node generates for them.

use crate::server::SchemaVersion;

/// The type of a field, which determines its filters and its order.
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
    /// A reference to another entity, by its id.
    Entity(&'static str),
}

/// A field of an entity.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) field_type: FieldType,
    pub(super) required: bool,
}

/// An object type of the schema.
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
        // Required in the subgraphs, but most recordings lack them.
        field("totalDepositBalanceUSD", FieldType::BigDecimal, false),
        field("totalBorrowBalanceUSD", FieldType::BigDecimal, false),
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
    /// Parses the name of a filter, such as `balance_gt`, into a field and an operation.
    pub(super) fn filter(&self, name: &str) -> Option<(&'static Field, Operation)> {
        self.fields.iter().find_map(|field| {
            let suffix = name.strip_prefix(field.name)?;
            let operation = field.field_type.operations().iter().find(|operation| operation.suffix() == suffix)?;
            Some((field, *operation))
        })
    }
}

/// The comparison of a filter.
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
    const EQUALITY: [Operation; 4] = [Operation::Equal, Operation::Not, Operation::In, Operation::NotIn];

    /// Returns the suffix of the operation in the name of a filter.
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

    /// Returns whether the value of the filter is a list.
    pub(super) fn takes_list(self) -> bool {
        matches!(self, Operation::In | Operation::NotIn)
    }
}

impl FieldType {
    /// Returns the operations that graph-node generates for a field of this type.
    pub(super) fn operations(self) -> &'static [Operation] {
        match self {
            FieldType::Bool | FieldType::Side => &Operation::EQUALITY,
            _ => &Operation::ALL,
        }
    }

    /// Returns the GraphQL type of a field in a response.
    pub(super) fn output_type(self, schema: SchemaVersion) -> &'static str {
        match self {
            FieldType::Entity(name) => name,
            other => other.input_type(schema),
        }
    }

    /// Returns the GraphQL type of a filter value. A reference is filtered by a `String`, whatever the type of the id
    /// is.
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

    /// Returns whether values are compared as numbers.
    pub(super) fn is_number(self) -> bool {
        matches!(self, FieldType::BigInt | FieldType::BigDecimal | FieldType::Int)
    }

    /// Returns whether values are ids, of the entity itself or of a referenced one.
    pub(super) fn is_id(self) -> bool {
        matches!(self, FieldType::Id | FieldType::Entity(_))
    }
}

/// Returns the values of `PositionSide`.
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
    fn parses_filter_names() {
        let parse = |name: &str| POSITION.filter(name).map(|(field, operation)| (field.name, operation));
        assert_eq!(parse("id"), Some(("id", Operation::Equal)));
        assert_eq!(parse("id_not_in"), Some(("id", Operation::NotIn)));
        assert_eq!(parse("balance_gte"), Some(("balance", Operation::GreaterOrEqual)));
        assert_eq!(parse("side_gt"), None);
        assert_eq!(parse("idx"), None);
    }
}
