//! Rows of `ethereum.lending_events`, with the occasional defects of real data.

use defi_shared::error::Result;
use serde_json::{Map, Value, json};

use super::calendar::{Calendar, iso};
use super::protocols::{MARKETS, PROTOCOLS};
use super::rng::SeededRng;

/// The largest integer of the chain, which callers pass to mean the whole amount. It does not fit any decimal column.
const UINT256_MAX: &str = "115792089237316195423570985008687907853269984665640564039457584007913129639935";

// The interval, in events, of each defect. The offsets differ, so that the defects are in different events.
const DUPLICATE_EVERY: usize = 997;
const OVERFLOW_EVERY: usize = 1499;
const NULL_SENDER_EVERY: usize = 1201;
const MIXED_CASE_EVERY: usize = 389;

/// An event without a log index and a timestamp.
pub(super) struct EventDraft {
    /// The index of the block in its day.
    pub(super) block: u64,
    pub(super) transaction: String,
    pub(super) category: &'static str,
    pub(super) market: usize,
    pub(super) account: String,
    pub(super) sender: String,
    pub(super) quantity: u128,
    /// For a liquidation: the liquidator, the market of the debt and the repaid amount.
    pub(super) liquidation: Option<(String, usize, u128)>,
}

/// The rows so far, in block order.
pub(super) struct EventLog {
    rows: Vec<Map<String, Value>>,
    /// The number of events so far, without duplicates and overflowing repayments.
    count: usize,
    rng: SeededRng,
}

impl EventLog {
    pub(super) fn new(rng: SeededRng) -> EventLog {
        EventLog { rows: Vec::new(), count: 0, rng }
    }

    pub(super) fn into_rows(self) -> Vec<Map<String, Value>> {
        self.rows
    }

    /// Appends the events of a day.
    pub(super) fn write_day(&mut self, day: usize, mut drafts: Vec<EventDraft>, calendar: &Calendar) -> Result<()> {
        // The sort is stable: the events of a transaction keep their order.
        drafts.sort_by_key(|draft| draft.block);
        // Block index and log index of the last event.
        let mut last = (u64::MAX, 0);
        for draft in drafts {
            let Some(block) = calendar.block(day, draft.block) else { continue };
            let start = if last.0 == draft.block { last.1 } else { self.rng.below(150) };
            last = (draft.block, start + 1 + self.rng.below(9));
            let mut row = render(&draft, block.number, last.1, &iso(block.timestamp)?);
            self.count += 1;
            let overflow = (self.count % OVERFLOW_EVERY == 400).then(|| {
                last.1 += 1;
                overflowing_repayment(&row, last.1)
            });
            self.add_defects(&mut row);
            if self.count % DUPLICATE_EVERY == 131 {
                self.rows.push(row.clone());
            }
            self.rows.push(row);
            self.rows.extend(overflow);
        }
        Ok(())
    }

    fn add_defects(&mut self, row: &mut Map<String, Value>) {
        if self.count % NULL_SENDER_EVERY == 77 {
            row.insert("sender_address".to_owned(), Value::Null);
        }
        if self.count % MIXED_CASE_EVERY == 5 {
            for field in ["account_address", "sender_address", "market_address", "token_address"] {
                if let Some(Value::String(address)) = row.get_mut(field) {
                    *address = self.mixed_case(address);
                }
            }
        }
    }

    fn mixed_case(&mut self, address: &str) -> String {
        let case = |digit: char| if self.rng.per_mille(500) { digit.to_ascii_uppercase() } else { digit };
        let digits: String = address.chars().skip(2).map(case).collect();
        format!("0x{digits}")
    }
}

/// Returns a repayment of the whole amount, with the argument of the call instead of the repaid amount.
fn overflowing_repayment(row: &Map<String, Value>, log_index: u64) -> Map<String, Value> {
    let mut row = row.clone();
    row.insert("log_index".to_owned(), log_index.into());
    row.insert("category".to_owned(), "repay".into());
    row.insert("quantity".to_owned(), UINT256_MAX.into());
    for field in ["liquidator_address", "quantity_liquidated", "liquidated_token_address", "metadata"] {
        row.insert(field.to_owned(), Value::Null);
    }
    row
}

fn render(draft: &EventDraft, block: u64, log_index: u64, timestamp: &str) -> Map<String, Value> {
    let market = &MARKETS[draft.market];
    let liquidation = draft.liquidation.as_ref();
    let rate = draft.category == "borrow" && market.protocol == 0;
    let row = json!({
        "block_number": block,
        "log_index": log_index,
        "transaction_hash": draft.transaction,
        "timestamp": timestamp,
        "protocol_name": PROTOCOLS[market.protocol].name,
        "contract_version": "v2",
        "market_address": market.id,
        "token_address": market.token,
        "token_id": null,
        "category": draft.category,
        "account_address": draft.account,
        "quantity": draft.quantity.to_string(),
        "sender_address": draft.sender,
        "liquidator_address": liquidation.map(|(liquidator, _, _)| liquidator),
        "quantity_liquidated": liquidation.map(|(_, _, quantity)| quantity.to_string()),
        "liquidated_token_address": liquidation.map(|(_, market, _)| MARKETS[*market].token),
        "metadata": rate.then(|| json!({"interest_rate_mode": "variable"})),
    });
    match row {
        Value::Object(row) => row,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(block: u64, quantity: u128) -> EventDraft {
        EventDraft {
            block,
            transaction: format!("0x{quantity}"),
            category: "deposit",
            market: 0,
            account: "0xabcdef".to_owned(),
            sender: "0xabcdef".to_owned(),
            quantity,
            liquidation: None,
        }
    }

    #[test]
    fn events_are_in_block_order() {
        let calendar = Calendar::new(1, &mut SeededRng::new(0, 0)).unwrap();
        let mut log = EventLog::new(SeededRng::new(0, 1));
        log.write_day(0, vec![draft(9, 1), draft(3, 2), draft(9, 3)], &calendar).unwrap();
        let rows = log.into_rows();
        let quantities: Vec<_> = rows.iter().map(|row| row["quantity"].as_str().unwrap()).collect();
        assert_eq!(quantities, ["2", "1", "3"]);
        assert_eq!(rows[1]["block_number"], rows[2]["block_number"]);
        assert!(rows[1]["log_index"].as_u64() < rows[2]["log_index"].as_u64());
    }

    #[test]
    fn every_defect_occurs_at_its_interval() {
        let calendar = Calendar::new(1, &mut SeededRng::new(0, 0)).unwrap();
        let mut log = EventLog::new(SeededRng::new(0, 1));
        log.write_day(0, (0..1000).map(|index| draft(index % 900, u128::from(index) + 1)).collect(), &calendar)
            .unwrap();
        let rows = log.into_rows();
        assert_eq!(rows.len(), 1002);
        assert_eq!(rows.iter().filter(|row| row["quantity"] == UINT256_MAX).count(), 1);
        assert_eq!(rows.iter().filter(|row| row["sender_address"].is_null()).count(), 1);
        assert_eq!(rows.windows(2).filter(|pair| pair[0] == pair[1]).count(), 1);
        assert_eq!(rows.iter().filter(|row| row["account_address"] != "0xabcdef").count(), 3);
    }
}
