//! Decoder layers whose weights and gradients processes divide while a step is taken, as in ZeRO-3 (arXiv 1910.02054) and
//! FSDP (arXiv 2304.11277).
//!
//! Between steps each process has all weights, for sampling. The first forward pass of a step lets a layer's weights go
//! when it has used them; each process keeps its share. Later passes gather a layer's weights from the shares when they come
//! to it, and the backward pass sums a layer's gradients over processes at once, each process keeping its share. The
//! optimiser updates the shares, and sends all weights to all.
//!
//! Processes with fewer micro-batches, and those that have failed, take part in the others' passes
//! ([`DividedLayers::complete`]).

use std::cell::{Cell, RefCell};

use tch::{Kind, Tensor};

use super::AdamWSettings;
use super::group::{self, Group, flat, joined, part};
use crate::error::{Result, TorchError};
use crate::model::gradient_checkpointing::LayerWeights;
use crate::operators::{resize_storage, storage_bytes};
use crate::process_group::Collectives;
use crate::train::parallel::Processes;

/// Decoder layers whose weights are divided.
pub(in crate::train) struct DividedLayers {
    layers: Vec<Layer>,
    processes: Processes,
    /// How far the pass under way is.
    progress: Cell<Progress>,
}

/// Pass through all layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::train) enum Pass {
    Forward,
    Backward,
}

/// How far a pass is.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// Layer that was entered last.
    entered: Option<usize>,
    /// Whether its gradients have been taken.
    has_gradients: bool,
}

struct Layer {
    /// Weights, each a group by itself, divided as in the optimiser.
    parameters: Vec<(String, Tensor)>,
    groups: Vec<Group>,
    /// Bytes of the memory that each weight is in.
    bytes: Vec<u64>,
    /// Whether the weights are trained themselves.
    is_trained: bool,
    /// This process's shares of the weights, one after the other; `None` while those of the model are the newest.
    own: RefCell<Option<Tensor>>,
    /// Whether the weights are in memory.
    is_present: Cell<bool>,
    /// This process's shares of the gradients summed over processes and passes, one after the other, in float32.
    gradients: RefCell<Option<Tensor>>,
}

impl DividedLayers {
    /// Divides layers, each a list of weights by name.
    pub(in crate::train) fn new(
        layers: Vec<Vec<(String, Tensor)>>,
        settings: &AdamWSettings,
        processes: &Processes,
    ) -> Result<Self> {
        let divided = |parameters: Vec<(String, Tensor)>| {
            let mut groups = group::groups(&parameters, 0);
            groups.iter_mut().for_each(|group| group.divide(processes, settings));
            let bytes =
                parameters.iter().map(|(_, weight)| storage_bytes(weight)).collect::<Result<_>>()?;
            Ok(Layer {
                is_trained: parameters.iter().all(|(_, weight)| weight.requires_grad()),
                parameters,
                groups,
                bytes,
                own: RefCell::default(),
                is_present: Cell::new(true),
                gradients: RefCell::default(),
            })
        };
        let layers = layers.into_iter().map(divided).collect::<Result<_>>()?;
        Ok(Self { layers, processes: processes.clone(), progress: Cell::default() })
    }

    /// Forgets the gradients of the step before.
    pub(in crate::train) fn zero_gradients(&self) {
        self.layers.iter().for_each(|layer| drop(layer.gradients.take()));
    }

    /// Returns the bytes that gradients take less than those of undivided layers, whose float32 sums include.
    pub(in crate::train) fn spared_bytes(&self) -> u64 {
        let of = |(_, weight): &(String, Tensor)| {
            let narrow = if weight.kind() == Kind::Float { 0 } else { 4 };
            let whole = weight.numel() * (weight.kind().elt_size_in_bytes() + narrow);
            (whole - 4 * weight.numel().div_ceil(self.processes.count())) as u64
        };
        let trained = self.layers.iter().filter(|layer| layer.is_trained);
        trained.flat_map(|layer| &layer.parameters).map(of).sum()
    }

    /// Does this process's part of a pass, and then what the others expect of it that it has not done: all of the pass, or the
    /// rest after a failure. Where memory is short even for that, the others' operations fail or time out.
    pub(in crate::train) fn complete<T>(&self, pass: Pass, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.progress.take();
        let outcome = work();
        let Progress { entered, has_gradients } = self.progress.get();
        let depth = self.layers.len();
        match pass {
            Pass::Forward => {
                // A failure may have kept it from leaving; weights must be away on all processes or on none.
                if let Some(last) = entered.filter(|last| last + 1 < depth) {
                    self.leave(last)?;
                }
                for layer in entered.map_or(0, |last| last + 1)..depth {
                    self.enter(layer)?;
                    if layer + 1 < depth {
                        self.leave(layer)?;
                    }
                }
            }
            Pass::Backward => {
                for layer in (0..entered.map_or(depth, |last| last + 1)).rev() {
                    let is_done = entered == Some(layer) && has_gradients;
                    if entered != Some(layer) {
                        self.enter(layer)?;
                    }
                    if !is_done && self.layers[layer].is_trained {
                        self.take_gradients(layer, &[])?;
                    }
                    self.leave(layer)?;
                }
            }
        }
        outcome
    }

