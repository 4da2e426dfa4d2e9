//! Content fingerprints: the names of weights, contracts and configs in caches and records.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A 128-bit BLAKE3 digest in hexadecimal. Equal fingerprints mean interchangeable content.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Fingerprint of some bytes.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        let mut builder = FingerprintBuilder::default();
        builder.update(bytes.as_ref());
        builder.finish()
    }

    /// Fingerprint of a value's JSON form; for configs, whose field order is fixed by their struct.
    pub fn of_json(value: &impl Serialize) -> Self {
        // A config that cannot be written as JSON still needs a name that differs from all others.
        let text = serde_json::to_string(value).unwrap_or_else(|error| error.to_string());
        Self::of(text)
    }

    /// The hexadecimal text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Builds a fingerprint from several parts, each delimited by its length.
#[derive(Default)]
pub struct FingerprintBuilder {
    hasher: blake3::Hasher,
}

impl FingerprintBuilder {
    /// Adds one part.
    pub fn update(&mut self, part: &[u8]) -> &mut Self {
        self.hasher.update(&(part.len() as u64).to_le_bytes());
        self.hasher.update(part);
        self
    }

    /// The fingerprint of all parts in their order.
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
