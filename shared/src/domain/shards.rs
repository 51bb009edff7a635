//! The shards of the wallets: ranges of addresses of equal width. The fold state and the features have one object per shard.

use std::ops::RangeInclusive;

use super::{Address, HexBytes};

/// Returns the addresses from the first address of shard `first` to the last address of shard `last`.
#[must_use]
pub fn addresses_of(first: u32, last: u32, shards: u32) -> RangeInclusive<Address> {
    // Returns the first 16 bits of the first address of a shard.
    let start = |shard: u32| (u64::from(shard) << 16).div_ceil(u64::from(shards));
    let address = |bits: u64, fill: u8| {
        let [.., high, low] = bits.to_be_bytes();
        let mut bytes = [fill; 20];
        bytes[..2].copy_from_slice(&[high, low]);
        HexBytes(bytes)
    };
    address(start(first), 0x00)..=address(start(last + 1) - 1, 0xff)
}

/// Returns the shard of a wallet. Shards are address ranges of equal width.
#[must_use]
pub fn shard_of(wallet: Address, shards: u32) -> u32 {
    let [high, low, ..] = wallet.0;
    u32::from(u16::from_be_bytes([high, low])) * shards / (1 << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_ordered_and_cover_all_addresses() {
        for shards in [1, 3, 4, 7, 256, 65_536] {
            assert_eq!(shard_of(Address::MIN, shards), 0);
            assert_eq!(shard_of(Address::MAX, shards), shards - 1);
            let shard = |first: u8| shard_of(HexBytes([first; 20]), shards);
            assert!((1..=255).all(|first| shard(first - 1) <= shard(first)), "{shards}");
        }
    }

    #[test]
    fn shard_address_ranges_do_not_overlap() {
        for shards in [1, 3, 4, 7, 256, 65_536] {
            assert_eq!(addresses_of(0, shards - 1, shards), Address::MIN..=Address::MAX);
            for shard in [0, shards / 2, shards - 1] {
                let range = addresses_of(shard, shard, shards);
                assert_eq!((shard_of(*range.start(), shards), shard_of(*range.end(), shards)), (shard, shard));
                if shard > 0 {
                    let before = addresses_of(shard - 1, shard - 1, shards);
                    assert!(before.end() < range.start());
                    assert_eq!(addresses_of(shard - 1, shard, shards), *before.start()..=*range.end());
                }
            }
        }
    }
}
