//! Devices and dtypes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Cuda, Device, Kind};

use crate::error::{Result, TorchError};

/// Dtype of weights and activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE 754 binary32 (`f32`).
    #[default]
    Float32,
    /// bfloat16; the optimiser keeps float32 master weights.
    Bfloat16,
}

impl Precision {
    /// Returns libtorch's dtype.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Float32 => Kind::Float,
            Self::Bfloat16 => Kind::BFloat16,
        }
    }
}

/// Parses a device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.
///
/// # Errors
/// An unknown name, or a device that is not available.
pub(crate) fn parse_device(name: &str) -> Result<Device> {
    let refuse = |reason: &str| Err(TorchError::Device(name.to_owned(), reason.to_owned()));
    load_cuda();
    let index = match name {
        "auto" => return Ok(Device::cuda_if_available()),
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        other => other.strip_prefix("cuda:").and_then(|index| index.parse::<usize>().ok()),
    };
    let Some(index) = index else {
        return refuse("is not one of auto, cpu, cuda, cuda:N");
    };
    if !Cuda::is_available() {
        return refuse("was asked for, but no CUDA device can be used; try `auto` or `cpu`");
    }
    if index as i64 >= Cuda::device_count() {
        return refuse(&format!("does not exist; there are {} CUDA devices", Cuda::device_count()));
    }
    Ok(Device::Cuda(index))
}

/// Loads libtorch's CUDA library if it is installed. Binaries link the CPU library only, so that one binary runs on
/// machines with and without CUDA. libtorch registers its CUDA backend when the library is loaded and caches whether
/// it is there, so this must precede the first query about CUDA.
#[allow(unsafe_code)]
fn load_cuda() {
    use std::sync::Once;
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        // SAFETY: loading runs the library's initialisers, which register operators with libtorch and
        // have no preconditions; it is libtorch's own library, found where the loader finds libtorch.
        let loaded = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) };
        match loaded {
            // Never unloaded: operators stay registered for the life of the process.
            Ok(library) => std::mem::forget(library),
            Err(error) => tracing::debug!(%error, "no CUDA half of libtorch"),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_absent_devices_are_refused_by_name() {
        assert_eq!(parse_device("cpu").unwrap(), Device::Cpu);
        let error = parse_device("gpu").unwrap_err().to_string();
        assert!(error.contains("`gpu`") && error.contains("cuda:N"), "{error}");
        if !Cuda::is_available() {
            assert!(parse_device("cuda:7").unwrap_err().to_string().contains("no CUDA device"));
        }
    }
}
