//! The open positions of every account: one snapshot per day and protocol.

use std::sync::Arc;

use super::Timestamp;
use super::row::row;
use super::validity::{Reason, base_units, hex_bytes, required};
use crate::domain::{Address, BaseUnits, Side};

row! {
    /// A position from The Graph. Every value is the original string of the response.
    #[derive(serde::Serialize, Default)]
    pub struct RawPosition {
        /// Position id: `{account}-{market}-{side}[-{rate type}]-{counter}`. In Aave's own subgraph, a row is the supply and
        /// the debts of an account in a market: `{account}{token}{pool}`.
        pub id: Option<Arc<str>>,
        /// Balance in base units of the market's token; NULL from Aave's own subgraph.
        pub balance: Option<Arc<str>>,
        /// LENDER, COLLATERAL or BORROWER; NULL from Aave's own subgraph.
        pub side: Option<Arc<str>>,
        /// Whether the supply is enabled as collateral: true, false or NULL.
        pub is_collateral: Option<Arc<str>>,
        /// Market id.
        pub market_id: Option<Arc<str>>,
        /// Market name.
        pub market_name: Option<Arc<str>>,
        /// Account that owns the position.
        pub account_id: Option<Arc<str>>,
        /// From Messari's subgraph of Aave: the markets that the account uses as collateral, as JSON: `[{"id": …}, …]`.
        pub enabled_collaterals: Option<Arc<str>> = null_if_absent,
        /// From Aave's own subgraph: the supply, divided by the market's index.
        pub scaled_supply: Option<Arc<str>> = null_if_absent,
        /// From Aave's own subgraph: the debt at the variable rate, divided by the market's index.
        pub scaled_variable_debt: Option<Arc<str>> = null_if_absent,
        /// From Aave's own subgraph: the debt at a stable rate at `stable_debt_time`, in base units.
        pub stable_debt: Option<Arc<str>> = null_if_absent,
        /// From Aave's own subgraph: the yearly rate of that debt, with 27 decimals.
        pub stable_debt_rate: Option<Arc<str>> = null_if_absent,
        /// From Aave's own subgraph: when that debt last changed, in seconds since 1 January 1970 UTC.
        pub stable_debt_time: Option<Arc<str>> = null_if_absent,
        /// Protocol, such as `aave-v2-eth`.
        pub protocol: Arc<str>,
        /// Block that the snapshot is pinned to: the day's first.
        pub block_number: i64,
        /// Time of that block.
        pub block_timestamp: Timestamp,
    }
}

row! {
    /// A valid open position.
    pub struct StagedPosition {
        /// Account that owns the position, lower case.
        pub account_address: Address,
        /// Position id.
        pub id: Arc<str>,
        /// Market id (a contract address, lower case).
        pub market_id: Address,
        /// Market name.
        pub market_name: Option<Arc<str>>,
        /// LENDER (supplied) or BORROWER.
        pub side: Side,
        /// Balance in base units of the market's token, above 0.
        pub balance: BaseUnits,
        /// Whether the supply is enabled as collateral; NULL counts as not enabled.
        pub is_collateral: Option<bool>,
        /// Protocol, such as `aave-v2-eth`.
        pub protocol: Arc<str>,
        /// Block that the snapshot is pinned to.
        pub block_number: i64,
        /// Time of that block.
        pub block_timestamp: Timestamp,
        /// Time of that block, in seconds since 1 January 1970 UTC.
        pub epoch_timestamp: i64,
    }
}

row! {
    /// The columns of a position from which an account's health is computed.
    pub struct PositionBalanceRow {
        /// Account that owns the position.
        pub account_address: Address,
        /// Market id.
        pub market_id: Address,
        /// LENDER (supplied) or BORROWER.
        pub side: Side,
        /// Balance in base units of the market's token.
        pub balance: BaseUnits,
        /// Whether the supply is enabled as collateral.
        pub is_collateral: Option<bool>,
    }
}

impl StagedPosition {
    /// Validates and converts a raw row.
    ///
    /// # Errors
    /// The reason for which the row is rejected.
    pub fn from_raw(raw: &RawPosition) -> Result<Self, Reason> {
        let side = Side::parse(required("side", &raw.side)?).ok_or(Reason::new("side", "is unknown"))?;
        let balance = base_units("balance", &raw.balance)?;
        if balance.0 == 0 {
            return Err(Reason::new("balance", "is zero"));
        }
        let market_id = hex_bytes("market_id", &raw.market_id)?;
        Ok(StagedPosition {
            account_address: hex_bytes("account_id", &raw.account_id)?,
            id: Arc::from(required("id", &raw.id)?),
            market_id,
            market_name: raw.market_name.clone(),
            side,
            balance,
            is_collateral: is_collateral(raw, side, &market_id),
            protocol: raw.protocol.clone(),
            block_number: raw.block_number,
            block_timestamp: raw.block_timestamp,
            epoch_timestamp: raw.block_timestamp.0.div_euclid(1000),
        })
    }
}

