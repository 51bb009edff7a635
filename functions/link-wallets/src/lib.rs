//! Links wallets to accounts: a borrow on behalf of another account links the sender to that account, from the time of
//! the borrow on.

use std::collections::BTreeMap;

use defi_shared::Result;
use defi_shared::domain::{Address, Link};
use defi_shared::lake::{FileMetadata, State, WorkUnit};
use defi_shared::pipeline::Step;
use defi_shared::step::history::{LINKS_PART, links};
use defi_shared::step::{CONCURRENT_UNITS, Context, Report, UnitInput};
use defi_shared::tables::{BorrowLinkRow, STAGE_BORROWS, WALLET_LINKS, WalletLink};

/// The step of this crate.
pub const STEP: Step = Step::LinkWallets;

/// Writes the links of each day that the input names or that is missing, and the links' state as of the as-of day.
///
/// # Errors
/// `NotReady` for a day whose borrows are not staged yet, and the errors of the lake.
pub async fn handle(context: Context, input: UnitInput) -> Result<Report> {
    let as_of = context.as_of(input.as_of)?;
    let units = context.units(STEP, &input).await?;
    let mut report = context.run_units(STEP, &units, CONCURRENT_UNITS, link).await?;
    context.registry.register(&WALLET_LINKS, &units).await?;
    if report.remaining.count == 0 {
        let rows = links(&context.lake, as_of, input.force).await?.sorted().into_iter().map(WalletLink::from);
        report = report.with_state(context.lake.write_state(State::Links, as_of, LINKS_PART, rows).await?);
    }
    context.finish_call(STEP, input.run_id.as_ref(), &units, report).await
}

async fn link(context: Context, unit: WorkUnit) -> Result<Report> {
    let borrows: Vec<BorrowLinkRow> = context.lake.require(&STAGE_BORROWS, &unit).await?;
    let rows = links_of(&borrows);
    let report = Report { rows_in: borrows.len() as u64, ..Report::default() };
    Ok(report.with_written(context.commit(&WALLET_LINKS, &unit, rows, FileMetadata::new()).await?))
}

/// Returns the links of a day's borrows, sorted by wallet and account, each valid from the time of its first borrow.
fn links_of(borrows: &[BorrowLinkRow]) -> Vec<WalletLink> {
    let mut since: BTreeMap<(Address, Address), i64> = BTreeMap::new();
    for borrow in borrows {
        let first = since.entry((borrow.sender_address, borrow.account_address)).or_insert(borrow.epoch_timestamp);
        *first = (*first).min(borrow.epoch_timestamp);
    }
    since.into_iter().map(|((wallet, account), since)| Link { account, wallet, since }.into()).collect()
}
