//! Reads the structures of Thrift's compact protocol in a Parquet file far enough to check them before a decoder
//! allocates memory for what they claim.
//!
//! The decoder does not look at the types that a file gives its fields: it reads those that it knows as what they should
//! be, and skips the others by their type. So the walk here knows them too, and refuses what it would read in another way
//! than the decoder: another program could hide anything there.

/// The maximum depth of structures and lists. Those of Parquet have a depth of less than ten.
const MAX_DEPTH: usize = 24;

/// The type of a field or of an item of a list.
#[derive(Debug, Clone, Copy)]
pub(super) enum Type {
    /// An item of a list. A field that is a boolean has its value in its type, and needs no entry in [`Fields`].
    Bool,
    Byte,
    I16,
    I32,
    I64,
    Double,
    Binary,
    List(&'static Type),
    Struct(Fields),
}

/// The fields of a structure that the decoder knows, with their ids.
pub(super) type Fields = &'static [(i16, Type)];

impl Type {
    /// Returns whether a file's number of a type means this one.
    fn is(self, wire: u8) -> bool {
        match self {
            // Writers disagree on the type of items.
            Type::Bool => matches!(wire, 1 | 2),
            Type::Byte => wire == 3,
            Type::I16 => wire == 4,
            Type::I32 => wire == 5,
            Type::I64 => wire == 6,
            Type::Double => wire == 7,
            Type::Binary => wire == 8,
            Type::List(_) => wire == 9,
            Type::Struct(_) => wire == 12,
        }
    }
}

/// What a structure takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Its length.
    pub(super) bytes: usize,
    /// The number of items in all its lists.
    pub(super) items: u64,
}

/// Reads a structure at the start of some bytes, and calls `visit` with the path of field ids and the value of each
/// integer, and the length of each string. Items of lists have the id 0. Returns `None` if the structure is malformed: a
/// list, for example, that claims more items than bytes follow.
pub(super) fn read_struct(bytes: &[u8], fields: Fields, mut visit: impl FnMut(&[i16], i64)) -> Option<Extent> {
    let mut reader = Reader { rest: bytes, path: Vec::new(), items: 0, visit: &mut visit };
    reader.structure(fields)?;
    Some(Extent { bytes: bytes.len() - reader.rest.len(), items: reader.items })
}

