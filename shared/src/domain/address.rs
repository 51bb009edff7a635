//! Ethereum addresses and transaction hashes: stored as bytes, displayed as lower-case hex.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::Error;

/// `N` bytes, displayed as `0x` and lower-case hex digits. The order is that of the hex strings.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HexBytes<const N: usize>(pub [u8; N]);

impl<const N: usize> Ord for HexBytes<N> {
    /// Compares bytes, like a derived `Ord`. The first eight bytes are compared as one integer, because they nearly
    /// always decide.
    fn cmp(&self, other: &Self) -> Ordering {
        let prefix = |bytes: &[u8; N]| bytes.first_chunk().map(|chunk| u64::from_be_bytes(*chunk));
        prefix(&self.0).cmp(&prefix(&other.0)).then_with(|| self.0.cmp(&other.0))
    }
}

impl<const N: usize> PartialOrd for HexBytes<N> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// An account, contract or token address.
pub type Address = HexBytes<20>;

/// A transaction hash.
pub type TxHash = HexBytes<32>;

impl<const N: usize> HexBytes<N> {
    /// The smallest value.
    pub const MIN: Self = HexBytes([0x00; N]);

    /// The largest value.
    pub const MAX: Self = HexBytes([0xff; N]);

    /// Parses `0x` followed by exactly `2·N` hex digits of any case. Returns `None` for any other string.
    ///
    /// ```
    /// use defi_shared::domain::Address;
    /// let address = Address::parse("0xC02AAA39B223FE8D0A0E5C4F27EAD9083C756CC2");
    /// assert_eq!(address.map(|a| a.to_string()).as_deref(), Some("0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"));
    /// assert_eq!(Address::parse("0x1234"), None);
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 2 * N)?;
        let mut bytes = [0; N];
        const_hex::decode_to_slice(digits, &mut bytes).ok()?;
        Some(HexBytes(bytes))
    }
}

impl FromStr for Address {
    type Err = Error;

    /// Parses an address as people write it: the hex digits may also follow `0X`, or no prefix. Rows of a source must
    /// have the form of [`HexBytes::parse`].
    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
        Address::parse(&format!("0x{digits}")).ok_or_else(|| {
            Error::bad_input(format!("{text:?} is not an address")).with_hint("write it as 0x and 40 hex digits")
        })
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| de::Error::custom(error.reason()))
    }
}

impl<const N: usize> fmt::Display for HexBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(const_hex::Buffer::<N, true>::new().format(&self.0))
    }
}

impl<const N: usize> fmt::Debug for HexBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The addresses that sources use for native ETH.
pub const NATIVE_ETH: [Address; 2] = [HexBytes([0x00; 20]), HexBytes([0xee; 20])];

impl Address {
    /// Returns whether this address stands for native ETH: the zero address or `0xeeee…eeee`.
    #[must_use]
    pub fn is_native_eth(&self) -> bool {
        NATIVE_ETH.contains(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_accepts_only_well_formed_addresses() {
        for text in [
            "",
            "0x",
            "0x1234",
            "c02aaa39b223fe8d0a0e5c4f27ead9083c756cc2",
            "0xg02aaa39b223fe8d0a0e5c4f27ead9083c756cc2",
            "0XC02aaa39b223fe8d0a0e5c4f27ead9083c756cc2",
            "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2aa",
            " 0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2",
        ] {
            assert_eq!(Address::parse(text), None, "{text:?}");
        }
        assert_eq!(
            Address::parse("0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"),
            Some(HexBytes([
                0xc0, 0x2a, 0xaa, 0x39, 0xb2, 0x23, 0xfe, 0x8d, 0x0a, 0x0e, 0x5c, 0x4f, 0x27, 0xea, 0xd9, 0x08, 0x3c,
                0x75, 0x6c, 0xc2,
            ]))
        );
    }

    #[test]
    fn people_may_write_another_prefix_or_none() {
        let digits = "C02aaa39b223fe8d0a0e5c4f27ead9083c756cc2";
        for prefix in ["0x", "0X", ""] {
            assert_eq!(
                format!("{prefix}{digits}").parse::<Address>().ok(),
                Address::parse("0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"),
                "{prefix}"
            );
        }
        for text in [&digits[1..], "0x", "", "0x0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2", "vitalik.eth"] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn order_equals_that_of_the_hex_strings() {
        let addresses = [0_usize, 7, 8, 19].map(|index| {
            let mut bytes = [0x80; 20];
            bytes[index] = 0x81;
            HexBytes(bytes)
        });
        for a in addresses {
            for b in addresses {
                assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()), "{a} {b}");
            }
        }
        assert!(HexBytes([1, 2, 3]) < HexBytes([1, 3, 0]), "with fewer than eight bytes");
    }

    #[test]
    fn transaction_hash_round_trips() {
        let text = format!("0x{}", "0123456789abcdef".repeat(4));
        assert_eq!(TxHash::parse(&text).unwrap().to_string(), text);
    }

    #[test]
    fn native_eth_has_two_addresses() {
        assert!(Address::parse("0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE").unwrap().is_native_eth());
        assert!(!Address::MAX.is_native_eth(), "another token");
    }

    #[test]
    fn debug_output_is_the_hex_string() {
        assert_eq!(format!("{:?}", HexBytes([0x0a, 0xff])), "0x0aff");
    }
}
