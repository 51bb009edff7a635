//! Debts that never fall, as in Messari's subgraph of Aave v2: it adds what is borrowed to a position, and finds no position
//! from which it could subtract what is repaid.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::recording::{Recording, Row};

/// A debt: the row of its position, all that was borrowed, and what is really owed in the last snapshot.
struct Debt {
    row: Row,
    borrowed: i128,
    owed: i128,
}

/// Lets the debts of a protocol, whose rows are in Messari's schema, grow from snapshot to snapshot and never fall. What the
/// markets say of themselves stays right.
pub fn debts_never_fall(recording: &mut Recording, protocol: &str) {
    let mut debts: BTreeMap<(String, String), Debt> = BTreeMap::new();
    for rows in recording.positions.get_mut(protocol).into_iter().flat_map(BTreeMap::values_mut) {
        let (owed, mut kept): (Vec<Row>, Vec<Row>) =
            std::mem::take(rows).into_iter().partition(|row| row["side"] == "BORROWER");
        let mut owed: BTreeMap<_, _> = owed.into_iter().map(|row| (key(&row), row)).collect();
        for (key, debt) in &mut debts {
            let now = owed.remove(key).map_or(0, |row| balance(&row));
            debt.borrow(now);
        }
        for (key, row) in owed {
            let (borrowed, owed) = (balance(&row), balance(&row));
            debts.insert(key, Debt { row, borrowed, owed });
        }
        kept.extend(debts.values().map(|debt| Arc::clone(&debt.row)));
        kept.sort_by(|one, other| one["id"].as_str().cmp(&other["id"].as_str()));
        *rows = kept;
    }
}

impl Debt {
    /// Takes note of what is owed in the next snapshot. Rows are shared by snapshots as long as they are unchanged.
    fn borrow(&mut self, now: i128) {
        if now > self.owed {
            self.borrowed += now - self.owed;
            let mut row = Value::clone(&self.row);
            row["balance"] = Value::from(self.borrowed.to_string());
            self.row = Arc::new(row);
        }
        self.owed = now;
    }
}

/// Returns the account and the market of a position.
fn key(row: &Value) -> (String, String) {
    let id = |field: &str| row[field]["id"].as_str().unwrap_or_default().to_owned();
    (id("account"), id("market"))
}

fn balance(row: &Value) -> i128 {
    row["balance"].as_str().and_then(|balance| balance.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use defi_shared::config::Schema;

    use super::*;
    use crate::sample::{AAVE, SampleOptions, chain};

    #[test]
    fn debts_grow_and_never_fall() {
        let real =
            chain(&SampleOptions { wallets: 80, days: 20, seed: 2, ..SampleOptions::default() }, Schema::Messari)
                .unwrap();
        let mut wrong = real.clone();
        debts_never_fall(&mut wrong, AAVE);
        let debts = |recording: &Recording| -> Vec<BTreeMap<_, _>> {
            let debts = |rows: &Vec<Row>| {
                let debts = rows.iter().filter(|row| row["side"] == "BORROWER");
                debts.map(|row| (key(row), balance(row))).collect()
            };
            recording.positions[AAVE].values().map(debts).collect()
        };
        let (real, wrong) = (debts(&real), debts(&wrong));
        for day in wrong.windows(2) {
            assert!(day[0].iter().all(|(key, balance)| day[1][key] >= *balance));
        }
        let sum = |debts: &BTreeMap<_, i128>| debts.values().sum::<i128>();
        assert!(real.iter().zip(&wrong).all(|(real, wrong)| sum(real) <= sum(wrong)));
        let [real, wrong] = [real.last().unwrap(), wrong.last().unwrap()];
        let too_high = wrong.iter().filter(|(key, balance)| real.get(*key).is_none_or(|real| real < *balance));
        assert!(too_high.count() > 10, "debts are repaid");
    }
}