struct Reader<'a> {
    rest: &'a [u8],
    path: Vec<i16>,
    items: u64,
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

    fn structure(&mut self, fields: Fields) -> Option<()> {
        if self.path.len() > MAX_DEPTH {
            return None;
        }
        let mut last = 0;
        loop {
            let header = self.byte()?;
            if header == 0 {
                return Some(());
            }
            let id = match header >> 4 {
                0 => i16::try_from(self.integer()?).ok()?,
                delta => i16::checked_add(last, delta.into())?,
            };
            // Writers write fields in order. So a field occurs once: of two, the decoder may count one and read both.
            if id <= last {
                return None;
            }
            last = id;
            let known = fields.iter().find(|(field, _)| *field == id).map(|(_, kind)| kind);
            self.path.push(id);
            match header & 0x0f {
                1 | 2 if known.is_none() => {}
                wire => self.value(wire, known)?,
            }
            self.path.pop();
        }
    }

    /// Reads a value that a file gives a type. Sets and maps, which Parquet has none of, are refused, as are booleans in
    /// lists that the decoder skips: it takes them for zero bytes.
    fn value(&mut self, wire: u8, known: Option<&Type>) -> Option<()> {
        if known.is_some_and(|known| !known.is(wire)) {
            return None;
        }
        match wire {
            1 | 2 if known.is_some() => self.skip(1),
            3 => self.skip(1),
            4 => self.number(i64::from(i16::MIN), i64::from(i16::MAX)),
            5 => self.number(i64::from(i32::MIN), i64::from(i32::MAX)),
            6 => self.number(i64::MIN, i64::MAX),
            7 => self.skip(8),
            8 => {
                let length = self.varint()?;
                self.skip(length)?;
                (self.visit)(&self.path, i64::try_from(length).ok()?);
                Some(())
            }
            9 => self.list(match known {
                Some(Type::List(item)) => Some(item),
                _ => None,
            }),
            12 => self.structure(match known {
                Some(Type::Struct(fields)) => fields,
                _ => &[],
            }),
            13 => self.skip(16),
            _ => None,
        }
    }

    /// The decoder cuts off the bits of a number that its type has no room for.
    fn number(&mut self, min: i64, max: i64) -> Option<()> {
        let value = self.integer()?;
        (self.visit)(&self.path, value);
        (min..=max).contains(&value).then_some(())
    }

    /// Reads a list. Each item takes at least one byte.
    fn list(&mut self, item: Option<&Type>) -> Option<()> {
        let header = self.byte()?;
        let count = match header >> 4 {
            15 => self.varint()?,
            count => count.into(),
        };
        if count > self.rest.len() as u64 || self.path.len() > MAX_DEPTH {
            return None;
        }
        self.items += count;
        self.path.push(0);
        for _ in 0..count {
            self.value(header & 0x0f, item)?;
        }
        self.path.pop();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Integers = Vec<(Vec<i16>, i64)>;

    const FIELDS: Fields = &[
        (1, Type::I32),
        (3, Type::Binary),
        (4, Type::Struct(&[(1, Type::I64)])),
        (5, Type::List(&Type::I16)),
        (6, Type::List(&Type::Bool)),
        (7, Type::Byte),
    ];

    fn integers(bytes: &[u8]) -> Option<(Extent, Integers)> {
        let mut found = Vec::new();
        let extent = read_struct(bytes, FIELDS, |path, value| found.push((path.to_vec(), value)))?;
        Some((extent, found))
    }

    #[test]
    fn integers_and_lengths_are_visited_with_their_paths() {
        // 1: i32 -3, 2: true, 3: "ab", 4: {1: i64 300}, 5: [i16 7, i16 8], 6: [true, false], 7: 9, 22: double.
        let bytes = [
            0x15, 0x05, 0x11, 0x18, 0x02, b'a', b'b', 0x1c, 0x16, 0xd8, 0x04, 0x00, 0x19, 0x24, 0x0e, 0x10, 0x19, 0x22,
            0x01, 0x02, 0x13, 0x09, 0x07, 0x2c, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0xff,
        ];
        let expected = vec![(vec![1], -3), (vec![3], 2), (vec![4, 1], 300), (vec![5, 0], 7), (vec![5, 0], 8)];
        assert_eq!(integers(&bytes), Some((Extent { bytes: bytes.len() - 1, items: 4 }, expected)));
        for length in 0..bytes.len() - 1 {
            assert_eq!(integers(&bytes[..length]), None, "{length}");
        }
    }

    #[test]
    fn claims_of_more_than_the_bytes_are_malformed() {
        // A list of 2³¹ structures, a string of 2³¹ bytes, and structures without end.
        for claim in [[0x09, 0x64, 0xfc], [0x08, 0x64, 0x80]] {
            assert_eq!(integers(&[&claim[..], &[0xff, 0xff, 0xff, 0x7f, 0x00, 0x00]].concat()), None, "{claim:?}");
        }
        assert_eq!(integers(&[0x1c; 100_000]), None);
        assert_eq!(integers(&[0x19; 100_000]), None);
    }

    #[test]
    fn fields_that_a_decoder_may_read_in_another_way_are_malformed() {
        // As field 50, which is unknown: lists of two booleans, of two sets and of two maps, a set, a map, and nested.
        for value in [
            &[0x09, 0x64, 0x21, 0x01, 0x01][..],
            &[0x09, 0x64, 0x22, 0x01, 0x01],
            &[0x09, 0x64, 0x2a, 0x05, 0x05],
            &[0x09, 0x64, 0x2b, 0x00, 0x00],
            &[0x0a, 0x64, 0x25, 0x01, 0x01],
            &[0x0b, 0x64, 0x00],
            &[0x0c, 0x64, 0x19, 0x21, 0x01, 0x01, 0x00],
        ] {
            assert_eq!(integers(&[value, &[0x00; 8]].concat()), None, "{value:?}");
        }
        // Known fields with other types: an i32 as a string, a double, a boolean and an i64; a string as an i32; a list of
        // strings for one of i16, and a structure for a list.
        for value in [
            &[0x18, 0x01, 0x00][..],
            &[0x17, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x11],
            &[0x16, 0x02],
            &[0x35, 0x02],
            &[0x59, 0x28, 0x00, 0x00],
            &[0x5c, 0x00],
        ] {
            assert_eq!(integers(&[value, &[0x00; 8]].concat()), None, "{value:?}");
        }
        // 2³² + 1 as an i32, fields twice and in another order, and an id below 1.
        for value in [
            &[0x15, 0x82, 0x80, 0x80, 0x80, 0x20][..],
            &[0x15, 0x02, 0x05, 0x02, 0x02],
            &[0x38, 0x00, 0x05, 0x02, 0x02],
            &[0x05, 0x00, 0x02],
            &[0x05, 0x01, 0x02],
        ] {
            assert_eq!(integers(&[value, &[0x00; 8]].concat()), None, "{value:?}");
        }
    }
}
