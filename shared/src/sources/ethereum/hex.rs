//! Hex numbers and bytes of JSON-RPC.

/// Parses a number: `0x` and hex digits. Leading zeros, which the specification forbids and some nodes send, are
/// tolerated. Returns `None` for anything else, and for numbers of more than 64 bits.
pub(super) fn quantity(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").filter(|digits| !digits.is_empty())?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        // A sign, which the parser of the standard library allows.
        return None;
    }
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() { Some(0) } else { u64::from_str_radix(significant, 16).ok() }
}

/// Parses bytes: `0x` and an even number of hex digits, or none.
pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x")?;
    // The decoder would skip a second prefix.
    if digits.starts_with("0x") { None } else { const_hex::decode(digits).ok() }
}

/// Returns a number as JSON-RPC has it.
pub(super) fn to_quantity(number: u64) -> String {
    format!("{number:#x}")
}

/// Returns bytes as JSON-RPC has them.
pub(super) fn to_bytes(bytes: &[u8]) -> String {
    const_hex::encode_prefixed(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn malformed_numbers_and_bytes_are_refused() {
        for text in ["", "0x", "1", "0X1", "0x-1", "0x+1", "0xg", "0x 1", "0x1 ", "0x10000000000000000"] {
            assert_eq!(quantity(text), None, "{text:?}");
        }
        for text in ["", "00", "0x0", "0xgg", "0x 0", "0X00", "0x0x00"] {
            assert_eq!(bytes(text), None, "{text:?}");
        }
        assert_eq!((quantity("0x00000000000000000007"), quantity("0x000")), (Some(7), Some(0)));
        assert_eq!((bytes("0x"), bytes("0xAb01")), (Some(vec![]), Some(vec![0xab, 1])));
    }

    proptest! {
        #[test]
        fn numbers_and_bytes_round_trip(number: u64, data: Vec<u8>) {
            prop_assert_eq!(quantity(&to_quantity(number)), Some(number));
            prop_assert_eq!(bytes(&to_bytes(&data)), Some(data));
        }
    }
}
