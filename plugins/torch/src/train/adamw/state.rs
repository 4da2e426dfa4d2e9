//! The optimiser's state in files.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::AdamW;
use super::group::{Moment, part};
use crate::error::{Result, TorchError};
use crate::manifest::Manifest;
use crate::tensors::{read_state, write_tensors};

/// Serialisable state of the optimiser: for each parameter `first.NAME`, `second.NAME` and, where weights are narrower,
/// `master.NAME`, in float32; of 8-bit moments the codes, with `first_scales.NAME` and `second_scales.NAME`.
pub(crate) struct AdamWState {
    steps: i64,
    pub(super) tensors: BTreeMap<String, Tensor>,
}

#[derive(Serialize, Deserialize)]
struct Steps {
    steps: i64,
}

impl AdamWState {
    /// Writes `optimizer.safetensors` and `optimizer.json`.
    pub(in crate::train) fn save(&self, dir: &Path, manifest: &mut Manifest) -> Result<()> {
        let name = "optimizer.safetensors";
        manifest.record(name, write_tensors(&dir.join(name), &self.tensors)?);
        let path = dir.join("optimizer.json");
        let text = format!("{{\"steps\": {}}}\n", self.steps);
        std::fs::write(&path, text).map_err(TorchError::io("write", &path))
    }

    /// Reads a state.
    ///
    /// # Errors
    /// A file that is missing or damaged, or shapes or dtypes that are not those of `optimizer`'s state.
    pub(in crate::train) fn read(dir: &Path, optimizer: &AdamW) -> Result<Self> {
        let path = dir.join("optimizer.json");
        let text = std::fs::read_to_string(&path).map_err(TorchError::io("read", &path))?;
        let Steps { steps } = serde_json::from_str(&text)
            .map_err(|error| TorchError::checkpoint(&path, error.to_string()))?;
        let path = dir.join("optimizer.safetensors");
        let tensors = read_state(&path)?;
        for (name, parameter) in &optimizer.parameters {
            for moment in ["first", "second"] {
                let Some(state) = tensors.get(&format!("{moment}.{name}")) else { continue };
                let refused = |what: &str| {
                    Err(TorchError::checkpoint(path.clone(), format!("{moment}.{name} has {what}")))
                };
                if state.size() != parameter.size() {
                    return refused("another shape");
                }
                if (state.kind() == Kind::Uint8) != optimizer.settings.is_eight_bit(parameter.numel()) {
                    return refused("the dtype of another `training.optimizer`");
                }
                let scales = tensors.get(&format!("{moment}_scales.{name}"));
                let expected = (parameter.numel() as i64 + 255) / 256;
                if state.kind() == Kind::Uint8 && scales.is_none_or(|scales| scales.size() != [expected]) {
                    return refused("no scales of its size beside it");
                }
            }
        }
        Ok(Self { steps, tensors })
    }
}

impl AdamW {
    /// Returns the current state; tensors are shared.
    pub(in crate::train) fn state(&self) -> Result<AdamWState> {
        let mut tensors = BTreeMap::new();
        for group in &self.groups {
            let Some(state) = &group.state else { continue };
            for (member, (name, parameter)) in self.parameters[group.members()].iter().enumerate() {
                let (range, shape) = (group.range(member), parameter.size());
                let mut put = |what: &str, flat: &Tensor| -> Result<()> {
                    let own = part(flat, &range)?.f_view(shape.as_slice())?;
                    tensors.insert(format!("{what}.{name}"), own);
                    Ok(())
                };
                let mut scales = Vec::new();
                for (what, moment) in [("first", &state.first), ("second", &state.second)] {
                    match moment {
                        Moment::Float32(values) => put(what, values)?,
                        Moment::Dynamic8(all) => {
                            put(what, &all.codes)?;
                            scales.push((format!("{what}_scales.{name}"), all.scales.shallow_clone()));
                        }
                    }
                }
                // The master of a float32 parameter is the parameter.
                if let Some(master) = state.master.as_ref().filter(|_| parameter.kind() != Kind::Float) {
                    put("master", master)?;
                }
                tensors.extend(scales);
            }
        }
        Ok(AdamWState { steps: self.steps, tensors })
    }

    /// Restores a state.
    pub(in crate::train) fn restore(&mut self, saved: &AdamWState) -> Result<()> {
        self.steps = saved.steps;
        tch::no_grad(|| (0..self.groups.len()).try_for_each(|at| self.restore_group(at, saved)))
    }

    fn restore_group(&mut self, at: usize, saved: &AdamWState) -> Result<()> {
        for (member, index) in self.groups[at].members().enumerate() {
            let name = self.parameters[index].0.clone();
            let get = |what: &str| saved.tensors.get(&format!("{what}.{name}"));
            let (Some(first), Some(second)) = (get("first"), get("second")) else { continue };
            self.prepare(at)?;
            let group = &self.groups[at];
            let (range, Some(state)) = (group.range(member), &group.state) else { continue };
            let put = |flat: &Tensor, values: &Tensor| -> Result<()> {
                Ok(part(flat, &range)?.f_copy_(&values.f_view([-1])?)?)
            };
            for (moment, values, scales) in
                [(&state.first, first, "first_scales"), (&state.second, second, "second_scales")]
            {
                match moment {
                    Moment::Float32(all) => put(all, values)?,
                    Moment::Dynamic8(all) => {
                        put(&all.codes, values)?;
                        let mut own = all.scales.shallow_clone();
                        get(scales).map_or(Ok(()), |scales| own.f_copy_(scales))?;
                    }
                }
            }
            if let (Some(master), Some(values)) = (&state.master, get("master")) {
                put(master, values)?;
            }
        }
        Ok(())
    }
}
