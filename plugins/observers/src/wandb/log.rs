//! The record log of a `.wandb` file: LevelDB's log format with a header, and with CRC-32 (IEEE) that is not masked.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::recorder::at;

/// Magic, magic number 0xBEE1, version 0.
const HEADER: [u8; 7] = *b":W&B\xe1\xbe\0";
const BLOCK: usize = 32 << 10;
/// CRC, length, and type of a chunk.
const CHUNK_HEADER: usize = 7;

/// Types of chunks: a whole record, and its first, middle and last part.
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// A file of records that grows.
pub(super) struct RecordLog {
    path: PathBuf,
    file: File,
    /// Length of the file.
    length: usize,
}

impl RecordLog {
    /// Opens a file, or begins one.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(at(path))?;
        let length = file.metadata().map_err(at(path))?.len() as usize;
        let mut this = Self { path: path.to_owned(), file, length };
        if length == 0 {
            this.write(&HEADER)?;
        }
        Ok(this)
    }

    pub(super) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame(record, self.length, &mut bytes);
        self.write(&bytes)
    }

    /// Returns the records that `keep` wants. The file is rewritten without the others, and without a last one that was
    /// cut off.
    pub(super) fn retain(&mut self, keep: impl Fn(&[u8]) -> bool) -> io::Result<Vec<Vec<u8>>> {
        let old = fs::read(&self.path).map_err(at(&self.path))?;
        let mut records = records(&old).map_err(at(&self.path))?;
        records.retain(|record| keep(record));
        let mut new = HEADER.to_vec();
        records.iter().for_each(|record| {
            let length = new.len();
            frame(record, length, &mut new);
        });
        if new != old {
            let aside = self.path.with_extension("part");
            fs::write(&aside, &new).map_err(at(&aside))?;
            fs::rename(&aside, &self.path).map_err(at(&self.path))?;
            self.file = OpenOptions::new().append(true).open(&self.path).map_err(at(&self.path))?;
            self.length = new.len();
        }
        Ok(records)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).map_err(at(&self.path))?;
        self.length += bytes.len();
        Ok(())
    }
}

/// Appends the chunks of a record that begins at `position` of the file.
fn frame(record: &[u8], mut position: usize, bytes: &mut Vec<u8>) {
    let mut rest = record;
    let mut is_first = true;
    loop {
        let left = BLOCK - position % BLOCK;
        if left < CHUNK_HEADER {
            bytes.extend(std::iter::repeat_n(0, left));
            position += left;
            continue;
        }
        let (data, later) = rest.split_at(rest.len().min(left - CHUNK_HEADER));
        let kind = match (is_first, later.is_empty()) {
            (true, true) => FULL,
            (true, false) => FIRST,
            (false, false) => MIDDLE,
            (false, true) => LAST,
        };
        bytes.extend(crc(kind, data).to_le_bytes());
        bytes.extend((data.len() as u16).to_le_bytes());
        bytes.push(kind);
        bytes.extend(data);
        position += CHUNK_HEADER + data.len();
        (rest, is_first) = (later, false);
        if rest.is_empty() {
            return;
        }
    }
}

/// The records of a file, up to one that was cut off or is damaged.
fn records(bytes: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    if !bytes.starts_with(&HEADER) {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "it is no log of Weights & Biases; move it away",
        ));
    }
    let (mut all, mut record, mut position) = (Vec::new(), Vec::new(), HEADER.len());
    loop {
        let left = BLOCK - position % BLOCK;
        if left < CHUNK_HEADER {
            position += left;
        }
        let Some((header, rest)) =
            bytes.get(position..).and_then(|it| it.split_first_chunk::<CHUNK_HEADER>())
        else {
            return Ok(all);
        };
        let [c0, c1, c2, c3, l0, l1, kind] = *header;
        let Some(data) = rest.get(..usize::from(u16::from_le_bytes([l0, l1]))) else { return Ok(all) };
        if crc(kind, data) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Ok(all);
        }
        position += CHUNK_HEADER + data.len();
        record.extend(data);
        if matches!(kind, FULL | LAST) {
            all.push(std::mem::take(&mut record));
        }
    }
}

fn crc(kind: u8, data: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(data);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_any_length_are_read_back_and_a_cut_one_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wandb");
        let lengths = [0, 1, 100, BLOCK - 7 - 7 - 7 - 1 - 7 - 100 - 7 - 3, 2, 3 * BLOCK, BLOCK, 5];
        let all: Vec<Vec<u8>> = lengths.iter().zip(0..).map(|(length, n)| vec![n; *length]).collect();
        let mut log = RecordLog::open(&path).unwrap();
        all.iter().for_each(|record| log.append(record).unwrap());
        let whole = fs::read(&path).unwrap();
        assert_eq!(records(&whole).unwrap(), all);
        assert_eq!(records(&whole[..whole.len() - 1]).unwrap(), all[..7]);
        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(records(&damaged).unwrap(), all[..7]);
        assert!(records(b"text").is_err());

        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let mut log = RecordLog::open(&path).unwrap();
        assert_eq!(log.retain(|record| record.len() > 1).unwrap(), all[2..7]);
        log.append(b"more").unwrap();
        assert_eq!(records(&fs::read(&path).unwrap()).unwrap()[4..], [all[6].clone(), b"more".to_vec()]);
    }

    #[test]
    fn a_chunk_is_framed_as_wandb_does() {
        // The first bytes that wandb 0.31 writes, up to the chunk's data.
        assert_eq!(HEADER, [0x3a, 0x57, 0x26, 0x42, 0xe1, 0xbe, 0x00]);
        let mut bytes = Vec::new();
        frame(b"abc", HEADER.len(), &mut bytes);
        // `zlib.crc32(b"\x01abc")` of Python.
        assert_eq!(bytes, [&0x539d_20a9_u32.to_le_bytes()[..], &[3, 0, 1], b"abc"].concat());
    }
}
