//! Append-only journals of JSON lines.
//!
//! A line is written by one call and ends with a newline. A process that dies while writing leaves a last line
//! without one; opening the journal truncates it, and its item is processed again. A write that fails half-way (the
//! disk is full) is cut off at once.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use isr_api::Error;
use serde::de::{DeserializeOwned, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserializer, Serialize};

use super::files::open_to_append;
use super::marks::LineDigests;
use super::space::write_error;

/// A journal of lines of type `T`, open for appending.
pub struct Journal<T> {
    path: PathBuf,
    file: File,
    /// Length of the whole lines.
    length: u64,
    /// Whether something may stand behind them.
    torn: bool,
    digests: LineDigests,
    of: PhantomData<fn(T)>,
}

impl<T: Serialize + DeserializeOwned> Journal<T> {
    /// Opens or creates a journal; returns it with its lines.
    ///
    /// # Errors
    /// [`Error::Damaged`] for the first complete line that does not parse.
    pub fn open(path: &Path) -> Result<(Self, Vec<T>), Error> {
        let mut lines = Vec::new();
        let journal = Self::open_with(path, |line| lines.push(line))?;
        Ok((journal, lines))
    }

    /// Opens or creates a journal, and calls `take` for each of its lines, with one line in memory at a time.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn open_with(path: &Path, mut take: impl FnMut(T)) -> Result<Self, Error> {
        Self::open_lines(path, |index, line| {
            if !line.is_empty() {
                take(parse_line(path, index, line)?);
            }
            Ok(())
        })
    }

    /// Opens or creates a journal whose lines are of no concern: one that does not parse stays as it is.
    pub fn open_unread(path: &Path) -> Result<Self, Error> {
        Self::open_lines(path, |_, _| Ok(()))
    }

    /// Opens a journal and cuts off a line that was not finished.
    fn open_lines(
        path: &Path,
        mut take: impl FnMut(usize, &[u8]) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let file = open_to_append(path).map_err(|error| Error::io("open", path, error))?;
        let mut digests = LineDigests::default();
        let length = each_line(path, &file, |index, line| {
            digests.push(line);
            take(index, line)
        })?;
        let found = file.metadata().map_err(|error| Error::io("read", path, error))?.len();
        if length < found {
            tracing::info!(path = %path.display(), "cutting off a line that was not finished");
            file.set_len(length).map_err(|error| Error::io("write", path, error))?;
        }
        Ok(Self { path: path.to_owned(), file, length, torn: false, digests, of: PhantomData })
    }

    /// Appends one line, without flushing to disk.
    ///
    /// # Errors
    /// [`Error::Io`]; the journal then holds no part of the line.
    pub fn append(&mut self, line: &T) -> Result<(), Error> {
        let mut text = to_line(&self.path, line)?;
        text.push('\n');
        let written = self.cut().and_then(|()| {
            self.torn = true;
            self.file.write_all(text.as_bytes())
        });
        match written {
            Ok(()) => {
                self.torn = false;
                self.length += text.len() as u64;
                self.digests.push(text.trim_end_matches('\n').as_bytes());
                Ok(())
            }
            Err(error) => {
                // If this fails as well, the next append tries again, or the next opening.
                let _ = self.cut();
                Err(write_error(&self.path, text.len() as u64, error))
            }
        }
    }

    /// Cuts off what a failed write has left.
    fn cut(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.length)?;
            self.torn = false;
        }
        Ok(())
    }

    /// Returns the path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the digests of its lines.
    pub(crate) fn digests(&self) -> &LineDigests {
        &self.digests
    }

    /// Flushes all lines to disk.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|error| Error::io("write", &self.path, error))
    }
}

/// Reads a journal that is not being written. Skips an unfinished last line; a missing file is an empty journal.
///
/// # Errors
/// [`Error::Damaged`] for the first complete line that does not parse.
pub fn read_journal<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    let mut lines = Vec::new();
    scan_journal(path, |line| lines.push(line))?;
    Ok(lines)
}

