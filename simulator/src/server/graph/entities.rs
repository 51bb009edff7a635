//! The served entities of the lending subgraphs, in Messari's schema and in that of Aave's own subgraphs, and the filters that graph-node generates for them.

use crate::server::SchemaVersion;

/// The type of a field, which determines its filters and its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldType {
    /// The id of the entity: `Bytes` or `ID`.
    Id,
    /// An id that is `ID` in every schema.
    TextId,
    BigInt,
    BigDecimal,
    Text,
    Bytes,
    Int,
    Bool,
    Side,
    /// A reference to another entity, by its id.
    Entity(&'static str),
    /// A list of other entities.
    Entities(&'static str),
    /// The snapshots of an entity, which can be filtered and sorted.
    Snapshots(Kept),
}

/// What a subgraph in Messari's schema keeps of the past of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// The balances of a position, after each event.
    Balances,
    /// The prices and totals of a market, after the last event of each hour.
    Prices,
}

impl Kept {
    /// Both.
    pub(super) const ALL: [Kept; 2] = [Kept::Balances, Kept::Prices];

    /// Returns the field of the entity that lists them, and their own entity.
    pub(super) fn queried(self) -> Queried {
        match self {
            Kept::Balances => Queried { field: "snapshots", entity: &POSITION_SNAPSHOT },
            Kept::Prices => Queried { field: "hourlySnapshots", entity: &MARKET_HOURLY_SNAPSHOT },
        }
    }
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

const MARKET: Entity = Entity {
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
        field("hourlySnapshots", FieldType::Snapshots(Kept::Prices), true),
    ],
};

const MARKET_HOURLY_SNAPSHOT: Entity = Entity {
    name: "MarketHourlySnapshot",
    fields: &[
        field("id", FieldType::TextId, true),
        field("blockNumber", FieldType::BigInt, true),
        field("inputTokenPriceUSD", FieldType::BigDecimal, false),
        field("totalDepositBalanceUSD", FieldType::BigDecimal, false),
        field("totalBorrowBalanceUSD", FieldType::BigDecimal, false),
    ],
};

const POSITION: Entity = Entity {
    name: "Position",
    fields: &[
        field("id", FieldType::TextId, true),
        field("balance", FieldType::BigInt, true),
        field("side", FieldType::Side, true),
        field("isCollateral", FieldType::Bool, false),
        field("market", FieldType::Entity("Market"), true),
        field("account", FieldType::Entity("Account"), true),
        // Required in the subgraphs. Only the rows of the newest state have it here.
        field("blockNumberOpened", FieldType::BigInt, false),
        field("snapshots", FieldType::Snapshots(Kept::Balances), true),
    ],
};

const POSITION_SNAPSHOT: Entity = Entity {
    name: "PositionSnapshot",
    fields: &[
        field("id", FieldType::TextId, true),
        field("logIndex", FieldType::Int, true),
        field("balance", FieldType::BigInt, true),
        field("blockNumber", FieldType::BigInt, true),
    ],
};

const TOKEN: Entity = Entity {
    name: "Token",
    fields: &[
        field("id", FieldType::Id, true),
        field("symbol", FieldType::Text, true),
        field("decimals", FieldType::Int, true),
    ],
};

const ACCOUNT: Entity = Entity { name: "Account", fields: &[field("id", FieldType::Id, true)] };

/// An account, in version 3 of Messari's schema.
const ACCOUNT_V3: Entity = Entity {
    name: "Account",
    fields: &[field("id", FieldType::Id, true), field("_enabledCollaterals", FieldType::Entities("Market"), false)],
};

/// A market, in Aave's own schema.
const RESERVE: Entity = Entity {
    name: "Reserve",
    fields: &[
        field("id", FieldType::TextId, true),
        field("underlyingAsset", FieldType::Bytes, true),
        field("pool", FieldType::Entity("Pool"), true),
        field("symbol", FieldType::Text, true),
        field("name", FieldType::Text, true),
        field("decimals", FieldType::Int, true),
        field("usageAsCollateralEnabled", FieldType::Bool, true),
        field("baseLTVasCollateral", FieldType::BigInt, true),
        field("reserveLiquidationThreshold", FieldType::BigInt, true),
        field("liquidityIndex", FieldType::BigInt, true),
        field("liquidityRate", FieldType::BigInt, true),
        field("variableBorrowIndex", FieldType::BigInt, true),
        field("variableBorrowRate", FieldType::BigInt, true),
        field("totalScaledVariableDebt", FieldType::BigInt, true),
        // The two are required in the subgraphs, but older recordings lack them.
        field("totalATokenSupply", FieldType::BigInt, false),
        field("lifetimeReserveFactorAccrued", FieldType::BigInt, false),
        field("lastUpdateTimestamp", FieldType::Int, true),
        field("price", FieldType::Entity("PriceOracleAsset"), true),
        field("aToken", FieldType::Entity("AToken"), true),
    ],
};