    /// Returns this process's share of each gradient, by name.
    pub(super) fn gradients(&self) -> Result<Vec<(String, Tensor)>> {
        let mut all = Vec::new();
        for layer in &self.layers {
            let Some(gradients) = &*layer.gradients.borrow() else { continue };
            let mut start = 0;
            for (group, (name, _)) in layer.groups.iter().zip(&layer.parameters) {
                all.push((name.clone(), part(gradients, &(start..start + group.own_count()))?));
                start += group.share;
            }
        }
        Ok(all)
    }

    /// Brings this process's shares of trained weights to their places in the model, for the optimiser, which then sends the
    /// updated ones to all.
    pub(in crate::train) fn place_shares(&self) -> Result<()> {
        for layer in self.layers.iter().filter(|layer| layer.is_trained) {
            let Some(own) = &*layer.own.borrow() else { continue };
            layer.allocate()?;
            tch::no_grad(|| layer.each_share(own, 0, Group::put_own_weights))?;
        }
        Ok(())
    }

    /// Takes the model's weights as the newest, after the optimiser's step.
    pub(in crate::train) fn accept(&self) {
        for layer in self.layers.iter().filter(|layer| layer.is_trained) {
            layer.own.take();
            layer.is_present.set(true);
        }
    }

    /// Gathers all weights as they were before the step.
    pub(in crate::train) fn gather_all(&self) -> Result<()> {
        for (index, layer) in self.layers.iter().enumerate() {
            self.enter(index)?;
            layer.own.take();
        }
        Ok(())
    }

    fn group(&self) -> Result<&dyn Collectives> {
        self.processes
            .group()
            .ok_or_else(|| TorchError::Engine("layers are divided by one process".to_owned()))
    }
}

impl Layer {
    /// Allocates the memory of the weights where it was let go.
    fn allocate(&self) -> Result<()> {
        for ((_, weight), &bytes) in self.parameters.iter().zip(&self.bytes) {
            if storage_bytes(weight)? == 0 {
                resize_storage(weight, bytes)?;
            }
        }
        Ok(())
    }

    /// Calls `put` with each weight's group, the weight, and its part of `shares` along an axis.
    fn each_share(
        &self,
        shares: &Tensor,
        axis: i64,
        put: impl Fn(&Group, &[(String, Tensor)], &Tensor) -> Result<()>,
    ) -> Result<()> {
        let mut start = 0;
        for (group, parameter) in self.groups.iter().zip(&self.parameters) {
            put(group, std::slice::from_ref(parameter), &shares.f_narrow(axis, start, group.share)?)?;
            start += group.share;
        }
        Ok(())
    }
}

impl LayerWeights for DividedLayers {
    fn enter(&self, layer: usize) -> Result<()> {
        self.progress.set(Progress { entered: Some(layer), has_gradients: false });
        let layer = &self.layers[layer];
        if layer.is_present.get() {
            return Ok(());
        }
        let Some(own) = &*layer.own.borrow() else {
            return Err(TorchError::Engine("a layer's weights are lost".to_owned()));
        };
        let all = self.group()?.all_gather(own)?.f_view([self.processes.count() as i64, -1])?;
        layer.allocate()?;
        tch::no_grad(|| layer.each_share(&all, 1, Group::put_weights))?;
        layer.is_present.set(true);
        Ok(())
    }

    fn leave(&self, layer: usize) -> Result<()> {
        let layer = &self.layers[layer];
        if layer.own.borrow().is_none() {
            let own = layer.groups.iter().zip(&layer.parameters);
            let own = own.map(|(group, parameter)| group.own_weights(std::slice::from_ref(parameter)));
            let own = joined(own.collect::<Result<Vec<_>>>()?)?;
            layer.own.replace(Some(own));
        }
        layer.is_present.set(false);
        layer.parameters.iter().try_for_each(|(_, weight)| resize_storage(weight, 0))
    }

    fn trained(&self, layer: usize) -> &[(String, Tensor)] {
        let layer = &self.layers[layer];
        if layer.is_trained { &layer.parameters } else { &[] }
    }

