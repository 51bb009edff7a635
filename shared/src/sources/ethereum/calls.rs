//! Calls of contracts at a block: many in one by Multicall3, or in JSON-RPC batches.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use alloy_primitives::Address as AlloyAddress;
use alloy_sol_types::SolCall;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use serde_json::value::RawValue;

use super::EthereumClient;
use super::hex::{bytes, to_bytes, to_quantity};
use super::messages::{Expected, Meaning};
use super::response::wrong;
use super::rpc::Request;
use crate::contracts::multicall::{Call3, CallResult, aggregate3Call};
use crate::domain::Address;
use crate::error::{Error, Result};
use crate::sources::Traffic;
use crate::sources::http::BodyTooLong;
use crate::sources::volume::Volume;

/// The maximum number of calls in one by Multicall3. Nodes allow a call 10 to 50 million units of gas, and a call of a
/// lending protocol takes up to 100,000.
const MAX_CALLS: usize = 250;

/// The maximum size of the calls in one by Multicall3: some servers reject bodies from 200 KB, and hex doubles the size.
const MAX_CALL_BYTES: usize = 90_000;

/// The encoding of a call takes this many bytes besides its data.
const CALL_OVERHEAD: usize = 192;

/// A call of a contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The contract.
    pub to: Address,
    /// The function and its arguments, encoded.
    pub data: Vec<u8>,
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallOutcome {
    /// It returned these bytes. A call of an address without code returns none: see [`EthereumClient::has_code`].
    Returned(Vec<u8>),
    /// The contract rejected it, or it ran out of gas even alone.
    Reverted,
}

/// Multicall3, and what the client has learned about it.
pub(super) struct MulticallState {
    address: Address,
    /// The lowest block that is known to have its code.
    exists_from: AtomicU64,
    /// The end of the blocks that are known not to have its code.
    absent_before: AtomicU64,
    /// The number of calls that worked.
    size: AtomicUsize,
}

impl MulticallState {
    pub(super) fn new(address: Address) -> Self {
        MulticallState {
            address,
            exists_from: AtomicU64::new(u64::MAX),
            absent_before: AtomicU64::new(0),
            size: AtomicUsize::new(MAX_CALLS),
        }
    }
}

impl EthereumClient {
    /// Calls contracts at a block (the state after it). Uses Multicall3, if it is configured and has code at the block.
    /// The calls of one Multicall see what those before them changed: calls that write, and calls that must not see it,
    /// belong into [`EthereumClient::call_alone`].
    ///
    /// # Errors
    /// See [`EthereumClient`].
    pub async fn call(&self, calls: &[Call], block: u64, traffic: &Traffic) -> Result<Vec<CallOutcome>> {
        let Some(multicall) = self.multicall_at(block, traffic).await? else {
            return self.call_alone(calls, block, traffic).await;
        };
        let volume = &Volume::of_snapshot(&self.limits);
        let groups: Vec<_> = group(calls, multicall.size.load(Ordering::Relaxed))
            .into_iter()
            .map(|calls| self.call_group(multicall, calls, block, volume, traffic))
            .collect();
        let groups: Vec<Vec<Option<Vec<u8>>>> =
            stream::iter(groups).buffered(self.rpc.concurrency.max(1)).try_collect().await?;
        let answers: Vec<Option<Vec<u8>>> = groups.into_iter().flatten().collect();
        // A call that failed among others is repeated alone, to tell a revert from a lack of gas.
        let failed = calls.iter().zip(&answers).filter(|(_, answer)| answer.is_none());
        let failed: Vec<Call> = failed.map(|(call, _)| call.clone()).collect();
        let mut alone = self.call_alone(&failed, block, traffic).await?.into_iter();
        let outcome = |answer: Option<Vec<u8>>| match answer {
            Some(data) => Ok(CallOutcome::Returned(data)),
            None => alone.next().ok_or_else(|| Error::internal("a call has no answer")),
        };
        answers.into_iter().map(outcome).collect()
    }

    /// Calls contracts at a block (the state after it), each call by itself.
    ///
    /// # Errors
    /// See [`EthereumClient`].
    pub async fn call_alone(&self, calls: &[Call], block: u64, traffic: &Traffic) -> Result<Vec<CallOutcome>> {
        let volume = &Volume::of_snapshot(&self.limits);
        let requests: Vec<Request> = calls.iter().map(|call| call_request(call.to, &call.data, block)).collect();
        let parse = |_, result: &RawValue| parse_returned(result, volume);
        let outcome = |(answer, call): (Result<Vec<u8>>, &Call)| match answer {
            Ok(data) => Ok(CallOutcome::Returned(data)),
            Err(error) => match Meaning::of(&error) {
                Some(Meaning::Reverted | Meaning::OutOfGas) => Ok(CallOutcome::Reverted),
                _ => Err(error.with("contract", call.to).with("block", block)),
            },
        };
        let answers = self.all(&requests, &parse, traffic).await.map_err(|error| error.with("block", block))?;
        answers.into_iter().zip(calls).map(outcome).collect()
    }

    /// Returns whether each address has code at a block.
    ///
    /// # Errors
    /// See [`EthereumClient`].
    pub async fn has_code(&self, addresses: &[Address], block: u64, traffic: &Traffic) -> Result<Vec<bool>> {
        let volume = &Volume::of_snapshot(&self.limits);
        let request = |address: &Address| {
            let params = json!([address.to_string(), to_quantity(block)]);
            Request::new("eth_getCode", params, Expected::Block(block))
        };
        let requests: Vec<Request> = addresses.iter().map(request).collect();
        let parse = |_, result: &RawValue| parse_returned(result, volume).map(|code| !code.is_empty());
        let answers = self.all(&requests, &parse, traffic).await.map_err(|error| error.with("block", block))?;
        answers.into_iter().map(|answer| answer.map_err(|error| error.with("block", block))).collect()
    }

