//! Calls of contracts that are rejected.

use alloy_sol_types::SolCall;
use defi_shared::contracts::multicall::{CallResult, aggregate3Call};
use serde_json::{Value, json};

/// What becomes of a call.
pub(super) enum Rejected {
    /// The call itself is rejected.
    Whole,
    /// Some calls in a Multicall are; this is its result.
    Inner(Value),
}

/// Rejects a call, or those in a Multicall, whose data are selected. Returns `None` if none is.
pub(super) fn reject(
    params: &Value,
    result: Option<&Value>,
    is_selected: impl Fn(&[u8], &[u8]) -> bool,
) -> Option<Rejected> {
    let call = params.get(0)?;
    let bytes = |name: &str| call.get(name)?.as_str().and_then(decode);
    let (to, data) = (bytes("to")?, bytes("data").or_else(|| bytes("input"))?);
    let Ok(multicall) = aggregate3Call::abi_decode(&data) else {
        return is_selected(&to, &data).then_some(Rejected::Whole);
    };
    let mut results: Vec<CallResult> = aggregate3Call::abi_decode_returns(&decode(result?.as_str()?)?).ok()?;
    let mut is_changed = false;
    for (call, result) in multicall.calls.iter().zip(&mut results) {
        if is_selected(call.target.as_slice(), &call.callData) {
            *result = CallResult { success: false, returnData: Vec::new().into() };
            is_changed = true;
        }
    }
    let encode = || json!(const_hex::encode_prefixed(aggregate3Call::abi_encode_returns(&results)));
    is_changed.then(|| Rejected::Inner(encode()))
}

/// Returns the bytes of a text in hex.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    const_hex::decode(text).ok()
}
