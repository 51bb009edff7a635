//! Lending markets with their prices: one snapshot per day and protocol.

use std::sync::Arc;

use super::Timestamp;
use super::row::row;
use super::validity::{Reason, hex_bytes, integer, required};
use crate::domain::Address;
use crate::domain::price::{Market, PriceUnit};

row! {
    /// A market from The Graph. Every value is the original string of the response.
    #[derive(serde::Serialize, Default)]
    pub struct RawMarket {
        /// Market id (a contract address).
        pub id: Option<Arc<str>>,
        /// Market name.
        pub name: Option<Arc<str>>,
        /// Maximum loan to value, in percent.
        pub maximum_ltv: Option<Arc<str>>,
        /// Liquidation threshold, in percent.
        pub liquidation_threshold: Option<Arc<str>>,
        /// Price of one whole input token in USD.
        pub input_token_price_usd: Option<Arc<str>>,
        /// Value of all supplies in the market in USD, as the market says.
        pub total_deposit_balance_usd: Option<Arc<str>> = null_if_absent,
        /// Value of all debts in the market in USD, as the market says.
        pub total_borrow_balance_usd: Option<Arc<str>> = null_if_absent,
        /// Address of the token that is lent in the market.
        pub input_token_id: Option<Arc<str>>,
        /// Symbol of that token.
        pub input_token_symbol: Option<Arc<str>>,
        /// Decimals of that token.
        pub input_token_decimals: Option<Arc<str>>,
        /// Unit of the price: USD or ETH. NULL is USD.
        pub price_unit: Option<Arc<str>> = null_if_absent,
        /// From a node: lent tokens per unit of the market's own token. Aave: the normalized income, with 27 decimals.
        /// Compound: the exchange rate, with 18 decimals. From Aave's own subgraph: the liquidity index at
        /// `index_time`.
        pub supply_index: Option<Arc<str>> = null_if_absent,
        /// From a node: the index with which debts grow. Aave: the normalized variable debt, with 27 decimals. Compound: the
        /// borrow index. From Aave's own subgraph: the variable borrow index at `index_time`.
        pub debt_index: Option<Arc<str>> = null_if_absent,
        /// From a node: the sum of all supplies, in units of the market's own token.
        pub own_token_supply: Option<Arc<str>> = null_if_absent,
        /// From a node or Aave's own subgraph: the sum of all debts. Aave: of the scaled debts at the variable rate.
        /// Compound: in base units.
        pub total_debt: Option<Arc<str>> = null_if_absent,
        /// From a node: Aave's token of debts at a stable rate.
        pub stable_debt_token: Option<Arc<str>> = null_if_absent,
        /// From a node: Aave's token of debts at the variable rate.
        pub variable_debt_token: Option<Arc<str>> = null_if_absent,
        /// From Aave's own subgraph: the yearly rate of supplies since `index_time`, with 27 decimals.
        pub supply_rate: Option<Arc<str>> = null_if_absent,
        /// From Aave's own subgraph: the yearly variable rate of debts since `index_time`, with 27 decimals.
        pub debt_rate: Option<Arc<str>> = null_if_absent,
        /// From Aave's own subgraph: when the indexes were stored, in seconds since 1 January 1970 UTC.
        pub index_time: Option<Arc<str>> = null_if_absent,
        /// From Aave's own subgraph: the sum of all supplies at `index_time`, in base units, with those of the pool's treasury.
        pub total_supply: Option<Arc<str>> = null_if_absent,
        /// From Aave's own subgraph: what was ever minted to the pool's treasury, in base units. No user's balance has it.
        pub treasury_mints: Option<Arc<str>> = null_if_absent,
        /// From Aave's own subgraph: when it last saw the price change, in seconds since 1 January 1970 UTC.
        pub price_time: Option<Arc<str>> = null_if_absent,
        /// Protocol, such as `aave-v2-eth`.
        pub protocol: Arc<str>,
        /// Block that the snapshot is pinned to: the day's first.
        pub block_number: i64,
        /// Time of that block.
        pub block_timestamp: Timestamp,
    }
}

