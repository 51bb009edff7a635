//! The two protocols of the sample chain and their mainnet markets.

/// The pool of the Aave markets: its addresses provider.
pub(super) const AAVE_POOL: &str = "0xb53c1a33016b2dc2ff3653530bff1848a515c8c5";

/// A deployment of a lending protocol.
pub(super) struct Protocol {
    /// The key, `{name}-{version}-eth`.
    pub(super) key: &'static str,
    /// Transpose's name of the protocol.
    pub(super) name: &'static str,
    /// The side of a supply position, which differs between the two versions of the subgraph's schema.
    pub(super) supply_side: &'static str,
    /// The side of a debt in the id of a position; the newer schema adds the type of the interest rate.
    pub(super) debt_id_part: &'static str,
    /// The bonus of a liquidator, relative to the repaid debt.
    pub(super) liquidation_bonus: f64,
}

/// The index of Aave in [`PROTOCOLS`].
pub(super) const AAVE: usize = 0;
/// The protocols, sorted by key.
pub(super) const PROTOCOLS: [Protocol; 2] = [
    Protocol {
        key: "aave-v2-eth",
        name: "aave",
        supply_side: "COLLATERAL",
        debt_id_part: "BORROWER-VARIABLE",
        liquidation_bonus: 0.05,
    },
    Protocol {
        key: "compound-v2-eth",
        name: "compound",
        supply_side: "LENDER",
        debt_id_part: "BORROWER",
        liquidation_bonus: 0.08,
    },
];

/// The price series that a token follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PriceModel {
    Ether,
    StakedEther,
    Bitcoin,
    /// An altcoin: its own random walk, correlated with Ether.
    Altcoin(u8),
    /// A stablecoin of one dollar.
    Stablecoin(u8),
}

/// A mainnet market.
pub(super) struct Market {
    /// Index into [`PROTOCOLS`].
    pub(super) protocol: usize,
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) token: &'static str,
    pub(super) symbol: &'static str,
    pub(super) decimals: u32,
    /// The maximum loan-to-value ratio, in percent.
    pub(super) max_ltv: f64,
    /// The liquidation threshold, in percent; 0 for a token that cannot be collateral.
    pub(super) threshold: f64,
    pub(super) price_model: PriceModel,
    /// The price on the first day, in dollars.
    pub(super) start_price: f64,
    /// Whether Messari's subgraph has the market, and Aave's oracle a price. Positions in an unlisted market have no price.
    pub(super) listed: bool,
}

const USDC: &str = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48";
const DAI: &str = "0x6b175474e89094c44da98b954eedeac495271d0f";
const USDT: &str = "0xdac17f958d2ee523a2206206994597c13d831ec7";
const WBTC: &str = "0x2260fac5e5542a773aa44fbcfedf7c193bc2c599";
const WETH: &str = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2";
const STETH: &str = "0xae7ab96520de3a18e5e111b5eaab095312d7fe84";
const LINK: &str = "0x514910771af9ca656af840dff83e8264ecf986ca";
const AAVE_TOKEN: &str = "0x7fc66500c84a76ad7e9c93437bfc5ac33e2ddae9";
const GUSD: &str = "0x056fd409e1d7a124bd7017459dfea2f387b6d5cd";
const UNI: &str = "0x1f9840a85d5af5bf1d1762f925bdaddc4201f984";
const BAT: &str = "0x0d8775f648430679a709e98d2b0cb6250d2887ef";
const NATIVE_ETHER: &str = "0xeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee";

#[allow(clippy::too_many_arguments)] // a row of the table below, which is easier to read than struct literals
const fn aave(
    token: &'static str,
    name: &'static str,
    symbol: &'static str,
    decimals: u32,
    max_ltv: f64,
    threshold: f64,
    price_model: PriceModel,
    start_price: f64,
) -> Market {
    // The id of an Aave market is its token.
    Market {
        protocol: 0,
        id: token,
        name,
        token,
        symbol,
        decimals,
        max_ltv,
        threshold,
        price_model,
        start_price,
        listed: true,
    }
}

#[allow(clippy::too_many_arguments)] // as above
const fn compound(
    id: &'static str,
    name: &'static str,
    token: &'static str,
    symbol: &'static str,
    decimals: u32,
    factor: f64,
    price_model: PriceModel,
    start_price: f64,
) -> Market {
    // Compound's collateral factor is both the maximum loan-to-value ratio and the liquidation threshold.
    Market {
        protocol: 1,
        id,
        name,
        token,
        symbol,
        decimals,
        max_ltv: factor,
        threshold: factor,
        price_model,
        start_price,
        listed: true,
    }
}

