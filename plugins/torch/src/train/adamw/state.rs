//! The optimiser's state, as it is saved and restored.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use tch::{Kind, Tensor};

use super::AdamW;
use super::dynamic8::{self, blocks};
use super::group::Moment;
use super::state_files::{self, Description, Shard, StateFiles};
use crate::error::Result;
use crate::manifest::Manifest;

/// Serialisable state of the optimiser: for each parameter `first.NAME`, `second.NAME` and, where weights are narrower,
/// `master.NAME`, in float32; of 8-bit moments the codes, with `first_scales.NAME` and `second_scales.NAME`. Where processes
/// divide the state, the elements of this process's share, flat.
pub(crate) struct AdamWState {
    pub(super) tensors: BTreeMap<String, Tensor>,
    description: Description,
    /// Index of this process among those that divide the state.
    rank: usize,
}

impl AdamWState {
    /// Writes a process's file, and with that of the first `optimizer.json`.
    pub(in crate::train) fn save(&self, dir: &Path, manifest: &mut Manifest) -> Result<()> {
        state_files::write(dir, &self.description, self.rank, &self.tensors, manifest)
    }

    /// Reads what an optimiser holds of a state, which any number of processes has written.
    ///
    /// # Errors
    /// A file that is missing or damaged, or shapes or dtypes that are not those of `optimizer`'s state.
    pub(in crate::train) fn read(dir: &Path, optimizer: &AdamW) -> Result<Self> {
        let files = StateFiles::open(dir)?;
        let mut tensors = BTreeMap::new();
        for group in &optimizer.groups {
            for (member, (name, parameter)) in optimizer.parameters[group.members()].iter().enumerate() {
                let own = group.own_of_member(member);
                let eight_bit = optimizer.settings.is_eight_bit(parameter.numel());
                let whole = |range: &Range<i64>| range.clone();
                let by_block = |range: &Range<i64>| range.start / dynamic8::BLOCK..blocks(range.end);
                let kind = if eight_bit { Kind::Uint8 } else { Kind::Float };
                let mut read = |what: &str, kind, unit: &dyn Fn(&Range<i64>) -> Range<i64>| -> Result<()> {
                    let found = files.read(what, (name, parameter), kind, &own, unit)?;
                    tensors.extend(found.map(|found| (format!("{what}.{name}"), found)));
                    Ok(())
                };
                read("first", kind, &whole)?;
                read("second", kind, &whole)?;
                if eight_bit {
                    read("first_scales", Kind::Float, &by_block)?;
                    read("second_scales", Kind::Float, &by_block)?;
                }
                read("master", Kind::Float, &whole)?;
            }
        }
        let description = Description { steps: files.steps(), shards: Vec::new() };
        Ok(Self { tensors, description, rank: 0 })
    }
}

impl AdamW {
    /// Returns the current state; tensors are shared.
    pub(in crate::train) fn state(&self) -> Result<AdamWState> {
        let mut tensors = BTreeMap::new();
        for group in &self.groups {
            let Some(state) = &group.state else { continue };
            for (member, (name, parameter)) in self.parameters[group.members()].iter().enumerate() {
                let own = group.own_of_member(member);
                if self.settings.divided && own.is_empty() {
                    continue;
                }
                let shape =
                    if self.settings.divided { vec![own.end - own.start] } else { parameter.size() };
                let mut put = |what: &str, flat: &Tensor| -> Result<()> {
                    let own = group.own_part(flat, member)?.f_view(shape.as_slice())?;
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
        let description = Description { steps: self.steps, shards: self.shards() };
        Ok(AdamWState { tensors, description, rank: self.processes.rank() })
    }

    /// Returns the bytes of the state's tensors.
    #[cfg(test)]
    pub(in crate::train) fn held_bytes(&self) -> u64 {
        let bytes = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
        self.state().unwrap().tensors.values().map(bytes).sum()
    }

    /// Returns which elements each process has; nothing where the state is not divided.
    fn shards(&self) -> Vec<Shard> {
        if !self.settings.divided {
            return Vec::new();
        }
        let count = self.processes.count();
        let shard = |rank: usize| {
            let mut elements = BTreeMap::new();
            for group in self.groups.iter().filter(|group| group.state.is_some()) {
                for (member, (name, _)) in self.parameters[group.members()].iter().enumerate() {
                    let Range { start, end } = group.share_of_member(rank, member);
                    if start < end {
                        elements.insert(name.clone(), [start, end]);
                    }
                }
            }
            Shard { file: state_files::shard_name(rank, count), elements }
        };
        (0..count).map(shard).collect()
    }

    /// Restores a state.
    pub(in crate::train) fn restore(&mut self, saved: &AdamWState) -> Result<()> {
        self.steps = saved.description.steps;
        tch::no_grad(|| (0..self.groups.len()).try_for_each(|at| self.restore_group(at, saved)))
    }

    fn restore_group(&mut self, at: usize, saved: &AdamWState) -> Result<()> {
        for (member, index) in self.groups[at].members().enumerate() {
            let name = self.parameters[index].0.clone();
            let get = |what: &str| saved.tensors.get(&format!("{what}.{name}"));
            let (Some(first), Some(second)) = (get("first"), get("second")) else { continue };
            self.prepare(at)?;
            let group = &self.groups[at];
            let Some(state) = &group.state else { continue };
            let put = |flat: &Tensor, values: &Tensor| -> Result<()> {
                Ok(group.own_part(flat, member)?.f_copy_(&values.f_view([-1])?)?)
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
