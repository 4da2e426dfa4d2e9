//! Devices and dtypes.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Cuda, Device, Kind, Tensor};

use crate::error::{Result, TorchError};
use crate::process_group;
use crate::tensors::TensorFolder;

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

/// Dtype of weights and activations, or how it is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionConfig {
    /// On a GPU that of the checkpoint's weights, bfloat16 for float16; on a CPU float32.
    #[default]
    Auto,
    /// [`Precision::Float32`].
    Float32,
    /// [`Precision::Bfloat16`].
    Bfloat16,
}

impl From<Precision> for PrecisionConfig {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Float32 => Self::Float32,
            Precision::Bfloat16 => Self::Bfloat16,
        }
    }
}

impl PrecisionConfig {
    pub(crate) fn is_auto(&self) -> bool {
        *self == Self::Auto
    }

    /// Chooses for a checkpoint folder and a device.
    ///
    /// # Errors
    /// Weight files whose headers cannot be read.
    pub(crate) fn choose(self, checkpoint: &Path, device: Device) -> Result<Precision> {
        match self {
            Self::Float32 => Ok(Precision::Float32),
            Self::Bfloat16 => Ok(Precision::Bfloat16),
            Self::Auto if device == Device::Cpu => Ok(Precision::Float32),
            Self::Auto if stored_kind(checkpoint)? == Kind::Float => Ok(Precision::Float32),
            Self::Auto if multiplies_bfloat16(device) => Ok(Precision::Bfloat16),
            Self::Auto => {
                tracing::info!(?device, "this device has no products of bfloat16: float32 is taken");
                Ok(Precision::Float32)
            }
        }
    }
}

/// Returns the dtype that most of a checkpoint's bytes have.
fn stored_kind(checkpoint: &Path) -> Result<Kind> {
    let files = TensorFolder::open(checkpoint)?;
    let mut bytes = Vec::<(Kind, usize)>::new();
    for stored in &files.tensors {
        // Codes of a quantised weight; its other tensors are smaller than those that are not quantised.
        if stored.dtype == safetensors::Dtype::U8 {
            continue;
        }
        let kind = files.kind(stored)?;
        match bytes.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, sum)) => *sum += stored.bytes,
            None => bytes.push((kind, stored.bytes)),
        }
    }
    Ok(bytes.into_iter().max_by_key(|(_, sum)| *sum).map_or(Kind::Float, |(kind, _)| kind))
}

fn multiplies_bfloat16(device: Device) -> bool {
    let product = || -> Result<f64> {
        let ones = Tensor::f_ones([16, 16], (Kind::BFloat16, device))?;
        Ok(f64::try_from(&ones.f_mm(&ones)?.f_sum(Kind::Float)?)?)
    };
    product().is_ok_and(|sum| sum == 4096.0)
}

/// Parses a device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`. In a group of processes, `auto` and `cuda`
/// are the GPU of the process's place among those of its machine.
///
/// # Errors
/// An unknown name, or a device that is not available.
pub(crate) fn parse_device(name: &str) -> Result<Device> {
    let refuse = |reason: &str| Err(TorchError::Device(name.to_owned(), reason.to_owned()));
    load_cuda();
    let own = process_group::current().map_or(0, |group| group.place().local_rank);
    let index = match name {
        "auto" if !Cuda::is_available() => return Ok(Device::Cpu),
        "cpu" => return Ok(Device::Cpu),
        "auto" | "cuda" => Some(own),
        other => other.strip_prefix("cuda:").and_then(|index| index.parse::<usize>().ok()),
    };
    let Some(index) = index else {
        return refuse("is not one of auto, cpu, cuda, cuda:N");
    };
    if !Cuda::is_available() {
        return refuse("was asked for, but no CUDA device can be used; try `auto` or `cpu`");
    }
    if index as i64 >= Cuda::device_count() && index == own && own > 0 {
        let (count, process) = (Cuda::device_count(), own + 1);
        return refuse(&format!(
            "has no GPU for the {process}. process of this machine, which has {count} GPUs; start as many processes, or \
             name the GPU that they share, as `cuda:0`"
        ));
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
pub(crate) fn load_cuda() {
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

    /// A GPU takes the type of the weights; that the device multiplies it is tried, here on the CPU.
    #[test]
    fn precision_is_that_of_the_checkpoint_on_a_gpu_and_float32_on_a_cpu() {
        let folder = tempfile::tempdir().unwrap();
        for (kind, precision) in [
            (Kind::Float, Precision::Float32),
            (Kind::BFloat16, Precision::Bfloat16),
            (Kind::Half, Precision::Bfloat16),
        ] {
            let small = Tensor::ones([2], (Kind::Float, Device::Cpu));
            let large = Tensor::ones([9], (kind, Device::Cpu));
            let tensors = [("a".to_owned(), small), ("b".to_owned(), large)].into();
            crate::tensors::write_tensors(&folder.path().join("model.safetensors"), &tensors).unwrap();
            assert_eq!(stored_kind(folder.path()).unwrap(), kind);
            let chosen = |config: PrecisionConfig, device| config.choose(folder.path(), device).unwrap();
            assert_eq!(chosen(PrecisionConfig::Auto, Device::Cpu), Precision::Float32);
            assert_eq!(chosen(precision.into(), Device::Cpu), precision);
        }
        assert!(multiplies_bfloat16(Device::Cpu));
    }

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
