//! Reading of tensors to a device, piece by piece.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use safetensors::Dtype;
use tch::{Device, Kind, Tensor};

use super::map::copy_part;
use super::{PIECE, Stored, TensorFolder, kind_of};
use crate::error::{Result, TorchError};

impl TensorFolder {
    /// Reads a tensor to `device` as `kind`, with a few megabytes of additional memory.
    ///
    /// # Errors
    /// An unsupported dtype, or a file that cannot be read.
    pub(crate) fn read(&self, stored: &Stored, kind: Kind, device: Device) -> Result<Tensor> {
        let mut tensor = Tensor::f_empty(&stored.shape, (kind, device))?;
        self.read_into(stored, &mut tensor)?;
        Ok(tensor)
    }

    /// Reads a tensor into `target` of the same shape, converted to the dtype and device of `target`.
    pub(crate) fn read_into(&self, stored: &Stored, target: &mut Tensor) -> Result<()> {
        self.read_elements(stored, 0, &target.f_detach()?.f_view([stored.count()])?)
    }

    /// Reads the elements from `first` on into a flat `target`, converted to its dtype and device.
    pub(crate) fn read_elements(&self, stored: &Stored, first: i64, target: &Tensor) -> Result<()> {
        let (path, file) = &self.files[stored.file];
        let kind = self.any_kind(stored)?;
        let width = kind.elt_size_in_bytes();
        let start = stored.start + (first as usize * width) as u64;
        let bytes = target.numel() * width;
        let mut done = 0;
        while done < bytes {
            let length = PIECE.min(bytes - done);
            let mut place = target.f_narrow(0, (done / width) as i64, (length / width) as i64)?;
            copy_part(file, path, start + done as u64, kind, &mut place)?;
            done += length;
        }
        Ok(())
    }

    /// Returns whether two tensors of one shape hold the same values, compared a few megabytes at a time.
    ///
    /// # Errors
    /// An unsupported dtype, or a file that cannot be read.
    pub(crate) fn equal(&self, one: &Stored, other: &Stored) -> Result<bool> {
        let kinds = [self.kind(one)?, self.kind(other)?];
        let kind = if kinds[0] == kinds[1] { kinds[0] } else { Kind::Double };
        let step = (PIECE / kind.elt_size_in_bytes()) as i64;
        let count = one.count();
        for done in (0..count).step_by(step as usize) {
            let part = |stored: &Stored, own: Kind| -> Result<Tensor> {
                let mut part = Tensor::f_empty([step.min(count - done)], (kind, Device::Cpu))?;
                let start = stored.start + done as u64 * own.elt_size_in_bytes() as u64;
                let (path, file) = &self.files[stored.file];
                copy_part(file, path, start, own, &mut part)?;
                Ok(part)
            };
            if !part(one, kinds[0])?.f_equal(&part(other, kinds[1])?)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns libtorch's dtype of a stored tensor, which may be unsigned bytes.
    pub(crate) fn any_kind(&self, stored: &Stored) -> Result<Kind> {
        match stored.dtype {
            Dtype::U8 => Ok(Kind::Uint8),
            _ => self.kind(stored),
        }
    }

    /// Returns libtorch's dtype of a stored weight.
    ///
    /// # Errors
    /// An unsupported dtype.
    pub(crate) fn kind(&self, stored: &Stored) -> Result<Kind> {
        kind_of(stored.dtype).ok_or_else(|| {
            let reason = format!(
                "{} has type {:?}; weights are F32, F16, BF16 or F64, or nf4 of bitsandbytes (other quantised checkpoints are not supported)",
                stored.name, stored.dtype
            );
            TorchError::checkpoint(&self.files[stored.file].0, reason)
        })
    }
}

/// Reads every tensor of a safetensors file to the CPU.
pub(crate) fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let folder = TensorFolder::open_file(path)?;
    let read = |stored: &Stored| -> Result<(String, Tensor)> {
        Ok((stored.name.clone(), folder.read(stored, folder.kind(stored)?, Device::Cpu)?))
    };
    folder.tensors.iter().map(read).collect()
}

/// Tensor to be read, and the tensor that takes its values.
pub(crate) struct Reading<'f> {
    pub(crate) files: &'f TensorFolder,
    pub(crate) stored: &'f Stored,
    pub(crate) target: Tensor,
}

/// Reads tensors by `threads` threads.
pub(crate) fn read_each(readings: Vec<Reading<'_>>, threads: usize) -> Result<()> {
    let rest = Mutex::new(readings.into_iter());
    let work = || -> Result<()> {
        loop {
            let next = rest.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(Reading { files, stored, mut target }) = next else { return Ok(()) };
            files.read_into(stored, &mut target)?;
        }
    };
    if threads <= 1 {
        return work();
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// Returns the number of threads that read weights to a device. libtorch copies within a CPU's memory by all cores; to a
/// GPU, the thread that copies also waits for the pages of the file.
pub(crate) fn reading_threads(device: Device) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if device.is_cuda() { cores.min(8) } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::write_tensors;

    #[test]
    fn several_threads_read_what_one_reads_and_errors_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        let named =
            |index: i64| (format!("t{index}"), Tensor::arange(index * 100_000, (Kind::Float, Device::Cpu)));
        let tensors: BTreeMap<String, Tensor> = (0..20).map(named).collect();
        write_tensors(&path, &tensors).unwrap();
        let files = TensorFolder::open_file(&path).unwrap();
        for threads in [1, 4] {
            let target = |stored: &Stored| Tensor::zeros(&stored.shape, (Kind::BFloat16, Device::Cpu));
            let targets: Vec<Tensor> = files.tensors.iter().map(target).collect();
            let reading =
                |(stored, target)| Reading { files: &files, stored, target: Tensor::shallow_clone(target) };
            read_each(files.tensors.iter().zip(&targets).map(reading).collect(), threads).unwrap();
            for (stored, read) in files.tensors.iter().zip(&targets) {
                assert_eq!(*read, tensors[&stored.name].to_kind(Kind::BFloat16), "{}", stored.name);
            }
            let misfit = |stored| Reading {
                files: &files,
                stored,
                target: Tensor::zeros([3], (Kind::Float, Device::Cpu)),
            };
            assert!(read_each(files.tensors.iter().map(misfit).collect(), threads).is_err());
        }
    }
}