/// Reads the lines of a journal that parse, and skips others: for files that are no results, such as timings, which
/// must not stop whoever reads them. An unreadable or missing file is an empty journal.
pub fn read_readable<T: DeserializeOwned>(path: &Path) -> Vec<T> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Calls `take` for each line of a journal, with one line in memory at a time; otherwise as [`read_journal`].
pub fn scan_journal<T: DeserializeOwned>(path: &Path, mut take: impl FnMut(T)) -> Result<(), Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("read", path, error)),
    };
    let take = |index: usize, line: &[u8]| {
        if !line.is_empty() {
            take(parse_line(path, index, line)?);
        }
        Ok(())
    };
    each_line(path, &file, take).map(drop)
}

/// Calls `take` for each line that ends with a newline, with its index; returns the bytes of these lines.
pub(super) fn each_line(
    path: &Path,
    file: &File,
    mut take: impl FnMut(usize, &[u8]) -> Result<(), Error>,
) -> Result<u64, Error> {
    let (mut reader, mut line, mut length) = (BufReader::with_capacity(1 << 16, file), Vec::new(), 0);
    for index in 0.. {
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(|error| Error::io("read", path, error))?;
        let Some(whole) = line.strip_suffix(b"\n") else { break };
        take(index, whole)?;
        length += line.len() as u64;
    }
    Ok(length)
}

/// Reads a list as the number of its elements, for `#[serde(deserialize_with = "count_elements")]`: of tokens, whose number is
/// all that is asked for.
///
/// # Errors
/// Anything but a list.
pub fn count_elements<'de, D: Deserializer<'de>>(list: D) -> Result<usize, D::Error> {
    struct Count;

    impl<'de> Visitor<'de> for Count {
        type Value = usize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<usize, A::Error> {
            let mut count = 0;
            while list.next_element::<IgnoredAny>()?.is_some() {
                count += 1;
            }
            Ok(count)
        }
    }

    list.deserialize_seq(Count)
}

/// Serialises the lines of a whole journal.
pub(crate) fn to_lines<T: Serialize>(path: &Path, lines: &[T]) -> Result<String, Error> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&to_line(path, line)?);
        text.push('\n');
    }
    Ok(text)
}

fn to_line<T: Serialize>(path: &Path, line: &T) -> Result<String, Error> {
    serde_json::to_string(line).map_err(|error| Error::io("write", path, error.into()))
}

pub(super) fn parse_line<T: DeserializeOwned>(path: &Path, index: usize, line: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(line).map_err(|error| Error::Damaged {
        path: path.to_owned(),
        reason: format!("line {}: {error}", index + 1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_line_is_cut_off_and_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, "1\n2\n3").unwrap();
        assert_eq!(read_journal::<u32>(&path).unwrap(), [1, 2]);
        let mut scanned = Vec::new();
        scan_journal(&path, |line: u32| scanned.push(line)).unwrap();
        assert_eq!(scanned, [1, 2]);
        let (mut journal, lines) = Journal::<u32>::open(&path).unwrap();
        assert_eq!(lines, [1, 2]);
        journal.append(&3).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n3\n");
    }

    #[test]
    fn what_a_failed_write_left_is_cut_off_before_the_next_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let (mut journal, _) = Journal::<u32>::open(&path).unwrap();
        journal.append(&1).unwrap();
        // As a write that stops in the middle of a line, after which the file cannot be cut.
        journal.file.write_all(b"2").unwrap();
        journal.torn = true;
        journal.append(&3).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n3\n");
        assert_eq!(*journal.digests(), LineDigests::of(b"1\n3\n"));
    }

    #[test]
    fn files_that_are_no_results_are_read_as_far_as_they_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, b"1\n2x3\n\xff\n4\n5").unwrap();
        assert_eq!(read_readable::<u32>(&path), [1, 4, 5]);
        assert!(read_readable::<u32>(&dir.path().join("none")).is_empty());
        let mut journal = Journal::<u32>::open_unread(&path).unwrap();
        journal.append(&6).unwrap();
        assert!(std::fs::read(&path).unwrap().ends_with(b"\n4\n6\n"));
    }

    #[test]
    fn a_damaged_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, "1\nx\n3\n").unwrap();
        let opened = Journal::<u32>::open(&path).err().unwrap();
        let scanned = scan_journal(&path, |_: u32| {}).unwrap_err();
        for error in [opened.to_string(), scanned.to_string()] {
            assert!(error.contains("a.jsonl") && error.contains("line 2"), "{error}");
        }
    }
}
