//! The contracts of the lending protocols: their events and functions, encoded and decoded by `alloy-sol-types`. The
//! declarations are those of the contracts' sources. Nothing here reads from a node or knows an address.
//!
//! | module | contents |
//! |---|---|
//! | [`aave_v2`] | Aave v2: the pool, its tokens, its configuration and its price oracle |
//! | [`compound_v2`] | Compound v2: the Comptroller, its cTokens and its price oracle |
//! | [`multicall`] | Multicall3: many calls in one |

#[expect(clippy::too_many_arguments, reason = "an event of the contracts has eight")]
pub mod aave_v2;
pub mod compound_v2;
pub mod multicall;