/// The balances of a user in a reserve.
const USER_RESERVE: Entity = Entity {
    name: "UserReserve",
    fields: &[
        field("id", FieldType::TextId, true),
        field("pool", FieldType::Entity("Pool"), true),
        field("reserve", FieldType::Entity("Reserve"), true),
        field("user", FieldType::Entity("User"), true),
        field("usageAsCollateralEnabledOnUser", FieldType::Bool, true),
        field("scaledATokenBalance", FieldType::BigInt, true),
        field("scaledVariableDebt", FieldType::BigInt, true),
        field("principalStableDebt", FieldType::BigInt, true),
        field("stableBorrowRate", FieldType::BigInt, true),
        field("stableBorrowLastUpdateTimestamp", FieldType::Int, true),
    ],
};

const POOL: Entity = Entity { name: "Pool", fields: &[field("id", FieldType::TextId, true)] };
const USER: Entity = Entity { name: "User", fields: &[field("id", FieldType::TextId, true)] };
const A_TOKEN: Entity = Entity { name: "AToken", fields: &[field("id", FieldType::TextId, true)] };
const PRICE: Entity = Entity {
    name: "PriceOracleAsset",
    fields: &[
        field("id", FieldType::TextId, true),
        field("priceInEth", FieldType::BigInt, true),
        // Required in the subgraphs, but older recordings lack it.
        field("lastUpdateTimestamp", FieldType::Int, false),
    ],
};

/// A table that can be queried: the field of a query or of an entity, and the entity of its rows.
pub(super) struct Queried {
    pub(super) field: &'static str,
    pub(super) entity: &'static Entity,
}

impl SchemaVersion {
    /// Returns the tables of markets and of positions.
    pub(super) fn tables(self) -> [Queried; 2] {
        let [markets, positions] = match self {
            SchemaVersion::V2_0_1 | SchemaVersion::V3_1_0 => [("markets", &MARKET), ("positions", &POSITION)],
            SchemaVersion::Aave => [("reserves", &RESERVE), ("userReserves", &USER_RESERVE)],
        };
        [markets, positions].map(|(field, entity)| Queried { field, entity })
    }

    /// Returns what the newest state keeps of the past.
    pub(super) fn kept(self) -> &'static [Kept] {
        if self == SchemaVersion::Aave { &[] } else { &Kept::ALL }
    }

    /// Returns the entities that are only nested in others.
    pub(super) fn nested(self) -> &'static [&'static Entity] {
        match self {
            SchemaVersion::V2_0_1 => &[&TOKEN, &ACCOUNT],
            SchemaVersion::V3_1_0 => &[&TOKEN, &ACCOUNT_V3],
            SchemaVersion::Aave => &[&POOL, &USER, &A_TOKEN, &PRICE],
        }
    }
}

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
            FieldType::Snapshots(_) => &[],
            _ => &Operation::ALL,
        }
    }

    /// Returns the GraphQL type of a field in a response.
    pub(super) fn output_type(self, schema: SchemaVersion) -> &'static str {
        match self {
            FieldType::Entity(name) | FieldType::Entities(name) => name,
            FieldType::Snapshots(kept) => kept.queried().entity.name,
            other => other.input_type(schema),
        }
    }

    /// Returns the GraphQL type of a filter value. A reference is filtered by a `String`, whatever the type of the id
    /// is.
    pub(super) fn input_type(self, schema: SchemaVersion) -> &'static str {
        match (self, schema) {
            (FieldType::Id, SchemaVersion::V3_1_0) | (FieldType::Bytes, _) => "Bytes",
            (FieldType::Id | FieldType::TextId, _) => "ID",
            (FieldType::BigInt, _) => "BigInt",
            (FieldType::BigDecimal, _) => "BigDecimal",
            (FieldType::Text | FieldType::Entity(_) | FieldType::Entities(_) | FieldType::Snapshots(_), _) => "String",
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

    /// Returns whether values are ids of the entity itself.
    pub(super) fn is_own_id(self) -> bool {
        matches!(self, FieldType::Id | FieldType::TextId)
    }
}

/// Returns the values of `PositionSide`.
pub(super) fn sides(schema: SchemaVersion) -> [&'static str; 2] {
    match schema {
        SchemaVersion::V2_0_1 => ["LENDER", "BORROWER"],
        SchemaVersion::V3_1_0 | SchemaVersion::Aave => ["COLLATERAL", "BORROWER"],
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