/// Returns whether a supply is enabled as collateral. The list of the account's collaterals is right where there is one: the
/// flag of Aave's positions is not.
fn is_collateral(raw: &RawPosition, side: Side, market: &Address) -> Option<bool> {
    match &raw.enabled_collaterals {
        Some(enabled) if side == Side::Lender => Some(enabled.to_ascii_lowercase().contains(&format!("\"{market}\""))),
        _ => raw.is_collateral.as_deref().and_then(|text| text.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> RawPosition {
        let account = "0x2025A9196D6FA1011080845C6877F6460CDB302B";
        RawPosition {
            id: Some(format!("{account}-x-COLLATERAL-0").into()),
            balance: Some("5".into()),
            side: Some("COLLATERAL".into()),
            market_id: Some("0x4ddc2d193948926d02f9b1fe9e1daa0718270ed5".into()),
            account_id: Some(account.into()),
            protocol: "aave-v2-eth".into(),
            block_number: 1,
            block_timestamp: Timestamp(0),
            ..RawPosition::default()
        }
    }

    fn with_balance(balance: &str) -> Result<StagedPosition, Reason> {
        StagedPosition::from_raw(&RawPosition { balance: Some(balance.into()), ..raw() })
    }

    #[test]
    fn lender_and_collateral_are_the_same_side() {
        let lender = StagedPosition::from_raw(&RawPosition { side: Some("LENDER".into()), ..raw() }).unwrap();
        assert_eq!(lender.side, StagedPosition::from_raw(&raw()).unwrap().side);
        let lower_case = StagedPosition::from_raw(&RawPosition { side: Some("lender".into()), ..raw() });
        assert_eq!(lower_case.unwrap_err().to_string(), "side is unknown");
    }

    #[test]
    fn balance_must_be_a_positive_integer_below_10_to_the_38() {
        assert!(with_balance("1").is_ok());
        for (balance, reason) in
            [("0", "balance is zero"), ("-5", "balance is negative"), ("1.5", "balance is not an integer")]
        {
            assert_eq!(with_balance(balance).unwrap_err().to_string(), reason);
        }
        assert!(with_balance(&"9".repeat(39)).is_err());
    }

    #[test]
    fn invalid_is_collateral_becomes_null() {
        for (text, value) in [
            (Some("true"), Some(true)),
            (Some("false"), Some(false)),
            (Some("yes"), None),
            (Some("1"), None),
            (None, None),
        ] {
            let row = RawPosition { is_collateral: text.map(Arc::from), ..raw() };
            assert_eq!(StagedPosition::from_raw(&row).unwrap().is_collateral, value, "{text:?}");
        }
    }

    #[test]
    fn list_of_the_accounts_collaterals_precedes_the_flag_of_a_supply() {
        let market = "0x4DDC2d193948926d02f9b1fe9e1daa0718270ed5";
        for (side, flag, enabled, value) in [
            ("COLLATERAL", None, format!(r#"[{{"id":"{market}"}}]"#), Some(true)),
            ("COLLATERAL", Some("true"), "[]".to_owned(), Some(false)),
            ("COLLATERAL", Some("true"), format!(r#"[{{"id":"{market}00"}}]"#), Some(false)),
            ("BORROWER", Some("false"), format!(r#"[{{"id":"{market}"}}]"#), Some(false)),
        ] {
            let row = RawPosition {
                side: Some(side.into()),
                is_collateral: flag.map(Arc::from),
                enabled_collaterals: Some(enabled.into()),
                ..raw()
            };
            assert_eq!(StagedPosition::from_raw(&row).unwrap().is_collateral, value, "{row:?}");
        }
    }

    #[test]
    fn position_needs_an_id_and_well_formed_addresses() {
        for (row, reason) in [
            (RawPosition { id: None, ..raw() }, "id is missing"),
            (RawPosition { account_id: Some("0x1234".into()), ..raw() }, "account_id is malformed"),
            (RawPosition { market_id: None, ..raw() }, "market_id is missing"),
            (RawPosition { side: None, ..raw() }, "side is missing"),
            (RawPosition { balance: None, ..raw() }, "balance is missing"),
        ] {
            assert_eq!(StagedPosition::from_raw(&row).unwrap_err().to_string(), reason);
        }
    }

    #[test]
    fn addresses_become_lower_case_and_the_id_stays() {
        let row = RawPosition { block_timestamp: Timestamp::from_epoch_seconds(7), ..raw() };
        let position = StagedPosition::from_raw(&row).unwrap();
        assert_eq!(position.account_address.to_string(), "0x2025a9196d6fa1011080845c6877f6460cdb302b");
        assert_eq!(Some(position.id), raw().id);
        assert_eq!((position.balance, position.epoch_timestamp), (BaseUnits(5), 7));
    }
}
