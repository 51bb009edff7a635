//! Reads the structures of Thrift's compact protocol in a Parquet file far enough to check them before a decoder
//! allocates memory for what they claim.

/// The maximum depth of structures and lists. Those of Parquet have a depth of less than ten.
const MAX_DEPTH: usize = 24;

/// Reads a structure at the start of some bytes, and calls `visit` with the path of field ids and the value of each
/// integer. Returns the length of the structure, or `None` if it is malformed: a list, for example, that claims more
/// items than bytes follow.
pub(super) fn read_struct(bytes: &[u8], mut visit: impl FnMut(&[i16], i64)) -> Option<usize> {
    let mut reader = Reader { rest: bytes, path: Vec::new(), visit: &mut visit };
    reader.structure()?;
    Some(bytes.len() - reader.rest.len())
}

struct Reader<'a> {
    rest: &'a [u8],
    path: Vec<i16>,
    visit: &'a mut dyn FnMut(&[i16], i64),
}

impl Reader<'_> {
    fn skip(&mut self, bytes: u64) -> Option<()> {
        self.rest = self.rest.get(usize::try_from(bytes).ok()?..)?;
        Some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn integer(&mut self) -> Option<i64> {
        let zigzag = self.varint()?;
        Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    fn structure(&mut self) -> Option<()> {
        if self.path.len() > MAX_DEPTH {
            return None;
        }
        let mut id = 0;
        loop {
            let header = self.byte()?;
            if header == 0 {
                return Some(());
            }
            id = match header >> 4 {
                0 => i16::try_from(self.integer()?).ok()?,
                delta => i16::checked_add(id, delta.into())?,
            };
            self.path.push(id);
            // The type of a field that is a boolean is its value.
            if !matches!(header & 0x0f, 1 | 2) {
                self.value(header & 0x0f)?;
            }
            self.path.pop();
        }
    }

    fn value(&mut self, kind: u8) -> Option<()> {
        match kind {
            1..=3 => self.skip(1),
            4..=6 => {
                let value = self.integer()?;
                (self.visit)(&self.path, value);
                Some(())
            }
            7 => self.skip(8),
            8 => {
                let length = self.varint()?;
                self.skip(length)
            }
            9 | 10 => {
                let header = self.byte()?;
                let size = match header >> 4 {
                    15 => self.varint()?,
                    size => size.into(),
                };
                self.items(size, &[header & 0x0f])
            }
            11 => match self.varint()? {
                0 => Some(()),
                size => {
                    let kinds = self.byte()?;
                    self.items(size, &[kinds >> 4, kinds & 0x0f])
                }
            },
            12 => self.structure(),
            13 => self.skip(16),
            _ => None,
        }
    }

    /// Reads the items of a list or a map, of which each takes at least one byte.
    fn items(&mut self, count: u64, kinds: &[u8]) -> Option<()> {
        if count > self.rest.len() as u64 || self.path.len() > MAX_DEPTH {
            return None;
        }
        self.path.push(0);
        for _ in 0..count {
            kinds.iter().try_for_each(|kind| self.value(*kind))?;
        }
        self.path.pop();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Integers = Vec<(Vec<i16>, i64)>;

    fn integers(bytes: &[u8]) -> Option<(usize, Integers)> {
        let mut found = Vec::new();
        let length = read_struct(bytes, |path, value| found.push((path.to_vec(), value)))?;
        Some((length, found))
    }

    #[test]
    fn integers_are_visited_with_their_paths() {
        // 1: i32 -3, 2: true, 3: "ab", 4: {1: i64 300}, 5: [i16 7, i16 8], 21: double.
        let bytes = [
            0x15, 0x05, 0x11, 0x18, 0x02, b'a', b'b', 0x1c, 0x16, 0xd8, 0x04, 0x00, 0x19, 0x24, 0x0e, 0x10, 0x07, 0x2a,
            0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0xff,
        ];
        let expected = vec![(vec![1], -3), (vec![4, 1], 300), (vec![5, 0], 7), (vec![5, 0], 8)];
        assert_eq!(integers(&bytes), Some((bytes.len() - 1, expected)));
        for length in 0..bytes.len() - 1 {
            assert_eq!(integers(&bytes[..length]), None, "{length}");
        }
    }

    #[test]
    fn claims_of_more_than_the_bytes_are_malformed() {
        // A list of 2³¹ structures, a string of 2³¹ bytes, a map of as many entries, and structures without end.
        for claim in [[0x19, 0xfc], [0x18, 0x80], [0x1b, 0x80]] {
            assert_eq!(integers(&[&claim[..], &[0xff, 0xff, 0xff, 0x7f, 0x00, 0x00]].concat()), None, "{claim:?}");
        }
        assert_eq!(integers(&[0x1c; 100_000]), None);
        assert_eq!(integers(&[0x19; 100_000]), None);
    }
}
