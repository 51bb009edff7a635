//! Multicall3: many calls in one. Each may fail by itself.

use alloy_sol_types::sol;

sol! {
    /// A call of a batch.
    struct Call3 {
        address target;
        bool allowFailure;
        bytes callData;
    }

    /// The result of a call: whether it succeeded, and what it returned.
    struct CallResult {
        bool success;
        bytes returnData;
    }

    function aggregate3(Call3[] calls) external payable returns (CallResult[] returnData);
}
