//! Memory-mapped reading; the only module that maps files.

use std::fs::File;
use std::path::Path;

use memmap2::{Mmap, MmapOptions};
use tch::{Device, Kind, Tensor};

use crate::error::{Result, TorchError};

/// Copies elements of dtype `kind` from byte `start` of a file into `target`, `[count]` of any dtype on any device. The
/// only additional memory is the mapped pages of that part of the file, which are released at the end. (A buffer
/// instead would make the allocator serve weights from its heap and fragment it by half their size.)
pub(super) fn copy_part(
    file: &File,
    path: &Path,
    start: u64,
    kind: Kind,
    target: &mut Tensor,
) -> Result<()> {
    let count = target.numel();
    let mapped = map(file, path, start, count * kind.elt_size_in_bytes())?;
    let shape = [count as i64];
    if !(mapped.as_ptr() as usize).is_multiple_of(kind.elt_size_in_bytes()) {
        return Ok(target.f_copy_(&Tensor::f_from_data_size(&mapped, &shape, kind)?)?);
    }
    // SAFETY: the pointer is to `count` numbers, mapped, aligned, and read only; the tensor is dropped at
    // the end of this function, before the map (copying to a device is synchronous from such memory).
    #[allow(unsafe_code)]
    let numbers = unsafe { Tensor::f_from_blob(mapped.as_ptr(), &shape, &[1], kind, Device::Cpu) }?;
    Ok(target.f_copy_(&numbers)?)
}

fn map(file: &File, path: &Path, start: u64, length: usize) -> Result<Mmap> {
    // SAFETY: the map is private to this process and only read. Nothing can keep another process from
    // writing to the file meanwhile: then the bytes read are the new ones, which is why checkpoints are
    // replaced by renaming and never written in place. Weights have no invalid bit patterns. A file that
    // is cut off while it is mapped ends the process with SIGBUS; its length was checked when it was
    // opened, which leaves the moment of reading.
    #[allow(unsafe_code)]
    let mapped = unsafe { MmapOptions::new().offset(start).len(length).map(file) };
    mapped.map_err(TorchError::io("map", path))
}