    /// Without gradients, contributes zeros.
    fn take_gradients(&self, layer: usize, gradients: &[Tensor]) -> Result<()> {
        self.progress.set(Progress { entered: Some(layer), has_gradients: true });
        let layer = &self.layers[layer];
        let processes = self.processes.count();
        let row = |(at, group): (usize, &Group)| {
            let weight = &layer.parameters[at].1;
            let gradient = match gradients.get(at) {
                Some(gradient) if gradient.defined() => flat(&gradient.f_to_kind(Kind::Float)?)?,
                _ => Tensor::f_zeros([weight.numel() as i64], (Kind::Float, weight.device()))?,
            };
            group.by_share(&gradient, processes)
        };
        let rows = layer.groups.iter().enumerate().map(row).collect::<Result<Vec<_>>>()?;
        let sum = self.group()?.reduce_scatter(&Tensor::f_cat(&rows, 1)?.f_view([-1])?)?;
        let mut all = layer.gradients.borrow_mut();
        match &mut *all {
            Some(all) => drop(all.f_add_(&sum)?),
            None => *all = Some(sum),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::train::TrainingConfig;
    use crate::train::parallel::tests::{collectives, on_threads};

    /// `b` and `c` are views of one memory, as the weights of a model that is decoded by fused steps.
    fn weights() -> Vec<(String, Tensor)> {
        let count = |count: i64| Tensor::arange(count, (Kind::Float, Device::Cpu)) + 0.5;
        let shared = count(90).view([9, 10]);
        let named = [
            ("a", count(1000).view([10, 100])),
            ("b", shared.narrow(0, 0, 4)),
            ("c", shared.narrow(0, 4, 5)),
            ("d", count(7)),
        ];
        named.map(|(name, tensor)| (name.to_owned(), tensor)).into()
    }

    #[test]
    fn a_layer_that_is_left_takes_no_memory_and_comes_back_to_the_bit() {
        on_threads(3, |_, group| {
            let processes = Processes::new(collectives(group.as_ref()));
            let settings = AdamWSettings::new(&TrainingConfig::default(), Device::Cpu);
            let layers = DividedLayers::new(vec![weights()], &settings, &processes).unwrap();
            let held = || {
                let bytes = layers.layers[0].parameters.iter().map(|(_, weight)| storage_bytes(weight));
                bytes.collect::<Result<Vec<_>>>().unwrap()
            };
            assert_eq!(held(), [4000, 360, 360, 28]);
            for _ in 0..2 {
                layers.leave(0).unwrap();
                assert_eq!(held(), [0; 4]);
                let own = layers.layers[0].own.borrow();
                assert_eq!(own.as_ref().unwrap().size(), [334 + 14 + 17 + 3]);
                drop(own);
                layers.enter(0).unwrap();
                assert_eq!(held(), [4000, 360, 360, 28]);
                assert_eq!(layers.layers[0].parameters, weights());
            }
        });
    }

    /// Wherever a process fails, the others come to the end of the pass.
    #[test]
    fn a_pass_that_fails_on_one_process_is_completed() {
        let failed = || Err::<(), _>(TorchError::Engine("broken".to_owned()));
        let outcomes = on_threads(2, |rank, group| {
            let processes = Processes::new(collectives(group.as_ref()));
            let settings = AdamWSettings::new(&TrainingConfig::default(), Device::Cpu);
            let trained = || {
                let trained =
                    weights().into_iter().map(|(name, weight)| (name, weight.set_requires_grad(true)));
                trained.collect::<Vec<_>>()
            };
            let layers =
                DividedLayers::new(vec![trained(), trained(), trained()], &settings, &processes).unwrap();
            let mut broken = 0;
            // The process of rank 1 fails before, within or behind a layer.
            for fails_at in 0..=6 {
                let fails = |place: usize| rank == 1 && place == fails_at;
                let forward = layers.complete(Pass::Forward, || {
                    for layer in 0..3 {
                        if fails(2 * layer) {
                            return failed();
                        }
                        layers.enter(layer)?;
                        if fails(2 * layer + 1) {
                            return failed();
                        }
                        if layer < 2 {
                            layers.leave(layer)?;
                        }
                    }
                    Ok(())
                });
                let backward = layers.complete(Pass::Backward, || {
                    for layer in (0..3).rev() {
                        if fails(2 * layer) {
                            return failed();
                        }
                        layers.enter(layer)?;
                        if fails(2 * layer + 1) {
                            return failed();
                        }
                        let gradients: Vec<Tensor> =
                            layers.trained(layer).iter().map(|(_, weight)| weight.ones_like()).collect();
                        layers.take_gradients(layer, &gradients)?;
                        layers.leave(layer)?;
                    }
                    Ok(())
                });
                broken += usize::from(forward.is_err()) + usize::from(backward.is_err());
            }
            layers.gather_all().unwrap();
            for layer in &layers.layers {
                for ((_, weight), (_, expected)) in layer.parameters.iter().zip(weights()) {
                    assert_eq!(weight.detach(), expected);
                }
            }
            broken
        });
        assert_eq!(outcomes, [0, 12]);
    }
}
