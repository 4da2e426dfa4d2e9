//! On-disk cache of replies, keyed by request.
//!
//! An entry is `DIR/ab/abcd....json`; the name is the digest of the address, the body and the random draw. The
//! API key is sent in a header and is not part of the digest. Entries are written to a temporary file and
//! renamed, so processes may share a directory. An unreadable entry is a miss.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use isr_api::{Fingerprint, FingerprintBuilder};
use serde::{Deserialize, Serialize};

use crate::reply::Reply;

/// Version of the entry format.
const SCHEMA: u32 = 1;

#[derive(Serialize, Deserialize)]
struct CacheEntry {
    schema: u32,
    #[serde(flatten)]
    reply: Reply,
}

/// A cache directory.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Cache key of a request. The draw distinguishes requests with equal bodies if the seed is not sent.
    pub(crate) fn key(url: &str, body: &[u8], draw: u64) -> Fingerprint {
        let mut builder = FingerprintBuilder::default();
        builder.update(url.as_bytes()).update(body).update(&draw.to_le_bytes());
        builder.finish()
    }

    /// The cached reply; `None` on a miss.
    pub(crate) fn get(&self, key: &Fingerprint) -> Option<Reply> {
        let path = self.path(key);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!("cannot read {}: {error}; the server is asked again", path.display());
                }
                return None;
            }
        };
        match serde_json::from_slice::<CacheEntry>(&bytes) {
            Ok(entry) if entry.schema == SCHEMA => Some(entry.reply),
            _ => {
                tracing::warn!("{} holds no reply; the server is asked again", path.display());
                None
            }
        }
    }

    /// Stores a reply. A failure to write is logged, not returned.
    pub(crate) fn put(&self, key: &Fingerprint, reply: &Reply) {
        let path = self.path(key);
        if let Err(error) = write(&path, reply) {
            tracing::warn!("cannot write {}: {error}; the reply is not cached", path.display());
        }
    }

    fn path(&self, key: &Fingerprint) -> PathBuf {
        let name = key.as_str();
        self.dir.join(&name[..2]).join(format!("{name}.json"))
    }
}

fn write(path: &Path, reply: &Reply) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    let entry = CacheEntry { schema: SCHEMA, reply: reply.clone() };
    file.write_all(&serde_json::to_vec(&entry)?)?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

    use super::*;

    fn reply(text: &str) -> Reply {
        Reply { text: text.to_owned(), cut: false, usage: None }
    }

    #[test]
    fn what_is_put_is_got_and_nothing_lies_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(&dir.path().join("new"));
        let key = Cache::key("http://a", b"body", 0);
        assert_eq!(cache.get(&key), None);
        cache.put(&key, &reply("A"));
        cache.put(&key, &reply("B"));
        assert_eq!(cache.get(&key), Some(reply("B")));
        let files = fs::read_dir(cache.path(&key).parent().unwrap()).unwrap().count();
        assert_eq!(files, 1);
    }

    #[test]
    fn address_body_and_draw_tell_replies_apart() {
        let key = Cache::key("http://a", b"body", 0);
        for other in [
            Cache::key("http://b", b"body", 0),
            Cache::key("http://a", b"other", 0),
            Cache::key("http://a", b"body", 1),
        ] {
            assert_ne!(key, other);
        }
    }

    #[test]
    fn a_damaged_entry_is_a_miss_and_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        let key = Cache::key("http://a", b"body", 0);
        cache.put(&key, &reply("A"));
        for damaged in ["{\"schema\":1,\"te", "{\"schema\":2,\"text\":\"A\",\"usage\":null}"] {
            fs::write(cache.path(&key), damaged).unwrap();
            assert_eq!(cache.get(&key), None, "{damaged}");
        }
        cache.put(&key, &reply("C"));
        assert_eq!(cache.get(&key), Some(reply("C")));
    }
}
