//! The two tokens of a liquidation.

/// A token and the amount that was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg<T, Q = T> {
    /// The token's address.
    pub token: T,
    /// The amount, in base units of the token.
    pub quantity: Q,
}

/// The two sides of a liquidation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiquidationLegs<T, Q = T> {
    /// The collateral that the liquidator seized; the features count this side.
    pub seized: Leg<T, Q>,
    /// The debt that the liquidator repaid.
    pub repaid: Leg<T, Q>,
}

impl<T, Q> LiquidationLegs<T, Q> {
    /// Creates the two sides from the columns of a liquidation row.
    ///
    /// `token_address` / `quantity` is the collateral that was seized, `liquidated_token_address` /
    /// `quantity_liquidated` the debt that was repaid. The names suggest the opposite (a "liquidated token" sounds like
    /// the collateral), but this is how the provider documents them, and it matches the published feature values of the
    /// original system. No other code interprets these columns. If the provider swaps them, this is the only place to
    /// change, and the quality checks detect it, because most repaid tokens have no liquidation threshold.
    ///
    /// ```
    /// use defi_shared::sources::transpose::LiquidationLegs;
    /// let legs = LiquidationLegs::from_columns("0xWETH", "10", "0xUSDC", "17000");
    /// assert_eq!((legs.seized.token, legs.seized.quantity), ("0xWETH", "10"));
    /// assert_eq!((legs.repaid.token, legs.repaid.quantity), ("0xUSDC", "17000"));
    /// ```
    pub fn from_columns(token_address: T, quantity: Q, liquidated_token_address: T, quantity_liquidated: Q) -> Self {
        LiquidationLegs {
            seized: Leg { token: token_address, quantity },
            repaid: Leg { token: liquidated_token_address, quantity: quantity_liquidated },
        }
    }
}
