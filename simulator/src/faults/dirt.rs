//! Rows that are wrong at their source, for good: what no second try mends.
//!
//! Only data that is wrong for good can be dirty in a way that is well-formed: a value that is wrong in one answer and right in
//! the next is one that no client can tell. So the dirt is on the rows before they are served, and every answer agrees on it.
//! The columns by which rows are asked for and put in order stay clean: a database holds no others.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::draw;
use crate::recording::{Recording, Row, Snapshots};

/// What can be wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dirt {
    /// A value of another type: a list for a number, an object for a name.
    WrongType,
    /// A null where there must be a value.
    Null,
    /// A word that the field's enum does not have.
    UnknownEnum,
    /// A field that is not there at all.
    MissingField,
}

impl Dirt {
    /// Every kind.
    pub const ALL: &[Dirt] = &[Dirt::WrongType, Dirt::Null, Dirt::UnknownEnum, Dirt::MissingField];

    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Dirt::WrongType => "wrong_type",
            Dirt::Null => "null",
            Dirt::UnknownEnum => "unknown_enum",
            Dirt::MissingField => "missing_field",
        }
    }

    /// The fields of a row that it can be on.
    fn fields(self, rows: Rows) -> &'static [&'static str] {
        match (self, rows) {
            (Dirt::UnknownEnum, Rows::Positions) => &["side"],
            // The category is an enum too, but rows are asked for by it.
            (Dirt::UnknownEnum, _) => &[],
            (_, Rows::Events) => {
                &["quantity", "token_address", "account_address", "sender_address", "transaction_hash"]
            }
            (_, Rows::Markets) => &["inputTokenPriceUSD", "liquidationThreshold", "maximumLTV", "inputToken", "name"],
            (_, Rows::Positions) => &["side", "isCollateral", "market", "account"],
        }
    }

    fn soil(self, fields: &mut Map<String, Value>, name: &str) {
        match self {
            Dirt::WrongType => fields.insert(name.to_owned(), json!([{"not": "expected"}])),
            Dirt::Null => fields.insert(name.to_owned(), Value::Null),
            Dirt::UnknownEnum => fields.insert(name.to_owned(), json!("SOMETHING_ELSE")),
            Dirt::MissingField => fields.shift_remove(name),
        };
    }
}

/// Which rows.
#[derive(Debug, Clone, Copy)]
enum Rows {
    Events,
    Markets,
    Positions,
}

/// How many rows have which kind of dirt.
pub type Soiled = std::collections::BTreeMap<&'static str, u64>;

/// Puts dirt on a recording's rows: on so many of a thousand each kind, and on a row that is there on many days on all of them.
pub fn soil(recording: &mut Recording, seed: u64, dirt: &[Dirt], per_mille: u64) -> Soiled {
    let mut brush = Brush { seed, dirt, per_mille, soiled: Soiled::new() };
    for event in &mut recording.events {
        brush.stroke(event, Rows::Events);
    }
    brush.strokes(&mut recording.markets, Rows::Markets);
    brush.strokes(&mut recording.positions, Rows::Positions);
    brush.soiled
}

struct Brush<'a> {
    seed: u64,
    dirt: &'a [Dirt],
    per_mille: u64,
    soiled: Soiled,
}

impl Brush<'_> {
    fn strokes(&mut self, snapshots: &mut Snapshots, kind: Rows) {
        let rows = snapshots.values_mut().flat_map(|blocks| blocks.values_mut()).flatten();
        for row in rows {
            if let Some(mut fields) = row.as_object().cloned()
                && self.stroke(&mut fields, kind)
            {
                *row = Row::from(Arc::new(Value::Object(fields)));
            }
        }
    }

    /// Soils a row, if it is drawn. The draw is of the row's own text.
    fn stroke(&mut self, row: &mut Map<String, Value>, kind: Rows) -> bool {
        let text = Value::Object(row.clone()).to_string();
        let before = self.soiled.values().sum::<u64>();
        for dirt in self.dirt {
            let draw = draw(self.seed, &[dirt.name().as_bytes(), text.as_bytes()]);
            let fields = dirt.fields(kind);
            let field = fields.get((draw / 1000 % (fields.len() as u64).max(1)) as usize);
            if let Some(field) = field.filter(|_| draw % 1000 < self.per_mille) {
                dirt.soil(row, field);
                *self.soiled.entry(dirt.name()).or_default() += 1;
            }
        }
        self.soiled.values().sum::<u64>() > before
    }
}