    /// Returns Multicall3 if it is there at a block. A contract stays from the block in which it was created.
    async fn multicall_at(&self, block: u64, traffic: &Traffic) -> Result<Option<&MulticallState>> {
        let Some(multicall) = &self.multicall else { return Ok(None) };
        if block >= multicall.exists_from.load(Ordering::Relaxed) {
            return Ok(Some(multicall));
        }
        if block < multicall.absent_before.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match self.has_code(&[multicall.address], block, traffic).await?.as_slice() {
            [true] => {
                multicall.exists_from.fetch_min(block, Ordering::Relaxed);
                Ok(Some(multicall))
            }
            _ => {
                multicall.absent_before.fetch_max(block.saturating_add(1), Ordering::Relaxed);
                Ok(None)
            }
        }
    }

    /// Calls contracts by Multicall3, in as many calls as the node needs. The answer of a call that failed is `None`.
    async fn call_group(
        &self,
        multicall: &MulticallState,
        mut calls: &[Call],
        block: u64,
        volume: &Volume,
        traffic: &Traffic,
    ) -> Result<Vec<Option<Vec<u8>>>> {
        let mut answers = Vec::with_capacity(calls.len());
        while !calls.is_empty() {
            let (now, later) = calls.split_at(calls.len().min(multicall.size.load(Ordering::Relaxed).max(1)));
            match self.aggregate(multicall.address, now, block, volume, traffic).await {
                Ok(returned) => {
                    answers.extend(returned);
                    calls = later;
                }
                Err(error) if is_too_much(&error) => match now {
                    [_] => {
                        answers.push(None);
                        calls = later;
                    }
                    _ => {
                        tracing::debug!(error = error.details(), calls = now.len() / 2, "fewer calls in one");
                        multicall.size.fetch_min(now.len() / 2, Ordering::Relaxed);
                    }
                },
                Err(error) => return Err(error.with("block", block)),
            }
        }
        Ok(answers)
    }

    /// Calls contracts in one call.
    async fn aggregate(
        &self,
        multicall: Address,
        calls: &[Call],
        block: u64,
        volume: &Volume,
        traffic: &Traffic,
    ) -> Result<Vec<Option<Vec<u8>>>> {
        let call = |call: &Call| Call3 {
            target: AlloyAddress::from(call.to.0),
            allowFailure: true,
            callData: call.data.clone().into(),
        };
        let data = aggregate3Call { calls: calls.iter().map(call).collect() }.abi_encode();
        let parse = |_, result: &RawValue| {
            let returned = parse_returned(result, volume)?;
            let results: Vec<CallResult> = aggregate3Call::abi_decode_returns(&returned)
                .map_err(|_| wrong("the answer of Multicall3 is malformed"))?;
            if results.len() != calls.len() {
                return Err(wrong("Multicall3 answered another number of calls"));
            }
            Ok(results.into_iter().map(|result| result.success.then(|| result.returnData.to_vec())).collect())
        };
        self.one(&call_request(multicall, &data, block), &parse, traffic).await
    }
}

/// Returns whether an error of many calls in one may be due to their number.
fn is_too_much(error: &Error) -> bool {
    let meaning = Meaning::of(error);
    let is_too_much = matches!(meaning, Some(Meaning::OutOfGas | Meaning::Reverted | Meaning::TooMuch));
    is_too_much || BodyTooLong::caused(error)
}

/// Splits calls into groups for Multicall3, by number and size.
fn group(calls: &[Call], max_calls: usize) -> Vec<&[Call]> {
    let (mut groups, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (index, call) in calls.iter().enumerate() {
        let size = call.data.len() + CALL_OVERHEAD;
        if index > start && (index - start >= max_calls || bytes + size > MAX_CALL_BYTES) {
            groups.extend(calls.get(start..index));
            (start, bytes) = (index, 0);
        }
        bytes += size;
    }
    groups.extend(calls.get(start..).filter(|rest| !rest.is_empty()));
    groups
}

fn call_request(to: Address, data: &[u8], block: u64) -> Request {
    let params = json!([{ "to": to.to_string(), "data": to_bytes(data) }, to_quantity(block)]);
    Request::new("eth_call", params, Expected::Block(block))
}

fn parse_returned(result: &RawValue, volume: &Volume) -> Result<Vec<u8>> {
    let text: Option<&str> = serde_json::from_str(result.get()).ok();
    let data = text.and_then(bytes).ok_or_else(|| wrong("the answer of a call is not bytes in hex"))?;
    volume.add_sizes(1, result.get().len(), 0)?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::HexBytes;

    #[test]
    fn calls_are_grouped_by_number_and_size() {
        let calls = |count: usize, bytes: usize| vec![Call { to: HexBytes::MIN, data: vec![0; bytes] }; count];
        let sizes = |calls: &[Call]| group(calls, MAX_CALLS).iter().map(|group| group.len()).collect::<Vec<_>>();
        assert_eq!(sizes(&[]), [0_usize; 0]);
        assert_eq!(sizes(&calls(250, 36)), [250]);
        assert_eq!(sizes(&calls(501, 36)), [250, 250, 1]);
        assert_eq!(sizes(&calls(5, 40_000)), [2, 2, 1]);
        assert_eq!(sizes(&calls(2, 200_000)), [1, 1]);
    }
}
