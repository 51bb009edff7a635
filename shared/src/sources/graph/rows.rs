//! Markets and positions: their queries, and the conversion of the nested JSON objects to flat rows.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::sources::text::{Lenient, Text, TextRow};

/// A lending market at a block, with fields that exist in both versions of Messari's schema (3.1.0 and 2.0.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Market {
    /// `id`: the address of the market, which is the address of its interest-bearing token.
    pub id: Text,
    /// `name`.
    pub name: Text,
    /// `maximumLTV`, in percent.
    pub maximum_ltv: Text,
    /// `liquidationThreshold`, in percent.
    pub liquidation_threshold: Text,
    /// `inputTokenPriceUSD`, in US dollars per whole token.
    pub input_token_price_usd: Text,
    /// `totalDepositBalanceUSD`: the value of all supplies, in US dollars. None if the schema lacks it.
    pub total_deposit_balance_usd: Text,
    /// `totalBorrowBalanceUSD`: the value of all debts, in US dollars. None if the schema lacks it.
    pub total_borrow_balance_usd: Text,
    /// `inputToken { id }`: the token's address.
    pub input_token_id: Text,
    /// `inputToken { symbol }`.
    pub input_token_symbol: Text,
    /// `inputToken { decimals }`.
    pub input_token_decimals: Text,
}

/// A market of a subgraph whose schema has no totals.
pub(super) struct MarketWithoutTotals(pub Market);

/// An open position at a block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// `id`: `{account}-{market}-{side}[-{rate type}]-{counter}`.
    pub id: Text,
    /// `balance`, in base units of the market's input token.
    pub balance: Text,
    /// `side`: LENDER or COLLATERAL for a supply, BORROWER for a debt.
    pub side: Text,
    /// `isCollateral`: whether the supply counts as collateral; null if the subgraph does not know.
    pub is_collateral: Text,
    /// `market { id }`.
    pub market_id: Text,
    /// `market { name }`.
    pub market_name: Text,
    /// `account { id }`.
    pub account_id: Text,
    /// `account { _enabledCollaterals { id } }`, as JSON: the markets that the account uses as collateral. None if the schema
    /// lacks it.
    pub enabled_collaterals: Text,
}

/// A position with the markets that its account uses as collateral.
pub(super) struct PositionWithCollaterals(pub Position);

/// The state of a subgraph that a query reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// The state at the block.
    Block,
    /// The newest state, with up to this number of snapshots of each row: the newest up to the block.
    Head { snapshots: usize },
}

impl At {
    /// Returns the variables that say so in a query.
    pub(super) fn variables(self, block: u64) -> Map<String, Value> {
        match self {
            At::Block => Map::from_iter([("block".to_owned(), block.into())]),
            At::Head { snapshots } => Map::from_iter([
                ("upTo".to_owned(), json!({"blockNumber_lte": block.to_string()})),
                ("snapshots".to_owned(), snapshots.into()),
            ]),
        }
    }
}

/// The balance of a position after an event.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct BalanceJson {
    pub(super) balance: Text,
    pub(super) block_number: Text,
    pub(super) log_index: Text,
}

/// The price and the totals of a market after the last event of an hour.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PriceJson {
    #[serde(rename = "inputTokenPriceUSD")]
    pub(super) input_token_price_usd: Text,
    #[serde(rename = "totalDepositBalanceUSD")]
    pub(super) total_deposit_balance_usd: Text,
    #[serde(rename = "totalBorrowBalanceUSD")]
    pub(super) total_borrow_balance_usd: Text,
    pub(super) block_number: Text,
}

/// A row of a snapshot: a market or a position.
pub(super) trait Entity: TextRow + Send {
    /// The GraphQL query. The whole filter is one variable, `$where`: ids are `Bytes` in one version of the schema and
    /// `ID` in the other, and a variable for an id would have to be declared as one of them.
    const QUERY: &'static str;
    /// The state of the subgraph that the query reads.
    const AT: At = At::Block;
    /// The JSON object in the response, with renamed fields and nested objects.
    type Json: Default + DeserializeOwned + Send;

    fn from_json(json: Self::Json) -> Self;
    fn id(&self) -> Option<&str>;
}

