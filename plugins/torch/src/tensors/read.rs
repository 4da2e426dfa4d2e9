//! From file to device, a piece at a time.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::map::copy_part;
use super::{PIECE, Stored, TensorFolder, kind_of};
use crate::error::{Result, TorchError};

impl TensorFolder {
    /// A tensor as `kind` on `device`. Beside it, a few megabytes are held.
    ///
    /// # Errors
    /// A type that no weight has; a file that cannot be read.
    pub(crate) fn read(&self, stored: &Stored, kind: Kind, device: Device) -> Result<Tensor> {
        let mut tensor = Tensor::f_empty(&stored.shape, (kind, device))?;
        self.read_into(stored, &mut tensor)?;
        Ok(tensor)
    }

    /// Copies a tensor's values into `target`, which has its shape and keeps its own type and device.
    pub(crate) fn read_into(&self, stored: &Stored, target: &mut Tensor) -> Result<()> {
        let (path, file) = &self.files[stored.file];
        let kind = self.kind(stored)?;
        let width = kind.elt_size_in_bytes();
        let flat = target.f_detach()?.f_view([stored.count()])?;
        let mut done = 0;
        while done < stored.bytes {
            let length = PIECE.min(stored.bytes - done);
            let mut place = flat.f_narrow(0, (done / width) as i64, (length / width) as i64)?;
            copy_part(file, path, stored.start + done as u64, kind, &mut place)?;
            done += length;
        }
        Ok(())
    }

    /// A tensor's type as libtorch knows it.
    pub(crate) fn kind(&self, stored: &Stored) -> Result<Kind> {
        kind_of(stored.dtype).ok_or_else(|| {
            let reason = format!(
                "{} has type {:?}; weights are F32, F16, BF16 or F64 (quantised checkpoints are not supported)",
                stored.name, stored.dtype
            );
            TorchError::checkpoint(&self.files[stored.file].0, reason)
        })
    }
}

/// Reads a safetensors file to the CPU, names and types as they are.
pub(crate) fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let folder = TensorFolder::open_file(path)?;
    let read = |stored: &Stored| -> Result<(String, Tensor)> {
        Ok((stored.name.clone(), folder.read(stored, folder.kind(stored)?, Device::Cpu)?))
    };
    folder.tensors.iter().map(read).collect()
}
