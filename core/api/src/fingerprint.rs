//! Content digests of weights, configs and inputs, for cache keys and records.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fmt, io};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A 128-bit BLAKE3 digest, as 32 hexadecimal digits. Equal fingerprints mean interchangeable content.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(Arc<str>);

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    /// Shares the text of the last one that the thread has read: millions of responses name one policy.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        thread_local! {
            static LAST: RefCell<Arc<str>> = RefCell::new(Arc::from(""));
        }
        let text = Cow::<str>::deserialize(deserializer)?;
        LAST.with_borrow_mut(|last| {
            if **last != *text {
                *last = Arc::from(&*text);
            }
            Ok(Self(Arc::clone(last)))
        })
    }
}

impl Fingerprint {
    /// Computes the digest of one byte string.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        let mut builder = FingerprintBuilder::default();
        builder.update(bytes.as_ref());
        builder.finish()
    }

    /// Computes the digest of a value's JSON form. Meant for structs, whose field order is fixed; the digest of a
    /// hash map depends on its iteration order.
    ///
    /// # Errors
    /// A value without a JSON form: a map whose keys are no strings, a path that is not UTF-8.
    pub fn try_of_json(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        // A list of samples may be larger than one would hold as text; its length stands before it.
        let (mut length, mut builder) = (Counter(0), FingerprintBuilder::default());
        serde_json::to_writer(&mut length, value)?;
        builder.hasher.update(&length.0.to_le_bytes());
        serde_json::to_writer(&mut builder.hasher, value)?;
        Ok(builder.finish())
    }

    /// Computes the digest of a value's JSON form, for values that always have one. Another value gets a digest that
    /// equals no other, also not that of the same value: nothing is taken for its like.
    pub fn of_json(value: &impl Serialize) -> Self {
        Self::try_of_json(value).unwrap_or_else(|_| Self::unlike_any())
    }

    fn unlike_any() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::of(format!("no JSON form: {} {time:?} {number}", std::process::id()))
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

/// Counts the bytes that are written.
struct Counter(u64);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Fingerprint(digits.into())
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

    #[cfg(unix)]
    #[test]
    fn values_without_a_json_form_are_never_equal() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        use std::path::Path;
        let path = |name: &'static [u8]| Path::new(OsStr::from_bytes(name));
        let (one, other) = (path(b"caf\xe9.mp4"), path(b"th\xe9.mp4"));
        assert!(Fingerprint::try_of_json(&one).is_err());
        assert_ne!(Fingerprint::of_json(&one), Fingerprint::of_json(&other));
        assert_ne!(Fingerprint::of_json(&one), Fingerprint::of_json(&one));
        let tea = Path::new("tea.mp4");
        assert_eq!(Fingerprint::try_of_json(&tea).unwrap(), Fingerprint::of_json(&tea));
    }
}
