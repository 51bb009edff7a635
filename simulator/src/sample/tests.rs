//! Tests of the sample chain as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::*;
use crate::recording::Row;
use defi_shared::error::Kind;

fn default_chain() -> Recording {
    chain(&SampleOptions::default(), Schema::Messari).unwrap()
}

fn text<'a>(row: &'a Map<String, Value>, field: &str) -> &'a str {
    row[field].as_str().unwrap()
}

/// Returns a text of the whole chain, to compare chains.
fn debug_text(chain: &Recording) -> String {
    format!("{chain:?}")
}

#[test]
fn equal_options_give_equal_chains() {
    let options = SampleOptions { wallets: 40, days: 12, seed: 5, ..SampleOptions::default() };
    let one = debug_text(&chain(&options, Schema::Aave).unwrap());
    assert_eq!(one, debug_text(&chain(&options, Schema::Aave).unwrap()));
    assert_ne!(one, debug_text(&chain(&SampleOptions { seed: 6, ..options }, Schema::Aave).unwrap()));
}

/// Returns a digest of the events and the snapshots.
fn digest(chain: &Recording) -> String {
    let mut digest = Sha256::new();
    for event in &chain.events {
        digest.update(serde_json::to_vec(event).unwrap());
    }
    let snapshots = [&chain.markets, &chain.positions].into_iter().flat_map(|all| all.values());
    for row in snapshots.flat_map(|blocks| blocks.values()).flatten() {
        digest.update(row.to_string());
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The chain must not change with the machine or the release of a library, because the documentation and other tests
/// contain values of it. A change of the simulation changes this digest.
#[test]
fn chains_have_the_recorded_digests() {
    let mixed = SampleOptions { wallets: 60, days: 20, ..SampleOptions::default() };
    let credit = SampleOptions { wallets: 60, days: 60, ..SampleOptions::of(Scenario::Credit) };
    let digest_of = |options| digest(&chain(options, Schema::Aave).unwrap());
    assert_eq!(digest_of(&mixed), "820342a72cbcfa0f8da5dd22b3733774d314d77a2d626ada21f39ba938a4ccbd");
    assert_eq!(digest_of(&credit), "ae262f3f9031cfead5781674660d62137220060126277e2e372dad490dc03575");
}

#[test]
fn every_day_has_a_snapshot() {
    let chain = default_chain();
    assert_eq!((chain.first_day.as_str(), chain.last_day.as_str()), ("2023-01-01", "2023-02-15"));
    let blocks: Vec<u64> = chain.blocks.iter().map(|block| block.number).collect();
    assert_eq!(blocks.len(), 46);
    for protocol in &chain.protocols {
        assert_eq!(chain.markets[protocol].keys().copied().collect::<Vec<_>>(), blocks);
        assert_eq!(chain.positions[protocol].keys().copied().collect::<Vec<_>>(), blocks);
        assert!(chain.positions[protocol][&blocks[0]].is_empty());
        assert!(chain.positions[protocol][&blocks[45]].len() > 100);
        assert!(chain.positions[protocol][&blocks[45]].is_sorted_by_key(|row| row["id"].as_str().unwrap().to_owned()));
    }
}

/// Computes balances from the events before a block, by account, token and whether it is a debt.
fn balances(chain: &Recording, block: u64) -> BTreeMap<(String, String, bool), i128> {
    let mut sums = BTreeMap::new();
    let mut last = None;
    for row in chain.events.iter().filter(|row| row["block_number"].as_u64().unwrap() < block) {
        // Duplicates are skipped, as are quantities above 38 digits, which the simulation does not apply.
        if last == Some(row) || text(row, "quantity").len() > 38 {
            continue;
        }
        last = Some(row);
        let account = format!("{}/{}", text(row, "protocol_name"), text(row, "account_address").to_lowercase());
        let token = text(row, "token_address").to_lowercase();
        let quantity: i128 = text(row, "quantity").parse().unwrap();
        let mut add = |token: String, is_debt: bool, amount: i128| {
            *sums.entry((account.clone(), token, is_debt)).or_insert(0) += amount;
        };
        match text(row, "category") {
            "deposit" => add(token, false, quantity),
            "withdraw" => add(token, false, -quantity),
            "borrow" => add(token, true, quantity),
            "repay" => add(token, true, -quantity),
            _ => {
                add(token, false, -quantity);
                let repaid: i128 = text(row, "quantity_liquidated").parse().unwrap();
                add(text(row, "liquidated_token_address").to_owned(), true, -repaid);
            }
        }
    }
    sums.retain(|_, sum| *sum != 0);
    sums
}

#[test]
fn positions_match_the_events_before_their_block() {
    let chain = default_chain();
    let tokens: BTreeMap<&str, &str> = protocols::MARKETS.iter().map(|market| (market.id, market.token)).collect();
    for block in [chain.blocks[1].number, chain.blocks[20].number, chain.blocks[45].number] {
        let from_events = balances(&chain, block);
        let mut from_positions = BTreeMap::new();
        for (protocol, snapshots) in &chain.positions {
            let name = protocol.split('-').next().unwrap();
            for row in &snapshots[&block] {
                let account = format!("{name}/{}", row["account"]["id"].as_str().unwrap());
                let token = tokens[row["market"]["id"].as_str().unwrap()].to_owned();
                let balance: i128 = row["balance"].as_str().unwrap().trim_start_matches('-').parse().unwrap();
                from_positions.insert((account, token, row["side"] == "BORROWER"), balance);
            }
        }
        assert!(from_positions.len() > 20);
        // Transfers move a supply without an event: the balances of two accounts differ, but the total of the token
        // does not. Interest of 45 days adds up to two percent to most balances of Aave, more to what is left of a debt.
        let is_equal = |balance: i128, events: i128, is_aave: bool| match is_aave {
            true => (0..=events.abs() / 50 + 2).contains(&(balance - events + 2)),
            false => balance == events,
        };
        let of_events = |key| from_events.get(key).copied().unwrap_or_default();
        let differing = from_positions
            .iter()
            .filter(|(key, balance)| !is_equal(**balance, of_events(*key), key.0.starts_with("aave")));
        let differing = differing.count();
        assert!(differing * 25 < from_positions.len(), "{differing} of {}", from_positions.len());
        let totals = |balances: &BTreeMap<(String, String, bool), i128>| {
            let mut totals = BTreeMap::new();
            for ((account, token, is_debt), balance) in balances {
                let protocol = account.split('/').next().unwrap().to_owned();
                *totals.entry((protocol, token.clone(), *is_debt)).or_insert(0) += balance;
            }
            totals
        };
        let [events, positions] = [totals(&from_events), totals(&from_positions)];
        assert_eq!(events.keys().collect::<Vec<_>>(), positions.keys().collect::<Vec<_>>());
        for (key, total) in &events {
            // Each repayment of a whole debt pays its interest, too, so the sum of the events is below the debts.
            let is_aave = key.0 == "aave";
            assert!(is_equal(positions[key], *total, is_aave) || is_aave && positions[key] > *total, "{key:?}");
        }
    }
}

#[test]
fn totals_of_markets_are_the_sums_of_their_positions() {
    let chain = default_chain();
    for block in [chain.blocks[0].number, chain.blocks[20].number, chain.blocks[45].number] {
        for (protocol, snapshots) in &chain.positions {
            for market in &chain.markets[protocol][&block] {
                let number = |field: &str| market[field].as_str().unwrap().parse::<f64>().unwrap();
                let scale = 10f64.powi(market["inputToken"]["decimals"].as_i64().unwrap() as i32);
                for (field, is_debt) in [("totalDepositBalanceUSD", false), ("totalBorrowBalanceUSD", true)] {
                    let rows = snapshots[&block].iter();
                    let rows = rows.filter(|row| row["market"]["id"] == market["id"]);
                    let rows = rows.filter(|row| (row["side"] == "BORROWER") == is_debt);
                    // The sign is one of the chain's defects.
                    let balance = |row: &Row| row["balance"].as_str().unwrap().parse::<f64>().unwrap().abs();
                    let usd = rows.map(balance).sum::<f64>() / scale * number("inputTokenPriceUSD");
                    assert!((number(field) - usd).abs() <= 1e-9 * usd, "{usd} in {market}");
                }
            }
        }
    }
}

#[test]
fn liquidations_seize_collateral_tokens() {
    let chain = default_chain();
    let liquidations: Vec<_> = chain.events.iter().filter(|row| row["category"] == "liquidation").collect();
    assert!(liquidations.len() >= 20, "{}", liquidations.len());
    for protocol in ["aave", "compound"] {
        assert!(liquidations.iter().any(|row| row["protocol_name"] == protocol));
    }
    for row in liquidations {
        let market = text(row, "market_address").to_lowercase();
        let market = protocols::MARKETS.iter().find(|listed| listed.id == market).unwrap();
        assert!(market.threshold > 0.0 && market.token == text(row, "token_address").to_lowercase());
        assert!(row["liquidator_address"].is_string() && row["liquidated_token_address"].is_string());
        assert_ne!(row["account_address"], row["sender_address"]);
    }
}

#[test]
fn chain_has_all_categories_and_edge_cases() {
    let chain = default_chain();
    let categories: BTreeSet<_> = chain.events.iter().map(|row| text(row, "category")).collect();
    assert_eq!(categories.into_iter().collect::<Vec<_>>(), ["borrow", "deposit", "liquidation", "repay", "withdraw"]);
    let through_proxy = |row: &&Map<String, Value>| {
        row["category"] == "borrow"
            && row["sender_address"].is_string()
            && row["sender_address"] != row["account_address"]
    };
    assert!(chain.events.iter().filter(through_proxy).count() > 20);
    let first_blocks: BTreeSet<_> = chain.blocks.iter().map(|block| block.number).collect();
    let in_first_block = |row: &&Map<String, Value>| first_blocks.contains(&row["block_number"].as_u64().unwrap());
    assert!(chain.events.iter().any(|row| in_first_block(&row)));
    let last = chain.blocks[45].number;
    assert!(chain.events.iter().any(|row| row["block_number"].as_u64().unwrap() >= last));
}

#[test]
fn every_defect_occurs_but_rarely() {
    let chain = default_chain();
    let count = |is: &dyn Fn(&Map<String, Value>) -> bool| chain.events.iter().filter(|row| is(row)).count();
    let duplicates = chain.events.windows(2).filter(|pair| pair[0] == pair[1]).count();
    let overflows = count(&|row| text(row, "quantity").len() > 38);
    let without_sender = count(&|row| row["sender_address"].is_null());
    let mixed_case = count(&|row| text(row, "account_address").bytes().any(|digit| digit.is_ascii_uppercase()));
    let priced: BTreeSet<_> =
        protocols::MARKETS.iter().filter(|market| market.listed).map(|market| market.token).collect();
    let unpriced = count(&|row| !priced.contains(text(row, "token_address").to_lowercase().as_str()));
    let defects = [duplicates, overflows, without_sender, mixed_case, unpriced];
    assert!(defects.iter().all(|count| *count > 0), "{defects:?}");
    assert!(defects.iter().sum::<usize>() * 100 < chain.events.len(), "{defects:?} of {}", chain.events.len());

    let positions: Vec<_> = chain.positions.values().flat_map(|blocks| blocks.values().flatten()).collect();
    let negative = positions.iter().filter(|row| row["balance"].as_str().unwrap().starts_with('-')).count();
    let without_flag = positions.iter().filter(|row| row["isCollateral"].is_null()).count();
    assert!(negative > 0 && without_flag > 0, "{negative} {without_flag}");
    assert!((negative + without_flag) * 100 < positions.len(), "{negative} {without_flag} of {}", positions.len());
    let markets = chain.markets.values().flat_map(|blocks| blocks.values().flatten());
    assert_eq!(markets.filter(|row| row["inputTokenPriceUSD"] == "0").count(), 1);
}

#[test]
fn chain_size_must_be_within_limits() {
    let smallest = SampleOptions { wallets: 1, days: 1, seed: 0, ..SampleOptions::default() };
    assert_eq!(chain(&smallest, Schema::Aave).unwrap().blocks.len(), 2);
    for invalid in [
        SampleOptions { wallets: 0, ..smallest },
        SampleOptions { days: 0, ..smallest },
        SampleOptions { wallets: u32::MAX, ..smallest },
        SampleOptions { days: u32::MAX, ..smallest },
    ] {
        assert_eq!(chain(&invalid, Schema::Aave).unwrap_err().kind(), Kind::BadInput, "{invalid:?}");
    }
}

/// A credit chain of fewer wallets.
fn credit_chain() -> &'static Recording {
    static CHAIN: OnceLock<Recording> = OnceLock::new();
    let options = SampleOptions { wallets: 150, ..SampleOptions::of(Scenario::Credit) };
    CHAIN.get_or_init(|| chain(&options, Schema::Aave).unwrap())
}

/// Returns the days of the events of a category, from the first day of the chain, by the account in lower case.
fn days_by_account(chain: &Recording, category: &str) -> BTreeMap<String, Vec<usize>> {
    let mut days: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for row in chain.events.iter().filter(|row| row["category"] == category) {
        let block = row["block_number"].as_u64().unwrap();
        let day = chain.blocks.partition_point(|first| first.number <= block) - 1;
        days.entry(text(row, "account_address").to_lowercase()).or_default().push(day);
    }
    days
}

#[test]
fn credit_chain_is_another_one_with_the_same_seed() {
    let options = SampleOptions { wallets: 20, ..SampleOptions::of(Scenario::Credit) };
    let one = debug_text(&chain(&options, Schema::Aave).unwrap());
    assert_eq!(one, debug_text(&chain(&options, Schema::Aave).unwrap()));
    let mixed = SampleOptions { scenario: Scenario::Mixed, ..options };
    assert_ne!(one, debug_text(&chain(&mixed, Schema::Aave).unwrap()));
    assert_eq!(options.to_string(), "the credit sample chain of 20 wallets, 210 days and seed 1");
    assert_eq!(mixed.to_string(), "the sample chain of 20 wallets, 210 days and seed 1");
}

/// Long enough for a training period, a gap of a horizon, a test period and another horizon without labels.
#[test]
fn credit_chain_has_borrows_over_months() {
    let chain = credit_chain();
    assert!(chain.blocks.len() > 180, "{}", chain.blocks.len());
    let borrows: Vec<usize> = days_by_account(chain, "borrow").into_values().flatten().collect();
    for start in (0..chain.blocks.len() - 30).step_by(30) {
        let of_month = borrows.iter().filter(|day| (start..start + 30).contains(*day)).count();
        assert!(of_month >= 30, "{of_month} borrows in the 30 days from {start}");
    }
}

#[test]
fn credit_wallets_deposit_before_they_borrow() {
    let chain = credit_chain();
    let deposits = days_by_account(chain, "deposit");
    let borrows = days_by_account(chain, "borrow");
    assert!(borrows.len() > 100, "{}", borrows.len());
    for (account, days) in borrows {
        assert!(deposits[&account][0] < days[0], "{account}: {} and {}", deposits[&account][0], days[0]);
    }
}

/// Liquidations are many, and spread over the months and over the wallets. Most of those who were liquidated once are careful
/// afterwards.
#[test]
fn credit_wallets_are_liquidated_again_and_again_but_not_all() {
    let chain = credit_chain();
    let borrowers = days_by_account(chain, "borrow").len();
    let liquidated = days_by_account(chain, "liquidation");
    assert!((borrowers / 5..borrowers * 3 / 4).contains(&liquidated.len()), "{} of {borrowers}", liquidated.len());
    for start in (30..chain.blocks.len() - 60).step_by(60) {
        let is_within = |day: &usize| (start..start + 60).contains(day);
        let of_months = liquidated.values().filter(|days| days.iter().any(is_within)).count();
        assert!(of_months >= 5, "{of_months} wallets in the 60 days from {start}");
    }
    let again = liquidated.values().filter(|days| days.iter().any(|day| *day > days[0] + 30)).count();
    assert!(again > 0 && again * 2 < liquidated.len(), "{again} of {}", liquidated.len());
}
