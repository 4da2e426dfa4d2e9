//! Content digests of weights, configs and inputs, for cache keys and records.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A 128-bit BLAKE3 digest, as 32 hexadecimal digits. Equal fingerprints mean interchangeable content.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Computes the digest of one byte string.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        let mut builder = FingerprintBuilder::default();
        builder.update(bytes.as_ref());
        builder.finish()
    }

    /// Computes the digest of a value's JSON form. Meant for structs, whose field order is fixed; the digest of a
    /// hash map depends on its iteration order.
    pub fn of_json(value: &impl Serialize) -> Self {
        // A value without a JSON form (a map whose keys are no strings) still gets a digest, that of the error's text.
        let text = serde_json::to_string(value).unwrap_or_else(|error| error.to_string());
        Self::of(text)
    }

    /// Returns the 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Incremental digest of several parts. Each part is prefixed with its length, so `["ab", "c"]` and
/// `["a", "bc"]` differ.
#[derive(Default)]
pub struct FingerprintBuilder {
    hasher: blake3::Hasher,
}

impl FingerprintBuilder {
    /// Appends one part.
    pub fn update(&mut self, part: &[u8]) -> &mut Self {
        self.hasher.update(&(part.len() as u64).to_le_bytes());
        self.hasher.update(part);
        self
    }

    /// Returns the digest of all parts so far.
    pub fn finish(&self) -> Fingerprint {
        let mut bytes = [0_u8; 16];
        self.hasher.finalize_xof().fill(&mut bytes);
        Fingerprint(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_delimited() {
        let name = |parts: &[&str]| {
            let mut builder = FingerprintBuilder::default();
            for part in parts {
                builder.update(part.as_bytes());
            }
            builder.finish()
        };
        assert_ne!(name(&["ab", "c"]), name(&["a", "bc"]));
        assert_eq!(name(&["ab"]), Fingerprint::of("ab"));
        assert_eq!(Fingerprint::of("x").as_str().len(), 32);
    }
}