/// All markets. The last one is not in the subgraph, so its token has no price.
pub(super) static MARKETS: [Market; 17] = [
    aave(WETH, "Aave interest bearing WETH", "WETH", 18, 82.5, 86.0, PriceModel::Ether, 1196.0),
    aave(STETH, "Aave interest bearing STETH", "stETH", 18, 72.0, 83.0, PriceModel::StakedEther, 1184.0),
    aave(WBTC, "Aave interest bearing WBTC", "WBTC", 8, 72.0, 82.0, PriceModel::Bitcoin, 16_540.0),
    aave(USDC, "Aave interest bearing USDC", "USDC", 6, 80.0, 87.5, PriceModel::Stablecoin(0), 1.0),
    aave(DAI, "Aave interest bearing DAI", "DAI", 18, 75.0, 87.0, PriceModel::Stablecoin(1), 1.0),
    aave(USDT, "Aave interest bearing USDT", "USDT", 6, 0.0, 0.0, PriceModel::Stablecoin(2), 1.0),
    aave(LINK, "Aave interest bearing LINK", "LINK", 18, 70.0, 83.0, PriceModel::Altcoin(0), 5.58),
    aave(AAVE_TOKEN, "Aave interest bearing AAVE", "AAVE", 18, 66.0, 73.0, PriceModel::Altcoin(1), 52.3),
    compound(C_ETH, "Compound Ether", NATIVE_ETHER, "ETH", 18, 82.5, PriceModel::Ether, 1196.0),
    compound(C_USDC, "Compound USD Coin", USDC, "USDC", 6, 85.5, PriceModel::Stablecoin(0), 1.0),
    compound(C_DAI, "Compound Dai", DAI, "DAI", 18, 83.5, PriceModel::Stablecoin(1), 1.0),
    compound(C_WBTC, "Compound Wrapped BTC", WBTC, "WBTC", 8, 70.0, PriceModel::Bitcoin, 16_540.0),
    compound(C_USDT, "Compound USDT", USDT, "USDT", 6, 0.0, PriceModel::Stablecoin(2), 1.0),
    compound(C_UNI, "Compound Uniswap", UNI, "UNI", 18, 75.0, PriceModel::Altcoin(2), 5.17),
    compound(C_LINK, "Compound ChainLink Token", LINK, "LINK", 18, 79.0, PriceModel::Altcoin(0), 5.58),
    compound(C_BAT, "Compound Basic Attention Token", BAT, "BAT", 18, 65.0, PriceModel::Altcoin(3), 0.166),
    Market {
        listed: false,
        ..aave(GUSD, "Aave interest bearing GUSD", "GUSD", 2, 0.0, 0.0, PriceModel::Stablecoin(3), 1.0)
    },
];

const C_ETH: &str = "0x4ddc2d193948926d02f9b1fe9e1daa0718270ed5";
const C_USDC: &str = "0x39aa39c021dfbae8fac545936693ac917d5e7563";
const C_DAI: &str = "0x5d3a536e4d6dbd6114cc1ead35777bab948e3643";
const C_WBTC: &str = "0xccf4429db6322d5c611ee964527d42e5d685dd6a";
const C_USDT: &str = "0xf650c3d88d12db855b8bf7d11be6c55a4e07dcc9";
const C_UNI: &str = "0x35a18000230da775cac24873d00ff85bccded550";
const C_LINK: &str = "0xface851a4921ce59e912d19329929ce6da6eb0c7";
const C_BAT: &str = "0x6c8c6b02e7b2be14d4fa6022dfd6d75921d90e4e";

/// Aave's market of wrapped ether.
pub(super) const ETHER: usize = 0;
/// The market that is not in the subgraph.
pub(super) const UNLISTED: usize = MARKETS.len() - 1;
/// The market whose price is 0 on one day.
pub(super) const ORACLE_FAILURE: usize = 6;
/// The markets in which borrowers supply collateral, by protocol: volatile tokens, which become risky when prices fall.
pub(super) const VOLATILE: [&[usize]; 2] = [&[0, 0, 0, 1, 2, 6, 7], &[8, 8, 8, 11, 13, 14]];
/// The markets in which lenders deposit, by protocol.
pub(super) const SAVINGS: [&[usize]; 2] = [&[0, 3, 3, 4, 5], &[8, 9, 9, 10, 12, 15]];
/// The markets in which wallets borrow, by protocol.
pub(super) const BORROWED: [&[usize]; 2] = [&[3, 3, 4, 5], &[9, 9, 10, 12]];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn market_lists_are_of_their_protocol() {
        for lists in [&VOLATILE, &SAVINGS, &BORROWED] {
            for (protocol, markets) in lists.iter().enumerate() {
                assert!(markets.iter().all(|market| MARKETS[*market].protocol == protocol));
                assert!(markets.iter().all(|market| MARKETS[*market].listed));
            }
        }
        for market in VOLATILE.iter().flat_map(|markets| markets.iter()) {
            assert!(MARKETS[*market].threshold > 0.0);
        }
        assert!(!MARKETS[UNLISTED].listed);
    }

    #[test]
    fn addresses_and_limits_are_valid() {
        for market in &MARKETS {
            for address in [market.id, market.token] {
                assert_eq!(address.len(), 42, "{}", market.name);
                assert!(address[2..].bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')));
            }
            assert!(market.max_ltv <= market.threshold);
        }
    }
}
