//! The digest of an object.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::cpu::spawn_cpu;
use crate::error::{Error, Result};

/// The number of bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

/// The SHA-256 digest of an object's bytes. Its text has 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectDigest([u8; 32]);

impl ObjectDigest {
    /// Computes the digest of bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        ObjectDigest(Sha256::digest(bytes).into())
    }

    /// Computes the digest of the bytes of an object, without blocking other tasks.
    ///
    /// # Errors
    /// `Internal` if the computation is interrupted.
    pub(super) async fn of_object(bytes: &Bytes) -> Result<Self> {
        let bytes = bytes.clone();
        spawn_cpu(move || Ok(ObjectDigest::of(&bytes))).await
    }

    /// Computes the digest of what a reader has, without holding all of it in memory.
    ///
    /// # Errors
    /// The reader's.
    pub(super) fn of_reader(mut reader: impl Read) -> io::Result<Self> {
        let (mut digest, mut buffer) = (Sha256::new(), vec![0; READ_BYTES]);
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(ObjectDigest(digest.finalize().into())),
                Ok(length) => digest.update(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the 32 bytes of the digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for ObjectDigest {
    fn from(bytes: [u8; 32]) -> Self {
        ObjectDigest(bytes)
    }
}

impl fmt::Display for ObjectDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode(self.0))
    }
}

impl FromStr for ObjectDigest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; 32];
        let decoded = const_hex::decode_to_slice(text, &mut bytes);
        decoded.map_err(|cause| Error::corrupt("invalid digest").with_source(cause))?;
        Ok(ObjectDigest(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_a_reader_is_that_of_its_bytes() {
        for length in [0, 1, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1, 3 * READ_BYTES] {
            let bytes: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            assert_eq!(ObjectDigest::of_reader(&bytes[..]).unwrap(), ObjectDigest::of(&bytes), "{length}");
            let (start, rest) = bytes.split_at(length / 3);
            assert_eq!(ObjectDigest::of_reader(start.chain(rest)).unwrap(), ObjectDigest::of(&bytes), "{length}");
        }
    }

    #[test]
    fn digest_parses_its_text_only() {
        let digest = ObjectDigest::of(b"");
        let text = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!((digest.to_string().as_str(), text.parse().ok()), (text, Some(digest)));
        for text in ["", "e3b0", "before", &format!("{text}00"), &text.replace('e', "g")] {
            assert!(text.parse::<ObjectDigest>().is_err(), "{text}");
        }
    }
}
