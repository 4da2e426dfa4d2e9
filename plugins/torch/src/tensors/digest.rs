//! Hashing of tensors, and writing to files meanwhile, by all cores in one pass.
//!
//! Bytes are gathered on the host in two blocks for each stream: while one is hashed and written, the next is copied
//! from its tensors. BLAKE3 is a hash tree (section 5.3 of its specification), so a digest is the same whatever number
//! of cores computes it. Operating systems let one thread at a time write to a file, so several files are written
//! beside each other.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rayon::Scope;
use tch::{Device, Tensor};

use super::write::Planned;
use crate::error::{Result, TorchError};
use crate::manifest::FileRecord;

/// Bytes of a block. A stream holds two of them in memory.
const BLOCK: usize = 8 << 20;

/// Bytes that one task copies.
const PIECE: usize = 1 << 20;

/// Streams that are under way at the same time, which bounds memory to 64 MiB.
const AT_ONCE: usize = 4;

/// Bytes below which a digest is computed by one core: BLAKE3's own advice for `update_rayon`.
const SERIAL: usize = 128 << 10;

/// Digests of a stream.
pub(super) struct Written {
    /// Size and digest of the file, if there is one.
    pub(super) file: Option<FileRecord>,
    /// Digest of each tensor's bytes by name, if they were asked for.
    pub(super) tensors: Vec<(String, blake3::Hash)>,
}

/// Hashes streams, and writes those that have a file. `tensor` returns a planned tensor, and is asked for each once.
///
/// # Errors
/// Those of `tensor`, of copying and of writing.
pub(super) fn run(
    streams: Vec<Stream<'_>>,
    tensor: &mut dyn FnMut(&str) -> Result<Tensor>,
) -> Result<Vec<Written>> {
    let count = streams.len();
    let mut waiting: VecDeque<(usize, Stream<'_>)> = streams.into_iter().enumerate().collect();
    let (mut active, mut done) = (Vec::new(), Vec::new());
    while done.len() < count {
        while let Some(next) = waiting.pop_front_if(|_| active.len() < AT_ONCE) {
            active.push(next);
        }
        let mut pieces = Vec::new();
        for (_, stream) in &mut active {
            pieces.push(stream.next_pieces(tensor)?);
        }
        let failure = Failure::default();
        rayon::scope(|scope| {
            for ((_, stream), pieces) in active.iter_mut().zip(pieces) {
                stream.spawn(scope, pieces, &failure);
            }
        });
        failure.into_result()?;
        active.iter_mut().for_each(|(_, stream)| stream.turn());
        let ended = active.extract_if(.., |(_, stream)| stream.is_finished());
        done.extend(ended.map(|(index, stream)| (index, stream.finish())));
    }
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, written)| written).collect())
}

/// First error of the tasks of a round.
#[derive(Default)]
struct Failure(Mutex<Option<TorchError>>);

impl Failure {
    fn note(&self, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    fn into_result(self) -> Result<()> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// Tensors in the order of their bytes, and the file that takes these, if there is one.
pub(super) struct Stream<'p> {
    rest: VecDeque<&'p Planned>,
    /// Tensor of which a part has been taken: flat elements, and the number of those that have been taken.
    open: Option<(Tensor, i64)>,
    /// Block that is hashed and written.
    full: Block,
    /// Block that is filled.
    filling: Block,
    file: Option<DigestedFile>,
    /// Digests of tensors, if they are asked for.
    each: Option<EachDigest<'p>>,
}

/// Bytes in the order of the stream.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

/// Bytes of a block that are of one tensor.
struct Span {
    range: Range<usize>,
    /// Whether the tensor ends here.
    ends: bool,
}

/// Part of a tensor, with its size in bytes.
struct Piece {
    elements: Tensor,
    bytes: usize,
    ends: bool,
}

impl<'p> Stream<'p> {
    /// Creates a stream that digests each tensor's bytes by itself, if `each`.
    pub(super) fn new(planned: Vec<&'p Planned>, file: Option<DigestedFile>, each: bool) -> Self {
        let names = planned.iter().map(|planned| planned.name.as_str()).collect();
        let each = each.then(|| EachDigest { names, open: None, digests: Vec::new(), hashers: Vec::new() });
        let (full, filling) = (Block::default(), Block::default());
        Self { rest: planned.into(), open: None, full, filling, file, each }
    }

    /// Takes the parts of tensors that fill the next block; none at the end.
    fn next_pieces(&mut self, tensor: &mut dyn FnMut(&str) -> Result<Tensor>) -> Result<Vec<Piece>> {
        let (mut pieces, mut size) = (Vec::new(), 0);
        while size < BLOCK {
            let (flat, taken) = match self.open.take() {
                Some(open) => open,
                None => match self.rest.pop_front() {
                    Some(planned) => (flat(planned, &tensor(&planned.name)?)?, 0),
                    None => break,
                },
            };
            let width = flat.kind().elt_size_in_bytes();
            let (count, room) = (flat.numel() as i64, (BLOCK - size).min(PIECE) / width);
            let length = (count - taken).min(room.max(1) as i64);
            let (ends, bytes) = (taken + length == count, length as usize * width);
            pieces.push(Piece { elements: flat.f_narrow(0, taken, length)?, bytes, ends });
            size += bytes;
            if !ends {
                self.open = Some((flat, taken + length));
            }
        }
        Ok(pieces)
    }

