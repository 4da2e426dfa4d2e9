//! A file while it is downloaded, and the check of its digest.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::client::{Client, FileInfo};
use super::error::{FetchError, HubError};
use super::progress::DownloadProgress;

/// Pause between two looks at a file that another process downloads.
const LOCK_PAUSE: Duration = Duration::from_millis(500);

/// The part of a file that has been downloaded, `ETAG.part` beside the blob `ETAG`.
pub(super) struct Partial<'a> {
    pub(super) blob: &'a Path,
    pub(super) part: PathBuf,
    pub(super) info: &'a FileInfo,
}

/// Failure of one attempt: of the request, or of the local cache.
pub(super) enum Attempt {
    Hub(FetchError),
    Own(Box<HubError>),
}

impl<'a> Partial<'a> {
    pub(super) fn new(blob: &'a Path, info: &'a FileInfo) -> Self {
        let mut part = blob.as_os_str().to_owned();
        part.push(".part");
        Self { blob, part: part.into(), info }
    }

    /// Bytes downloaded so far.
    pub(super) fn len(&self) -> u64 {
        fs::metadata(&self.part).map_or(0, |data| data.len())
    }

    /// Downloads what is missing, checks the whole and names it as the blob. Bytes that were got are kept for the next attempt,
    /// unless they are wrong.
    pub(super) fn complete(
        &self,
        client: &Client,
        url: &str,
        progress: DownloadProgress,
    ) -> Result<(), Attempt> {
        let mut size = self.info.size;
        if size.is_none_or(|size| self.len() != size) {
            size = self.fetch(client, url, progress)?.or(size);
        }
        if let Some(size) = size.filter(|size| self.len() != *size) {
            return Err(Attempt::Hub(FetchError::Cut { got: self.len(), size }));
        }
        let digest = digest_error(&self.part, &self.info.etag);
        if let Some(error) = digest
            .map_err(HubError::io("read", &self.part))
            .map_err(|error| Attempt::Own(Box::new(error)))?
        {
            self.start_anew()?;
            return Err(Attempt::Hub(error));
        }
        fs::rename(&self.part, self.blob).map_err(self.failed("rename"))
    }

    /// Appends the missing bytes. Returns the length of the whole file, if the server tells it.
    fn fetch(
        &self,
        client: &Client,
        url: &str,
        mut progress: DownloadProgress,
    ) -> Result<Option<u64>, Attempt> {
        if self.info.size.is_some_and(|size| self.len() > size) {
            self.start_anew()?;
        }
        let have = self.len();
        let mut got = match client.bytes(url, have) {
            // There is nothing behind what is there, so it is not what the hub has.
            Err(error @ FetchError::Status(416)) if have > 0 => {
                self.start_anew()?;
                return Err(Attempt::Hub(error));
            }
            got => got.map_err(Attempt::Hub)?,
        };
        let size = self.info.size.or(got.size);
        if got.start != 0 && got.start != have {
            self.start_anew()?;
            return Err(Attempt::Hub(FetchError::BadRange));
        }
        let mut file = OpenOptions::new();
        let file = if got.start == 0 {
            // The whole file, whatever was asked for.
            file.write(true).truncate(true)
        } else {
            file.append(true)
        };
        let mut file = file.create(true).open(&self.part).map_err(self.failed("write"))?;
        progress.begin(size, got.start);
        let mut reader = got.body.as_reader();
        let (mut at, mut buffer) = (got.start, vec![0; 1 << 16]);
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Attempt::Hub(FetchError::Body(error))),
            };
            at += read as u64;
            if size.is_some_and(|size| at > size) {
                drop(file);
                self.start_anew()?;
                return Err(Attempt::Hub(FetchError::TooLong));
            }
            file.write_all(&buffer[..read]).map_err(self.failed("write"))?;
            progress.add(read as u64);
        }
        file.sync_all().map_err(self.failed("write"))?;
        Ok(size)
    }

    fn start_anew(&self) -> Result<(), Attempt> {
        match fs::remove_file(&self.part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed("remove")(error)),
            _ => Ok(()),
        }
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> Attempt {
        let failed = HubError::io(action, self.part.clone());
        move |error| Attempt::Own(Box::new(failed(error)))
    }
}

/// Compares a file's bytes with an entity tag that is a digest: 64 hexadecimal digits are SHA-256, 40 are SHA-1 as git computes
/// it for a blob. Other tags (of mirrors) say nothing about the bytes.
fn digest_error(path: &Path, etag: &str) -> io::Result<Option<FetchError>> {
    if !etag.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let found = match etag.len() {
        64 => digest(Sha256::new(), path)?,
        40 => {
            let length = fs::metadata(path)?.len();
            digest(Sha1::new_with_prefix(format!("blob {length}\0")), path)?
        }
        _ => return Ok(None),
    };
    let differs = !found.eq_ignore_ascii_case(etag);
    Ok(differs.then(|| FetchError::WrongDigest { expected: etag.to_owned(), found }))
}

fn digest<D: Digest>(mut digest: D, path: &Path) -> io::Result<String> {
    let mut file = BufReader::new(File::open(path)?);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => digest.update(&buffer[..read]),
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Waits until no other process downloads the blob. The lock is held until the file is dropped.
///
/// # Errors
/// The lock file cannot be written.
pub(super) fn lock(blob: &Path) -> Result<File, HubError> {
    let mut path = blob.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let file = opened.map_err(HubError::io("write", &path))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!(file = %blob.display(), "another process downloads it");
                }
                sleep(LOCK_PAUSE);
            }
            Err(TryLockError::Error(error)) => {
                tracing::warn!(%error, "this file system has no locks; downloads of two processes may collide");
                return Ok(file);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_sha256sum_and_git_hash_object() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "hello\n").unwrap();
        // printf 'hello\n' | sha256sum; printf 'hello\n' | git hash-object --stdin
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        for right in [sha256, git, "5d41402abc4b2a76b9719d911017c592", "abc-1", ""] {
            assert!(digest_error(&path, right).unwrap().is_none(), "{right}");
        }
        for wrong in [sha256.replacen('5', "6", 1), git.replacen('c', "d", 1)] {
            assert!(digest_error(&path, &wrong).unwrap().is_some(), "{wrong}");
        }
    }
}
