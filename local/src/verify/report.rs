//! What a comparison came to: as text, as JSON, and as an error if something differs.

use defi_shared::domain::Day;
use defi_shared::error::{Error, Kind, Result};
use serde::Serialize;

use super::compare::{LIMIT, Summary};
use crate::output::{self, line, table};

/// The result of the comparison of a day.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub as_of: Day,
    /// The day's first block.
    pub block_number: u64,
    /// The largest relative difference with which two values agree.
    pub limit: f64,
    pub protocols: Vec<ProtocolReport>,
    /// The protocols of the configuration that have no snapshot of the day.
    pub without_snapshot: Vec<String>,
}

/// The result of a protocol.
#[derive(Debug, Serialize)]
pub(super) struct ProtocolReport {
    pub protocol: String,
    /// The unit of the amounts: that of the protocol's oracle.
    pub unit: &'static str,
    /// The number of accounts with collateral or debt in the lake.
    pub accounts: usize,
    /// The number of accounts that were chosen.
    pub chosen: usize,
    /// The number of those that have neither collateral nor debt in the lake.
    pub chosen_without_health: usize,
    pub quantities: Vec<Summary>,
    /// The accounts with a value that differs by more than the limit.
    pub differing: Vec<String>,
    pub left_out: Vec<LeftOut>,
}

/// An account that could not be compared.
#[derive(Debug, Serialize)]
pub(super) struct LeftOut {
    pub account: String,
    pub reason: String,
}

impl Report {
    pub(super) fn print(&self, json: bool) -> Result<()> {
        if json {
            return output::json(self);
        }
        line(format_args!("as of {}, block {}", self.as_of, self.block_number))?;
        for protocol in &self.protocols {
            let ProtocolReport { protocol, accounts, chosen, chosen_without_health, .. } = protocol;
            let others = match chosen_without_health {
                0 => String::new(),
                number => format!(", and {number} that have neither in the lake"),
            };
            let compared = chosen - chosen_without_health;
            line(format_args!("{protocol}: {compared} of {accounts} accounts with collateral or debt{others}"))?;
        }
        for protocol in &self.without_snapshot {
            line(format_args!("{protocol}: the lake has no snapshot of the day"))?;
        }
        line("")?;
        self.table().print()?;
        self.print_exceptions()?;
        line("")?;
        match self.problem() {
            None => line(format_args!("all {} values agree to {LIMIT:e}", self.values())),
            Some(problem) => line(problem),
        }
    }

    fn table(&self) -> output::TextTable {
        let header = ["protocol", "quantity", "compared", "differing", "digits", "worst account", "lake", "contract"];
        let mut table = table(&header, 2, 5);
        table.align_right(6);
        table.align_right(7);
        for protocol in &self.protocols {
            for summary in &protocol.quantities {
                let Summary { quantity, compared, differing, digits, worst } = summary;
                table.add_row([
                    protocol.protocol.as_str(),
                    &if quantity.is_amount() {
                        format!("{} {}", quantity.name(), protocol.unit)
                    } else {
                        quantity.name().to_owned()
                    },
                    &compared.to_string(),
                    &differing.to_string(),
                    &digits.to_string(),
                    &worst.account,
                    &format!("{:?}", worst.lake),
                    &format!("{:?}", worst.contract),
                ]);
            }
        }
        table
    }

    fn print_exceptions(&self) -> Result<()> {
        for protocol in &self.protocols {
            for account in &protocol.differing {
                line(format_args!("differs: {} {account}", protocol.protocol))?;
            }
            for LeftOut { account, reason } in &protocol.left_out {
                line(format_args!("left out: {} {account}: {reason}", protocol.protocol))?;
            }
        }
        Ok(())
    }

    /// Returns the number of values that were compared.
    fn values(&self) -> usize {
        self.summaries().map(|summary| summary.compared).sum()
    }

    fn summaries(&self) -> impl Iterator<Item = &Summary> {
        self.protocols.iter().flat_map(|protocol| &protocol.quantities)
    }

    /// Returns what is wrong. `None` if every value agrees, and each protocol with accounts has values.
    fn problem(&self) -> Option<String> {
        let differing: usize = self.summaries().map(|summary| summary.differing).sum();
        if differing > 0 {
            return Some(format!("{differing} of {} values differ by more than {LIMIT:e}", self.values()));
        }
        let is_uncompared = |protocol: &&ProtocolReport| protocol.chosen > 0 && protocol.quantities.is_empty();
        let uncompared = self.protocols.iter().find(is_uncompared)?;
        Some(format!("no account of {} could be compared", uncompared.protocol))
    }

    /// Returns an error unless all values agree.
    ///
    /// # Errors
    /// `QualityFailed` that names the account with the largest difference.
    pub(super) fn require_agreement(&self) -> Result<()> {
        let Some(problem) = self.problem() else { return Ok(()) };
        let mut error = Error::new(Kind::QualityFailed, format!("the lake and the contracts: {problem}"))
            .with("as_of", self.as_of)
            .with_hint(
                "a lake that the APIs filled is never exact; of one that a node filled, please report it as a defect",
            );
        let worst = |a: &&Summary, b: &&Summary| a.worst.difference.total_cmp(&b.worst.difference);
        if let Some(summary) = self.summaries().filter(|summary| summary.differing > 0).max_by(worst) {
            error = error.with("worst_account", &summary.worst.account).with("quantity", summary.quantity.name());
        }
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::super::compare::{Quantity, Worst};
    use super::*;

    fn summary(quantity: Quantity, differing: usize, difference: f64) -> Summary {
        let worst = Worst { account: format!("0x{differing}"), lake: 1.0, contract: 2.0, difference };
        Summary { quantity, compared: 10, differing, digits: 3, worst }
    }

    fn report(quantities: Vec<Summary>) -> Report {
        let protocol = ProtocolReport {
            protocol: "aave-v2-eth".to_owned(),
            unit: "ETH",
            accounts: 20,
            chosen: 10,
            chosen_without_health: 1,
            quantities,
            differing: Vec::new(),
            left_out: Vec::new(),
        };
        let as_of = Day::from_epoch_days(18_000);
        Report { as_of, block_number: 7, limit: LIMIT, protocols: vec![protocol], without_snapshot: Vec::new() }
    }

    #[test]
    fn differing_values_are_an_error_that_names_the_worst_account() {
        let agreeing = report(vec![summary(Quantity::Debt, 0, 1e-7), summary(Quantity::Collateral, 0, 0.0)]);
        assert!(agreeing.require_agreement().is_ok());
        assert_eq!(agreeing.values(), 20);
        let differing = report(vec![summary(Quantity::Debt, 2, 0.1), summary(Quantity::Available, 1, 0.2)]);
        let error = differing.require_agreement().unwrap_err();
        assert_eq!(error.kind(), Kind::QualityFailed);
        let text = error.to_string();
        assert!(text.contains("3 of 20 values") && text.contains("worst_account=0x1, quantity=available"), "{text}");
    }

    #[test]
    fn protocol_of_which_nothing_could_be_compared_is_an_error() {
        let error = report(Vec::new()).require_agreement().unwrap_err();
        assert!(error.to_string().contains("no account of aave-v2-eth could be compared"), "{error}");
        let mut empty = report(Vec::new());
        empty.protocols[0].chosen = 0;
        assert!(empty.require_agreement().is_ok(), "there is no account");
    }
}
