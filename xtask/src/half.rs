//! Checkpoints in float16: half the size in the repository, and 11 significant bits of each weight.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;

/// Rewrites a checkpoint of one file of weights, in float32, to float16. Its `manifest.json`, which has the digests of
/// the files before, is removed.
pub(crate) fn store(folder: &Path) -> Result<()> {
    let weights = folder.join("model.safetensors");
    let bytes = fs::read(&weights).with_context(|| format!("cannot read {}", weights.display()))?;
    let halved = halve(&bytes).with_context(|| format!("cannot convert {}", weights.display()))?;
    let config = folder.join("config.json");
    let text = fs::read_to_string(&config).with_context(|| format!("cannot read {}", config.display()))?;
    let mut value: Value =
        serde_json::from_str(&text).with_context(|| format!("{} is not JSON", config.display()))?;
    value["dtype"] = "float16".into();
    fs::write(&weights, halved)?;
    fs::write(&config, serde_json::to_string_pretty(&value)? + "\n")?;
    let manifest = folder.join("manifest.json");
    if manifest.exists() {
        fs::remove_file(manifest)?;
    }
    Ok(())
}

/// Converts a safetensors file's float32 tensors to float16, rounded to the nearest.
fn halve(bytes: &[u8]) -> Result<Vec<u8>> {
    let tensors = SafeTensors::deserialize(bytes)?;
    let halves = tensors.iter().map(|(name, tensor)| {
        ensure!(tensor.dtype() == Dtype::F32, "{name} is {:?}, not float32", tensor.dtype());
        let mut half = Vec::with_capacity(tensor.data().len() / 2);
        for value in tensor.data().chunks_exact(4) {
            let value = f32::from_le_bytes(value.try_into()?);
            let rounded = f16::from_f32(value);
            ensure!(rounded.is_finite(), "{name} has {value}, which float16 does not hold");
            half.extend(rounded.to_le_bytes());
        }
        Ok((name.to_owned(), tensor.shape().to_vec(), half))
    });
    let halves = halves.collect::<Result<Vec<_>>>()?;
    let views = halves
        .iter()
        .map(|(name, shape, half)| Ok((name, TensorView::new(Dtype::F16, shape.clone(), half)?)));
    Ok(safetensors::serialize(views.collect::<Result<Vec<_>>>()?, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(values: &[f32]) -> Vec<u8> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![values.len()], &bytes).unwrap();
        safetensors::serialize([("a", view)], None).unwrap()
    }

    #[test]
    fn weights_are_rounded_to_the_nearest_and_those_too_large_are_refused() {
        let halved = halve(&file(&[1.0, -0.1, 1.0 + 2f32.powi(-12)])).unwrap();
        let read = SafeTensors::deserialize(&halved).unwrap();
        let tensor = read.tensor("a").unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::F16, &[3][..]));
        // IEEE 754 binary16: 1, the nearest to -0.1, and 1 again.
        assert_eq!(tensor.data(), [0x00, 0x3c, 0x66, 0xae, 0x00, 0x3c]);
        let refused = halve(&file(&[70000.0])).unwrap_err().to_string();
        assert_eq!(refused, "a has 70000, which float16 does not hold");
    }
}
