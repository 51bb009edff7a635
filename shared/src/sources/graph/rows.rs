//! Markets and positions: what is asked of them, and how the nested answer becomes a flat row.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::sources::text::{Lenient, Text, Texts};

/// A lending market at a block. The fields that both versions of Messari's schema have (3.1.0 and 2.0.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Market {
    /// `id`: the address of the market (of its interest-bearing token).
    pub id: Text,
    /// `name`.
    pub name: Text,
    /// `maximumLTV`, in percent.
    pub maximum_ltv: Text,
    /// `liquidationThreshold`, in percent.
    pub liquidation_threshold: Text,
    /// `inputTokenPriceUSD`, US dollars of one whole token.
    pub input_token_price_usd: Text,
    /// `inputToken { id }`: the token's address.
    pub input_token_id: Text,
    /// `inputToken { symbol }`.
    pub input_token_symbol: Text,
    /// `inputToken { decimals }`.
    pub input_token_decimals: Text,
}

/// An open position at a block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// `id`: `{account}-{market}-{side}[-{rate type}]-{counter}`.
    pub id: Text,
    /// `balance`, in base units of the market's input token.
    pub balance: Text,
    /// `side`: LENDER or COLLATERAL of a supply, BORROWER of a debt.
    pub side: Text,
    /// `isCollateral`: whether the supply counts as collateral; null where the subgraph doesn't know.
    pub is_collateral: Text,
    /// `market { id }`.
    pub market_id: Text,
    /// `market { name }`.
    pub market_name: Text,
    /// `account { id }`.
    pub account_id: Text,
}

/// What a snapshot can be taken of.
pub(super) trait Entity: Texts + Send {
    /// The query. `$where` is one variable of the filter's type: the ids in it are `Bytes` in one version of the schema and
    /// `ID` in the other, and a variable of its own would have to be declared as one of them.
    const QUERY: &'static str;
    /// The row as it comes. Aliased fields and nested objects.
    type Sent: Default + DeserializeOwned + Send;

    fn flat(sent: Self::Sent) -> Self;
    fn id(&self) -> Option<&str>;
}

impl Texts for Market {
    /// A page is a day's markets: nothing repeats that would be worth looking for.
    fn each_text(&mut self, _: &mut impl FnMut(&mut Text)) {}
}

impl Texts for Position {
    fn each_text(&mut self, take: &mut impl FnMut(&mut Text)) {
        let Position { id: _, balance: _, side, is_collateral, market_id, market_name, account_id } = self;
        [side, is_collateral, market_id, market_name, account_id].into_iter().for_each(take);
    }
}

impl Entity for Market {
    const QUERY: &'static str = "query Markets($block: Int!, $first: Int!, $where: Market_filter!) { \
        _meta(block: {number: $block}) { block { number timestamp hash } deployment hasIndexingErrors } \
        markets(first: $first, orderBy: id, orderDirection: asc, block: {number: $block}, where: $where) { \
        id name maximumLTV liquidationThreshold inputTokenPriceUSD inputToken { id symbol decimals } } }";
    type Sent = SentMarket;

    fn flat(sent: SentMarket) -> Self {
        let token = sent.input_token.0;
        Market {
            id: sent.id,
            name: sent.name,
            maximum_ltv: sent.maximum_ltv,
            liquidation_threshold: sent.liquidation_threshold,
            input_token_price_usd: sent.input_token_price_usd,
            input_token_id: token.id,
            input_token_symbol: token.symbol,
            input_token_decimals: token.decimals,
        }
    }

    fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

impl Entity for Position {
    const QUERY: &'static str = "query Positions($block: Int!, $first: Int!, $where: Position_filter!) { \
        _meta(block: {number: $block}) { block { number timestamp hash } deployment hasIndexingErrors } \
        positions(first: $first, orderBy: id, orderDirection: asc, block: {number: $block}, where: $where) { \
        id balance side isCollateral market { id name } account { id } } }";
    type Sent = SentPosition;

    fn flat(sent: SentPosition) -> Self {
        let (market, account) = (sent.market.0, sent.account.0);
        Position {
            id: sent.id,
            balance: sent.balance,
            side: sent.side,
            is_collateral: sent.is_collateral,
            market_id: market.id,
            market_name: market.name,
            account_id: account.id,
        }
    }

    fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SentMarket {
    id: Text,
    name: Text,
    #[serde(rename = "maximumLTV")]
    maximum_ltv: Text,
    liquidation_threshold: Text,
    #[serde(rename = "inputTokenPriceUSD")]
    input_token_price_usd: Text,
    input_token: Lenient<SentToken>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SentToken {
    id: Text,
    symbol: Text,
    decimals: Text,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SentPosition {
    id: Text,
    balance: Text,
    side: Text,
    is_collateral: Text,
    market: Lenient<SentNamed>,
    account: Lenient<SentNamed>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SentNamed {
    id: Text,
    name: Text,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat<E: Entity>(json: &str) -> E {
        E::flat(serde_json::from_str::<Lenient<E::Sent>>(json).unwrap().0)
    }

    #[test]
    fn a_market_is_flattened() {
        let market: Market = flat(
            r#"{"id": "0xa", "name": "USDC", "maximumLTV": "80", "liquidationThreshold": "82.5", "inputTokenPriceUSD": "1.0001",
                "inputToken": {"id": "0xb", "symbol": "USDC", "decimals": 6}}"#,
        );
        let (maximum_ltv, liquidation_threshold) = ("80".into(), "82.5".into());
        let (input_token_id, input_token_symbol, input_token_decimals) = ("0xb".into(), "USDC".into(), "6".into());
        let input_token_price_usd = "1.0001".into();
        let wanted = Market {
            id: "0xa".into(),
            name: "USDC".into(),
            maximum_ltv,
            liquidation_threshold,
            input_token_price_usd,
            input_token_id,
            input_token_symbol,
            input_token_decimals,
        };
        assert_eq!(market, wanted);
    }

    #[test]
    fn a_position_is_flattened() {
        let position: Position = flat(
            r#"{"id": "0xa-0xb-LENDER-0", "balance": "17", "side": "LENDER", "isCollateral": true,
                "market": {"id": "0xb", "name": "USDC"}, "account": {"id": "0xa"}}"#,
        );
        let wanted = Position {
            id: "0xa-0xb-LENDER-0".into(),
            balance: "17".into(),
            side: "LENDER".into(),
            is_collateral: "true".into(),
            market_id: "0xb".into(),
            market_name: "USDC".into(),
            account_id: "0xa".into(),
        };
        assert_eq!(position, wanted);
    }

    #[test]
    fn what_is_missing_is_none() {
        assert_eq!(flat::<Position>("{\"market\": null}"), Position::default());
        assert_eq!(flat::<Market>("{\"inputToken\": \"0xb\"}"), Market::default());
    }
}