    /// Spawns the tasks that hash and write one block, and fill the other.
    fn spawn<'s>(&'s mut self, scope: &Scope<'s>, pieces: Vec<Piece>, failure: &'s Failure) {
        let Block { bytes, spans } = &self.full;
        // The first task is the one that another core takes first; writing is the longest.
        if let Some(DigestedFile { file, path, hasher, bytes: size }) = &mut self.file {
            *size += bytes.len() as u64;
            scope.spawn(|_| failure.note(file.write_all(bytes).map_err(TorchError::io("write", &*path))));
            scope.spawn(|_| update(hasher, bytes));
        }
        if let Some(each) = &mut self.each {
            each.spawn(scope, bytes, spans);
        }
        self.filling.spawn(scope, pieces, failure);
    }

    /// Exchanges the blocks after a round.
    fn turn(&mut self) {
        if let Some(each) = &mut self.each {
            each.collect(&self.full.spans);
        }
        std::mem::swap(&mut self.full, &mut self.filling);
    }

    fn is_finished(&self) -> bool {
        self.open.is_none() && self.rest.is_empty() && self.full.spans.is_empty()
    }

    fn finish(self) -> Written {
        let record = |file: DigestedFile| FileRecord {
            bytes: file.bytes,
            blake3: file.hasher.finalize().to_hex().to_string(),
        };
        let tensors = self.each.map(|each| {
            each.names.iter().map(|&name| name.to_owned()).zip(each.digests).collect::<Vec<_>>()
        });
        Written { file: self.file.map(record), tensors: tensors.unwrap_or_default() }
    }
}

impl Block {
    /// Spawns the tasks that copy pieces into the block.
    fn spawn<'s>(&'s mut self, scope: &Scope<'s>, pieces: Vec<Piece>, failure: &'s Failure) {
        self.spans.clear();
        let mut size = 0;
        let mut continues = false;
        for piece in &pieces {
            let range = size..size + piece.bytes;
            size = range.end;
            match self.spans.last_mut().filter(|_| continues) {
                Some(span) => (span.range.end, span.ends) = (size, piece.ends),
                None => self.spans.push(Span { range, ends: piece.ends }),
            }
            continues = !piece.ends;
        }
        self.bytes.resize(size, 0);
        let mut rest = self.bytes.as_mut_slice();
        for piece in pieces {
            let (own, behind) = rest.split_at_mut(piece.bytes);
            rest = behind;
            scope.spawn(move |_| failure.note(copy(&piece.elements, own)));
        }
    }
}

/// Copies elements to the host as little-endian bytes.
fn copy(elements: &Tensor, bytes: &mut [u8]) -> Result<()> {
    Ok(elements.f_to_device(Device::Cpu)?.f_copy_data_u8(bytes, elements.numel())?)
}

/// Returns the elements of a planned tensor, row-major.
fn flat(planned: &Planned, tensor: &Tensor) -> Result<Tensor> {
    if tensor.kind() != planned.kind || tensor.size() != planned.shape {
        return Err(TorchError::Engine(format!("{} changed while it was written", planned.name)));
    }
    Ok(tensor.f_detach()?.f_contiguous()?.f_view([tensor.numel() as i64])?)
}

fn update(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    if bytes.len() < SERIAL {
        hasher.update(bytes);
    } else {
        hasher.update_rayon(bytes);
    }
}

/// Digests of the tensors of a stream.
struct EachDigest<'p> {
    names: Vec<&'p str>,
    /// State of the tensor that the next block begins within.
    open: Option<blake3::Hasher>,
    /// Digests of the tensors that have ended.
    digests: Vec<blake3::Hash>,
    /// States of the spans of a round.
    hashers: Vec<blake3::Hasher>,
}

impl EachDigest<'_> {
    fn spawn<'s>(&'s mut self, scope: &Scope<'s>, bytes: &'s [u8], spans: &'s [Span]) {
        self.hashers.clear();
        self.hashers.extend(self.open.take());
        self.hashers.resize_with(spans.len(), blake3::Hasher::new);
        for (hasher, span) in self.hashers.iter_mut().zip(spans) {
            scope.spawn(|_| update(hasher, &bytes[span.range.clone()]));
        }
    }

    fn collect(&mut self, spans: &[Span]) {
        for (hasher, span) in self.hashers.drain(..).zip(spans) {
            match span.ends {
                true => self.digests.push(hasher.finalize()),
                false => self.open = Some(hasher),
            }
        }
    }
}

/// File under construction, with the digest of what has been written.
pub(super) struct DigestedFile {
    file: File,
    path: PathBuf,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl DigestedFile {
    /// Creates a file that begins with `header`.
    pub(super) fn create(path: PathBuf, header: &[u8]) -> Result<Self> {
        let mut file = File::create(&path).map_err(TorchError::io("create", &path))?;
        file.write_all(header).map_err(TorchError::io("write", &path))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(header);
        Ok(Self { file, path, hasher, bytes: header.len() as u64 })
    }
}
