//! Rows that are invalid at their source, in every response.
//!
//! A well-formed but wrong value must be the same in every response: a client cannot detect a value that is wrong in
//! one response and right in the next. The defects are therefore put into the rows before they are served. The columns
//! that queries filter and sort by have no defects, because a database enforces their types.

use std::collections::BTreeMap;
use std::sync::Arc;

use defi_shared::config::Schema;
use serde_json::{Map, Value, json};

use super::random_number;
use crate::recording::{Recording, Row, Snapshots};

/// A defect of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowDefect {
    /// A value of another type: a list instead of a number or a name.
    WrongType,
    /// A null in a required field.
    Null,
    /// A value that the field's enum does not have.
    UnknownEnum,
    /// A missing field.
    MissingField,
}

impl RowDefect {
    /// All defects.
    pub const ALL: &[RowDefect] =
        &[RowDefect::WrongType, RowDefect::Null, RowDefect::UnknownEnum, RowDefect::MissingField];

    /// Returns the stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RowDefect::WrongType => "wrong_type",
            RowDefect::Null => "null",
            RowDefect::UnknownEnum => "unknown_enum",
            RowDefect::MissingField => "missing_field",
        }
    }

    /// Returns the fields that can have the defect.
    fn fields(self, kind: RowKind) -> &'static [&'static str] {
        match (self, kind) {
            (RowDefect::UnknownEnum, RowKind::Position) => &["side"],
            // The category of an event is an enum too, but queries filter by it.
            (RowDefect::UnknownEnum, _) => &[],
            (_, RowKind::Event) => {
                &["quantity", "token_address", "account_address", "sender_address", "transaction_hash"]
            }
            (_, RowKind::Market) => &["inputTokenPriceUSD", "liquidationThreshold", "maximumLTV", "inputToken", "name"],
            (_, RowKind::Position) => &["side", "isCollateral", "market", "account"],
            // Without the indexes, on which all balances in a reserve depend.
            (_, RowKind::Reserve) => {
                &["price", "reserveLiquidationThreshold", "baseLTVasCollateral", "underlyingAsset", "name"]
            }
            (_, RowKind::UserReserve) => &["usageAsCollateralEnabledOnUser", "reserve", "user", "stableBorrowRate"],
        }
    }

    fn apply(self, fields: &mut Map<String, Value>, name: &str) {
        match self {
            RowDefect::WrongType => fields.insert(name.to_owned(), json!([{"not": "expected"}])),
            RowDefect::Null => fields.insert(name.to_owned(), Value::Null),
            RowDefect::UnknownEnum => fields.insert(name.to_owned(), json!("SOMETHING_ELSE")),
            RowDefect::MissingField => fields.shift_remove(name),
        };
    }
}

/// The kind of a row.
#[derive(Debug, Clone, Copy)]
enum RowKind {
    Event,
    Market,
    Position,
    /// A market in Aave's own schema.
    Reserve,
    /// The positions of a user in a market, in Aave's own schema.
    UserReserve,
}

/// The number of rows with each defect, by its name.
pub type DefectCounts = BTreeMap<&'static str, u64>;

/// Puts defects into the rows of a recording: each defect into `per_mille` of a thousand rows. Equal rows of several
/// days have equal defects.
pub fn add_row_defects(recording: &mut Recording, seed: u64, defects: &[RowDefect], per_mille: u64) -> DefectCounts {
    let mut injector = DefectInjector { seed, defects, per_mille, counts: DefectCounts::new() };
    for event in &mut recording.events {
        injector.apply(event, RowKind::Event);
    }
    let schemas = &recording.schemas;
    injector.apply_to_snapshots(&mut recording.markets, schemas, [RowKind::Market, RowKind::Reserve]);
    injector.apply_to_snapshots(&mut recording.positions, schemas, [RowKind::Position, RowKind::UserReserve]);
    injector.counts
}

struct DefectInjector<'a> {
    seed: u64,
    defects: &'a [RowDefect],
    per_mille: u64,
    counts: DefectCounts,
}

impl DefectInjector<'_> {
    /// Puts defects into rows, whose kind is the first one in Messari's schema and the second one in Aave's.
    fn apply_to_snapshots(
        &mut self,
        snapshots: &mut Snapshots,
        schemas: &BTreeMap<String, Schema>,
        kinds: [RowKind; 2],
    ) {
        for (protocol, blocks) in snapshots {
            let [messari, aave] = kinds;
            let kind = if schemas.get(protocol) == Some(&Schema::Aave) { aave } else { messari };
            for row in blocks.values_mut().flatten() {
                if let Some(mut fields) = row.as_object().cloned()
                    && self.apply(&mut fields, kind)
                {
                    *row = Row::from(Arc::new(Value::Object(fields)));
                }
            }
        }
    }

    /// Puts defects into a row if it is selected, and returns whether it was. The selection depends on the JSON of the
    /// row.
    fn apply(&mut self, row: &mut Map<String, Value>, kind: RowKind) -> bool {
        let json = Value::Object(row.clone()).to_string();
        let before = self.counts.values().sum::<u64>();
        for defect in self.defects {
            let random = random_number(self.seed, &[defect.name().as_bytes(), json.as_bytes()]);
            let fields = defect.fields(kind);
            let field = fields.get((random / 1000 % (fields.len() as u64).max(1)) as usize);
            if let Some(field) = field.filter(|_| random % 1000 < self.per_mille) {
                defect.apply(row, field);
                *self.counts.entry(defect.name()).or_default() += 1;
            }
        }
        self.counts.values().sum::<u64>() > before
    }
}
