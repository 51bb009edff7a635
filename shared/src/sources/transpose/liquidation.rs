//! Which of a liquidation's two tokens is which.

/// A token and how much of it was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg<T, Q = T> {
    /// The token's address.
    pub token: T,
    /// The amount, in its base units.
    pub quantity: Q,
}

/// The two sides of a liquidation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiquidationLegs<T, Q = T> {
    /// The collateral that the liquidator took: what the features count.
    pub seized: Leg<T, Q>,
    /// The debt that the liquidator repaid.
    pub repaid: Leg<T, Q>,
}

impl<T, Q> LiquidationLegs<T, Q> {
    /// The sides of a liquidation row, from its columns.
    ///
    /// `token_address` / `quantity` is the collateral that was seized, `liquidated_token_address` / `quantity_liquidated` the
    /// debt that was repaid. The names suggest the opposite (a "liquidated token" sounds like the collateral), but the
    /// provider documents it so, and the published feature values of the original system agree. Nothing else in the
    /// pipeline knows these columns' meaning: should the provider turn them around, this is the one place, and the quality
    /// gate notices, because most repaid tokens have no liquidation threshold.
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