row! {
    /// A valid market in a day's snapshot.
    pub struct StagedMarket {
        /// Market id (a contract address, lower case).
        pub market_id: Address,
        /// Market name.
        pub name: Option<Arc<str>>,
        /// Address of the token that is lent in the market.
        pub input_token_address: Address,
        /// Symbol of that token.
        pub input_token_symbol: Option<Arc<str>>,
        /// Decimals of that token, 0 to 77.
        pub input_token_decimals: i32,
        /// Price of one whole token as the source has it, in `price_unit`; zero, negative or NULL is no price.
        pub input_token_price_usd: Option<f64>,
        /// Unit of the price: USD or ETH. NULL is USD.
        pub price_unit: Option<Arc<str>> = null_if_absent,
        /// Value of all supplies in the market in USD, as the market says; NULL where the source does not say it.
        pub total_deposit_balance_usd: Option<f64> = null_if_absent,
        /// Value of all debts in the market in USD, as the market says; NULL where the source does not say it.
        pub total_borrow_balance_usd: Option<f64> = null_if_absent,
        /// Maximum loan to value, a fraction; 0 where the source has none.
        pub maximum_ltv: f64,
        /// Liquidation threshold, a fraction; 0 where the source has none.
        pub liquidation_threshold: f64,
        /// Protocol, such as `aave-v2-eth`.
        pub protocol: Arc<str>,
        /// Block that the snapshot is pinned to: the day's first.
        pub block_number: i64,
        /// Time of that block.
        pub block_timestamp: Timestamp,
        /// Time of that block, in seconds since 1 January 1970 UTC.
        pub epoch_timestamp: i64,
    }
}

/// The maximum number of decimals of a token: 10^78 does not fit in a uint256.
const MAX_DECIMALS: i64 = 77;

impl StagedMarket {
    /// Validates and converts a raw row.
    ///
    /// # Errors
    /// The reason for which the row is rejected.
    pub fn from_raw(raw: &RawMarket) -> Result<Self, Reason> {
        let decimals = integer("input_token_decimals", &raw.input_token_decimals)?;
        if !(0..=MAX_DECIMALS).contains(&decimals) {
            return Err(Reason::new("input_token_decimals", "is not from 0 to 77"));
        }
        Ok(StagedMarket {
            market_id: hex_bytes("id", &raw.id)?,
            name: raw.name.clone(),
            input_token_address: hex_bytes("input_token_id", &raw.input_token_id)?,
            input_token_symbol: raw.input_token_symbol.clone(),
            input_token_decimals: i32::try_from(decimals)
                .map_err(|_| Reason::new("input_token_decimals", "is too large"))?,
            input_token_price_usd: number(&raw.input_token_price_usd),
            price_unit: price_unit(raw)?,
            total_deposit_balance_usd: number(&raw.total_deposit_balance_usd),
            total_borrow_balance_usd: number(&raw.total_borrow_balance_usd),
            maximum_ltv: number(&raw.maximum_ltv).unwrap_or(0.0) / 100.0,
            liquidation_threshold: number(&raw.liquidation_threshold).unwrap_or(0.0) / 100.0,
            protocol: raw.protocol.clone(),
            block_number: raw.block_number,
            block_timestamp: raw.block_timestamp,
            epoch_timestamp: raw.block_timestamp.0.div_euclid(1000),
        })
    }

    /// Returns the fields from which prices are computed. The price of `wrapped_ether` is the price of ETH.
    #[must_use]
    pub fn market(&self, wrapped_ether: &Address) -> Market {
        Market {
            id: self.market_id,
            token: self.input_token_address,
            decimals: self.input_token_decimals,
            price: self.input_token_price_usd,
            unit: PriceUnit::parse(self.price_unit.as_deref()).unwrap_or_default(),
            is_eth: self.input_token_address == *wrapped_ether || self.input_token_address.is_native_eth(),
            maximum_ltv: self.maximum_ltv,
            liquidation_threshold: self.liquidation_threshold,
        }
    }
}

/// Returns the unit of the price.
fn price_unit(raw: &RawMarket) -> Result<Option<Arc<str>>, Reason> {
    match PriceUnit::parse(raw.price_unit.as_deref()) {
        Some(_) => Ok(raw.price_unit.clone()),
        None => Err(Reason::new("price_unit", "is unknown")),
    }
}