impl TextRow for Market {
    fn for_each(&self, visit: &mut impl FnMut(&Text)) {
        let Market {
            id,
            name,
            maximum_ltv,
            liquidation_threshold,
            input_token_price_usd,
            total_deposit_balance_usd,
            total_borrow_balance_usd,
            input_token_id,
            input_token_symbol,
            input_token_decimals,
        } = self;
        [id, name, maximum_ltv, liquidation_threshold, input_token_price_usd].into_iter().for_each(&mut *visit);
        [total_deposit_balance_usd, total_borrow_balance_usd].into_iter().for_each(&mut *visit);
        [input_token_id, input_token_symbol, input_token_decimals].into_iter().for_each(visit);
    }

    /// Visits no field: a page contains each market once, so almost no value repeats.
    fn for_each_repeated(&mut self, _: &mut impl FnMut(&mut Text)) {}
}

impl TextRow for MarketWithoutTotals {
    fn for_each(&self, visit: &mut impl FnMut(&Text)) {
        self.0.for_each(visit);
    }

    fn for_each_repeated(&mut self, _: &mut impl FnMut(&mut Text)) {}
}

impl TextRow for Position {
    fn for_each(&self, visit: &mut impl FnMut(&Text)) {
        let Position { id, balance, side, is_collateral, market_id, market_name, account_id, enabled_collaterals } =
            self;
        [id, balance, side, is_collateral, market_id, market_name].into_iter().for_each(&mut *visit);
        [account_id, enabled_collaterals].into_iter().for_each(visit);
    }

    fn for_each_repeated(&mut self, visit: &mut impl FnMut(&mut Text)) {
        let Position {
            id: _,
            balance: _,
            side,
            is_collateral,
            market_id,
            market_name,
            account_id,
            enabled_collaterals,
        } = self;
        [side, is_collateral, market_id, market_name, account_id, enabled_collaterals].into_iter().for_each(visit);
    }
}

impl TextRow for PositionWithCollaterals {
    fn for_each(&self, visit: &mut impl FnMut(&Text)) {
        self.0.for_each(visit);
    }

    fn for_each_repeated(&mut self, visit: &mut impl FnMut(&mut Text)) {
        self.0.for_each_repeated(visit);
    }
}

impl Entity for Market {
    const QUERY: &'static str = "query Markets($block: Int!, $first: Int!, $where: Market_filter!) { \
        _meta(block: {number: $block}) { block { number timestamp hash } deployment hasIndexingErrors } \
        markets(first: $first, orderBy: id, orderDirection: asc, block: {number: $block}, where: $where) { \
        id name maximumLTV liquidationThreshold inputTokenPriceUSD totalDepositBalanceUSD totalBorrowBalanceUSD \
        inputToken { id symbol decimals } } }";
    type Json = MarketJson;

    fn from_json(json: MarketJson) -> Self {
        let token = json.input_token.0;
        Market {
            id: json.id,
            name: json.name,
            maximum_ltv: json.maximum_ltv,
            liquidation_threshold: json.liquidation_threshold,
            input_token_price_usd: json.input_token_price_usd,
            total_deposit_balance_usd: json.total_deposit_balance_usd,
            total_borrow_balance_usd: json.total_borrow_balance_usd,
            input_token_id: token.id,
            input_token_symbol: token.symbol,
            input_token_decimals: token.decimals,
        }
    }

    fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

impl Entity for MarketWithoutTotals {
    const QUERY: &'static str = "query Markets($block: Int!, $first: Int!, $where: Market_filter!) { \
        _meta(block: {number: $block}) { block { number timestamp hash } deployment hasIndexingErrors } \
        markets(first: $first, orderBy: id, orderDirection: asc, block: {number: $block}, where: $where) { \
        id name maximumLTV liquidationThreshold inputTokenPriceUSD inputToken { id symbol decimals } } }";
    type Json = MarketJson;

    fn from_json(json: MarketJson) -> Self {
        MarketWithoutTotals(Market::from_json(json))
    }

    fn id(&self) -> Option<&str> {
        self.0.id()
    }
}

impl Entity for Position {
    const QUERY: &'static str = "query Positions($block: Int!, $first: Int!, $where: Position_filter!) { \
        _meta(block: {number: $block}) { block { number timestamp hash } deployment hasIndexingErrors } \
        positions(first: $first, orderBy: id, orderDirection: asc, block: {number: $block}, where: $where) { \
        id balance side isCollateral market { id name } account { id } } }";
    type Json = PositionJson;

    fn from_json(json: PositionJson) -> Self {
        let (market, account) = (json.market.0, json.account.0);
        Position {
            id: json.id,
            balance: json.balance,
            side: json.side,
            is_collateral: json.is_collateral,
            market_id: market.id,
            market_name: market.name,
            account_id: account.id,
            enabled_collaterals: account.enabled_collaterals,
        }
    }

    fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

impl Entity for PositionWithCollaterals {
    const QUERY: &'static str = "query Positions($block: Int!, $first: Int!, $where: Position_filter!) { \
        _meta(block: {number: $block}) { block { number timestamp hash } deployment hasIndexingErrors } \
        positions(first: $first, orderBy: id, orderDirection: asc, block: {number: $block}, where: $where) { \
        id balance side isCollateral market { id name } account { id _enabledCollaterals { id } } } }";
    type Json = PositionJson;

    fn from_json(json: PositionJson) -> Self {
        PositionWithCollaterals(Position::from_json(json))
    }

    fn id(&self) -> Option<&str> {
        self.0.id()
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct MarketJson {
    id: Text,
    name: Text,
    #[serde(rename = "maximumLTV")]
    maximum_ltv: Text,
    liquidation_threshold: Text,
    #[serde(rename = "inputTokenPriceUSD")]
    input_token_price_usd: Text,
    #[serde(rename = "totalDepositBalanceUSD")]
    total_deposit_balance_usd: Text,
    #[serde(rename = "totalBorrowBalanceUSD")]
    total_borrow_balance_usd: Text,
    input_token: Lenient<TokenJson>,
    pub(super) hourly_snapshots: Option<Vec<PriceJson>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenJson {
    id: Text,
    symbol: Text,
    decimals: Text,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PositionJson {
    id: Text,
    balance: Text,
    side: Text,
    is_collateral: Text,
    market: Lenient<ReferenceJson>,
    account: Lenient<AccountJson>,
    pub(super) snapshots: Option<Vec<BalanceJson>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReferenceJson {
    id: Text,
    name: Text,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AccountJson {
    id: Text,
    #[serde(rename = "_enabledCollaterals")]
    enabled_collaterals: Text,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<E: Entity>(json: &str) -> E {
        E::from_json(serde_json::from_str::<Lenient<E::Json>>(json).unwrap().0)
    }

    #[test]
    fn flattens_a_market() {
        let market: Market = parse(
            r#"{"id": "0xa", "name": "USDC", "maximumLTV": "80", "liquidationThreshold": "82.5", "inputTokenPriceUSD": "1.0001",
                "totalDepositBalanceUSD": "12.5", "totalBorrowBalanceUSD": "0", "inputToken": {"id": "0xb", "symbol": "USDC", "decimals": 6}}"#,
        );
        let (maximum_ltv, liquidation_threshold) = ("80".into(), "82.5".into());
        let (input_token_id, input_token_symbol, input_token_decimals) = ("0xb".into(), "USDC".into(), "6".into());
        let input_token_price_usd = "1.0001".into();
        let expected = Market {
            id: "0xa".into(),
            name: "USDC".into(),
            maximum_ltv,
            liquidation_threshold,
            input_token_price_usd,
            total_deposit_balance_usd: "12.5".into(),
            total_borrow_balance_usd: "0".into(),
            input_token_id,
            input_token_symbol,
            input_token_decimals,
        };
        assert_eq!(market, expected);
    }

    #[test]
    fn flattens_a_position() {
        let position: Position = parse(
            r#"{"id": "0xa-0xb-LENDER-0", "balance": "17", "side": "LENDER", "isCollateral": true,
                "market": {"id": "0xb", "name": "USDC"}, "account": {"id": "0xa"}}"#,
        );
        let expected = Position {
            id: "0xa-0xb-LENDER-0".into(),
            balance: "17".into(),
            side: "LENDER".into(),
            is_collateral: "true".into(),
            market_id: "0xb".into(),
            market_name: "USDC".into(),
            account_id: "0xa".into(),
            enabled_collaterals: Text::default(),
        };
        assert_eq!(position, expected);
        let with: PositionWithCollaterals =
            parse(r#"{"account": {"id": "0xa", "_enabledCollaterals": [ {"id": "0xb"} ]}}"#);
        assert_eq!(with.0.enabled_collaterals.as_deref(), Some(r#"[{"id":"0xb"}]"#));
    }

    #[test]
    fn missing_fields_are_none() {
        assert_eq!(parse::<Position>("{\"market\": null}"), Position::default());
        assert_eq!(parse::<Market>("{\"inputToken\": \"0xb\"}"), Market::default());
    }
}
