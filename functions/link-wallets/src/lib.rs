//! Which accounts a wallet acts through: a borrow for another account links the sender to it, from its time on.

use std::collections::BTreeMap;

use defi_shared::Result;
use defi_shared::domain::{Address, Day, Link};
use defi_shared::lake::{Facts, State, Unit};
use defi_shared::step::history::{ALL_LINKS, links_before};
use defi_shared::step::{Context, DayInput, Report, UNITS_AT_ONCE};
use defi_shared::tables::{LinkingBorrow, STAGE_BORROWS, WALLET_LINKS, WalletLink};

/// The step's name.
pub const STEP: &str = "link-wallets";

/// Makes the links of each day that is missing, or that the input names, and keeps the links so far as of the as_of day.
///
/// # Errors
/// `NotReady` for a day whose borrows are not staged yet, and the lake's errors.
pub async fn handle(context: Context, input: DayInput) -> Result<Report> {
    let as_of = context.as_of(input.as_of)?;
    let days = context.days(&input, |plan| plan.links).await?;
    let report = context.run_units(STEP, &days, UNITS_AT_ONCE, link).await?;
    let units: Vec<_> = days.iter().copied().map(Unit::Day).collect();
    context.registry.register(&WALLET_LINKS, &units).await?;
    if report.remaining.units.count == 0 {
        let links = links_before(&context.lake, as_of).await?;
        let rows = links.in_order().into_iter().map(WalletLink::from);
        context.lake.keep_state(State::Links, as_of, ALL_LINKS, rows).await?;
    }
    context.keep_report(input.run_id.as_ref(), STEP, &days, &report).await?;
    Ok(report)
}

async fn link(context: Context, day: Day) -> Result<Report> {
    let unit = Unit::Day(day);
    let borrows: Vec<LinkingBorrow> = context.lake.require(&STAGE_BORROWS, &unit).await?;
    let rows = links_of(&borrows);
    let report = Report { rows_in: borrows.len() as u64, ..Report::default() };
    Ok(report.wrote(context.lake.write(&WALLET_LINKS, &unit, rows, Facts::new()).await?))
}

/// The day's links, each from its first borrow on, by wallet and account.
fn links_of(borrows: &[LinkingBorrow]) -> Vec<WalletLink> {
    let mut since: BTreeMap<(Address, Address), i64> = BTreeMap::new();
    for borrow in borrows {
        let first = since.entry((borrow.sender_address, borrow.account_address)).or_insert(borrow.epoch_timestamp);
        *first = (*first).min(borrow.epoch_timestamp);
    }
    since.into_iter().map(|((wallet, account), since)| Link { account, wallet, since }.into()).collect()
}