/// Parses a finite number. Any other string is treated as missing.
fn number(text: &Option<Arc<str>>) -> Option<f64> {
    required("", text).ok()?.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Row;

    fn raw() -> RawMarket {
        RawMarket {
            id: Some("0x4DDC2D193948926D02F9B1FE9E1DAA0718270ED5".into()),
            name: Some("Compound ETH".into()),
            maximum_ltv: Some("75".into()),
            input_token_price_usd: Some("178.01".into()),
            total_deposit_balance_usd: Some("1000.5".into()),
            input_token_id: Some("0xeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee".into()),
            input_token_symbol: Some("ETH".into()),
            input_token_decimals: Some("18".into()),
            protocol: "compound-v2-eth".into(),
            block_number: 1,
            block_timestamp: Timestamp::from_epoch_seconds(7),
            ..RawMarket::default()
        }
    }

    #[test]
    fn converts_percentages_to_fractions_and_ids_to_lower_case() {
        let market = StagedMarket::from_raw(&raw()).unwrap();
        assert_eq!(market.market_id.to_string(), "0x4ddc2d193948926d02f9b1fe9e1daa0718270ed5");
        assert_eq!((market.maximum_ltv, market.liquidation_threshold), (0.75, 0.0));
        assert_eq!((market.input_token_price_usd, market.epoch_timestamp), (Some(178.01), 7));
        assert_eq!((market.total_deposit_balance_usd, market.total_borrow_balance_usd), (Some(1000.5), None));
    }

    #[test]
    fn missing_or_invalid_ltv_or_threshold_is_0() {
        for (percent, fraction) in [(Some("82.5"), 0.825), (Some("0"), 0.0), (Some("abc"), 0.0), (None, 0.0)] {
            let percent = percent.map(Arc::from);
            let row = RawMarket { maximum_ltv: percent.clone(), liquidation_threshold: percent, ..raw() };
            let market = StagedMarket::from_raw(&row).unwrap();
            assert_eq!((market.maximum_ltv, market.liquidation_threshold), (fraction, fraction));
        }
    }

    #[test]
    fn market_needs_a_well_formed_id_and_token() {
        for (row, reason) in [
            (RawMarket { id: Some("0x1234".into()), ..raw() }, "id is malformed"),
            (RawMarket { input_token_id: None, ..raw() }, "input_token_id is missing"),
            (RawMarket { input_token_decimals: None, ..raw() }, "input_token_decimals is missing"),
            (
                RawMarket { input_token_decimals: Some("78".into()), ..raw() },
                "input_token_decimals is not from 0 to 77",
            ),
        ] {
            assert_eq!(StagedMarket::from_raw(&row).unwrap_err().to_string(), reason);
        }
    }

    #[test]
    fn price_is_computed_from_the_row_with_its_parameters() {
        let row = RawMarket { liquidation_threshold: Some("80".into()), ..raw() };
        let expected = Market {
            id: Address::parse("0x4ddc2d193948926d02f9b1fe9e1daa0718270ed5").unwrap(),
            token: Address::parse("0xeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee").unwrap(),
            decimals: 18,
            price: Some(178.01),
            unit: PriceUnit::Usd,
            is_eth: true,
            maximum_ltv: 0.75,
            liquidation_threshold: 0.8,
        };
        assert_eq!(StagedMarket::from_raw(&row).unwrap().market(&Address::MAX), expected);
        let in_eth =
            RawMarket { price_unit: Some("ETH".into()), input_token_id: Some(Address::MAX.to_string().into()), ..row };
        let wrapped = StagedMarket::from_raw(&in_eth).unwrap();
        assert_eq!((wrapped.market(&Address::MAX).is_eth, wrapped.market(&Address::MIN).is_eth), (true, false));
        assert_eq!(wrapped.market(&Address::MAX).unit, PriceUnit::Eth);
        let unknown = RawMarket { price_unit: Some("EUR".into()), ..in_eth };
        assert_eq!(StagedMarket::from_raw(&unknown).unwrap_err().to_string(), "price_unit is unknown");
    }

    #[test]
    fn decimals_must_be_an_integer_from_0_to_77() {
        for (decimals, valid) in [("0", true), ("77", true), ("78", false), ("-1", false), ("18.0", false), ("", false)]
        {
            let row = RawMarket { input_token_decimals: Some(decimals.into()), ..raw() };
            assert_eq!(StagedMarket::from_raw(&row).is_ok(), valid, "{decimals}");
        }
    }

    #[test]
    fn objects_without_the_totals_decode_as_null() {
        let mut staged = StagedMarket::from_raw(&raw()).unwrap();
        let batch = StagedMarket::encode(std::slice::from_ref(&staged)).unwrap();
        let without = |names: &[&str]| {
            let mut batch = batch.clone();
            names.iter().for_each(|name| drop(batch.remove_column(batch.schema().index_of(name).unwrap())));
            batch
        };
        let mut rows = Vec::new();
        StagedMarket::decode(&without(&["total_deposit_balance_usd", "total_borrow_balance_usd"]), &mut rows).unwrap();
        staged.total_deposit_balance_usd = None;
        assert_eq!(rows, [staged]);
        assert!(StagedMarket::decode(&without(&["input_token_price_usd"]), &mut rows).is_err());
    }

    #[test]
    fn invalid_price_becomes_null() {
        for price in ["NaN", "inf", "abc", ""] {
            let row = RawMarket { input_token_price_usd: Some(price.into()), ..raw() };
            assert_eq!(StagedMarket::from_raw(&row).unwrap().input_token_price_usd, None, "{price}");
        }
    }
}
