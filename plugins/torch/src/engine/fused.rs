//! Continuous batching where all sequences are decoded together, for devices on which a step is bound by kernel launches.
//!
//! Several steps are issued at a time without looking at their tokens: what a sequence decodes behind its end is dropped.
//! While requests come in, these windows are short: steps under way hold up the encoder and prefills, which share the device.

use std::time::Instant;

use isr_api::Sampling;
use tch::{Device, Kind, Tensor};

use super::Engine;
use super::device_sampler::DeviceSampler;
use super::group::DecodeGroup;
use super::memory::DECODING;
use super::sampler::{Draw, Sampler};
use crate::error::{Result, TorchError};
use crate::model::fused_step::{FusedStep, StepGroups};
use crate::model::group_cache::{GroupCache, GroupShape};
use crate::model::kv_cache::KvCache;
use crate::tensors::to_vec;

/// Most steps that are issued before their tokens are looked at.
const WINDOW: usize = 8;

/// Own tokens that a step looks at are rounded up to a multiple of this, for aligned products.
const SPAN_STEP: i64 = 16;

/// Groups being decoded.
#[derive(Default)]
pub(super) struct FusedBatch {
    classes: Vec<Class>,
    /// Steps of the last window; 0 after an arrival.
    window: usize,
}

/// Groups with caches of one shape; group `i` has slot `i`.
struct Class {
    cache: GroupCache,
    groups: Vec<DecodeGroup<OwnTokens>>,
}

/// Number of own tokens in the cache of each sequence of a group.
pub(super) struct OwnTokens(i64);

/// Inputs of the steps of a window that a class has, on the device.
struct ClassInputs {
    places: Tensor,
    lengths: Tensor,
    longest: i64,
}

impl FusedBatch {
    /// Returns whether no answer is being decoded.
    pub(super) fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Returns the number of answers being decoded.
    pub(super) fn rows(&self) -> usize {
        self.groups().map(|group| group.rows.len()).sum()
    }

    fn groups(&self) -> impl Iterator<Item = &DecodeGroup<OwnTokens>> {
        self.classes.iter().flat_map(|class| &class.groups)
    }

    /// Allocates room for a group, whose sequences will begin with the content of the group's cache. After an error about
    /// memory the batch is as before.
    pub(super) fn make_room(&mut self, step: &FusedStep, group: &DecodeGroup<KvCache>) -> Result<()> {
        let shape = shape_of(group);
        let known = self.classes.iter_mut().find(|class| class.cache.shape() == shape);
        match known {
            Some(class) => class.cache.make_room(&group.cache),
            None => {
                let mut cache = step.cache(shape)?;
                cache.make_room(&group.cache)?;
                self.classes.push(Class { cache, groups: Vec::new() });
                Ok(())
            }
        }
    }

    /// Adds a group that there is room for.
    pub(super) fn push(&mut self, group: DecodeGroup<KvCache>) -> Result<()> {
        let shape = shape_of(&group);
        let class = self.classes.iter_mut().find(|class| class.cache.shape() == shape);
        let class = class.ok_or_else(|| TorchError::Engine("a group has no room".to_owned()))?;
        let own = class.cache.push(&group.cache)?;
        class.groups.push(group.with(OwnTokens(own)));
        self.window = 0;
        Ok(())
    }

    /// Removes groups without answers under way, and those that nobody waits for.
    fn retain_active(&mut self) -> Result<()> {
        for class in &mut self.classes {
            for slot in (0..class.groups.len()).rev() {
                let group = &class.groups[slot];
                if group.rows.is_empty() || !group.is_wanted() {
                    class.cache.swap_remove(slot as i64)?;
                    class.groups.swap_remove(slot);
                }
            }
        }
        self.classes.retain(|class| !class.groups.is_empty());
        Ok(())
    }

    /// Fails the requests of all groups, and removes them.
    fn fail(&mut self, error: &TorchError) {
        for group in std::mem::take(&mut self.classes).into_iter().flat_map(|class| class.groups) {
            group.request.borrow_mut().fail(TorchError::Engine(error.to_string()));
        }
    }

    /// Takes the last group out.
    fn pop(&mut self) -> Option<DecodeGroup<OwnTokens>> {
        let class = self.classes.last_mut()?;
        let last = class.groups.pop();
        class.cache.pop();
        self.classes.retain(|class| !class.groups.is_empty());
        last
    }

    /// Copies the states of all random streams.
    fn samplers(&self) -> Vec<Sampler> {
        self.groups().flat_map(|group| group.rows.iter().map(|row| row.sampler.clone())).collect()
    }

    /// Brings random streams back to copied states.
    fn restore(&mut self, samplers: Vec<Sampler>) {
        let groups = self.classes.iter_mut().flat_map(|class| &mut class.groups);
        for (row, sampler) in groups.flat_map(|group| &mut group.rows).zip(samplers) {
            row.sampler = sampler;
        }
    }
}

fn shape_of(group: &DecodeGroup<KvCache>) -> GroupShape {
    let rows = group.rows.iter().map(|row| row.cache_row + 1).max().unwrap_or(0);
    GroupShape::of(&group.cache, rows)
}

impl Engine {
    /// Decodes the next tokens of every answer in the batch. Where memory is short, the prefix cache is given up, then one
    /// request after another, until the rest fits. Another error is that of all requests.
    pub(super) fn fused_window(&mut self) {
        if let Err(error) = self.fused.retain_active() {
            return self.fused.fail(&error);
        }
        while !self.fused.is_empty() {
            let left = |group: &DecodeGroup<OwnTokens>| {
                group.rows.iter().map(|row| group.limit.saturating_sub(row.tokens.len())).max().unwrap_or(0)
            };
            let window = (2 * self.fused.window).clamp(1, WINDOW);
            let steps = self.fused.groups().map(left).max().unwrap_or(0).clamp(1, window);
            // What has been drawn in a window that fails is drawn again.
            let before = self.fused.samplers();
            let error = match self.fused_steps(steps) {
                Ok(drawn) => {
                    self.fused.window = window;
                    if let Err(error) = self.take_over(steps, &drawn) {
                        self.fused.fail(&error);
                    }
                    return;
                }
                Err(error) => error,
            };
            self.fused.restore(before);
            if self.gives_up_cache(&error) {
                continue;
            }
            let is_short = error.is_out_of_memory();
            let error = self.advised(error, DECODING);
            match self.fused.pop().filter(|_| is_short) {
                Some(last) => last.request.borrow_mut().fail(error),
                None => return self.fused.fail(&error),
            }
        }
    }

    /// Appends the tokens of a window to their answers, and completes those that end.
    fn take_over(&mut self, steps: usize, (tokens, logprobs): &(Vec<i64>, Vec<f32>)) -> Result<()> {
        let mut batch = std::mem::take(&mut self.fused);
        let all = batch.classes.iter().map(|class| class.cache.sequences()).sum::<i64>() as usize;
        let mut first = 0;
        for class in &mut batch.classes {
            let width = class.cache.shape().rows as usize;
            let behind = first + class.cache.sequences() as usize;
            for group in &mut class.groups {
                group.cache.0 += steps as i64;
                let drawn = |step: usize, row: i64| {
                    let at = step * all + first + row as usize;
                    let draw = Draw { token: tokens[at] as u32, logprob: logprobs[at] };
                    logprobs[at].is_finite().then_some(draw)
                };
                let outcome = (0..steps).try_for_each(|step| {
                    group.rows.iter_mut().try_for_each(|row| row.push(drawn(step, row.cache_row)))?;
                    self.complete_ended(group)
                });
                if let Err(error) = outcome {
                    group.rows.clear();
                    group.request.borrow_mut().fail(error);
                }
                first += width;
            }
            first = behind;
        }
        self.fused = batch;
        self.fused.retain_active()
    }

    /// Issues some steps; returns tokens and log-probs `[steps, sequences]`, row-major.
    fn fused_steps(&mut self, steps: usize) -> Result<(Vec<i64>, Vec<f32>)> {
        let (start, device) = (Instant::now(), self.model.device);
        for class in &mut self.fused.classes {
            let longest = class.groups.iter().map(|group| group.cache.0).max().unwrap_or(0);
            class.cache.reserve_tokens(longest + steps as i64 + SPAN_STEP)?;
        }
        let inputs = WindowInputs::new(&mut self.fused, steps, device)?;
        if let Some(step) = &mut self.model.fused {
            step.refresh()?;
        }
        let Some(step) = &self.model.fused else {
            return Err(TorchError::Engine("the model has no fused decoding step".to_owned()));
        };
        let furthest = self.model.config.text.max_position_embeddings as i64 - 1;
        let (mut ids, mut tokens, mut logprobs) = (inputs.ids, Vec::new(), Vec::new());
        for number in 0..steps as i64 {
            let groups = self.fused.classes.iter().zip(&inputs.classes).map(|(class, inputs)| {
                let longest = inputs.longest + number + 1;
                Ok(StepGroups {
                    cache: &class.cache,
                    places: inputs.places.f_add_scalar(number)?,
                    lengths: inputs.lengths.f_add_scalar(number + 1)?,
                    span: (longest + SPAN_STEP - 1) / SPAN_STEP * SPAN_STEP,
                })
            });
            let groups = groups.collect::<Result<Vec<_>>>()?;
            // What is decoded behind a sequence's end may be behind the model's last position.
            let positions = inputs.positions.f_add_scalar(number)?.f_clamp_max(furthest)?;
            let hidden = step.forward(self.model.embed_ids(&ids)?, &positions, &groups)?;
            let logits = self.model.decoder.logits(&hidden)?;
            let (token, logprob) = inputs.sampler.draw(&logits, &inputs.uniform.f_select(0, number)?)?;
            ids = token.shallow_clone();
            tokens.push(token);
            logprobs.push(logprob);
        }
        let tokens = Tensor::f_stack(&tokens, 0)?.f_to_device(Device::Cpu)?.f_flatten(0, 1)?;
        let drawn = (Vec::try_from(&tokens)?, to_vec(&Tensor::f_stack(&logprobs, 0)?)?);
        tracing::debug!(
            rows = self.fused.rows(),
            steps,
            milliseconds_a_step = start.elapsed().as_secs_f64() * 1e3 / steps as f64,
            "decoded"
        );
        Ok(drawn)
    }
}

/// Inputs of the steps of a window, on the device.
struct WindowInputs {
    /// Last tokens `[sequences]`.
    ids: Tensor,
    /// Positions of the next tokens `[sequences]`.
    positions: Tensor,
    /// Uniform numbers `[steps, sequences]`.
    uniform: Tensor,
    sampler: DeviceSampler,
    classes: Vec<ClassInputs>,
}

impl WindowInputs {
    fn new(batch: &mut FusedBatch, steps: usize, device: Device) -> Result<Self> {
        let place =
            |values: &[i64]| -> Result<Tensor> { Ok(Tensor::f_from_slice(values)?.f_to_device(device)?) };
        let count = batch.classes.iter().map(|class| class.cache.sequences()).sum::<i64>() as usize;
        let mut ids = vec![0_i64; count];
        let mut positions = vec![0_i64; count];
        let mut uniform = vec![0.0_f64; steps * count];
        let mut settings = vec![Sampling { temperature: 0.0, ..Sampling::default() }; count];
        let (mut first, mut classes) = (0, Vec::with_capacity(batch.classes.len()));
        for class in &mut batch.classes {
            let GroupShape { prefix, rows: width } = class.cache.shape();
            let sequences = class.cache.sequences();
            let behind = first + sequences as usize;
            // Sequences that belong to no group have no own tokens.
            let mut lengths = vec![0; sequences as usize];
            for (number, group) in class.groups.iter_mut().enumerate() {
                let OwnTokens(own) = group.cache;
                lengths[number * width as usize..][..width as usize].fill(own);
                let sampling = &group.request.borrow().sampling;
                for row in &mut group.rows {
                    let at = first + row.cache_row as usize;
                    ids[at] = row.tokens.last().map_or(0, |&id| i64::from(id));
                    positions[at] = prefix + own + group.delta;
                    settings[at] = sampling.clone();
                    for step in 0..steps {
                        uniform[step * count + at] = row.sampler.uniform();
                    }
                }
                first += width as usize;
            }
            first = behind;
            let capacity = class.cache.capacity();
            let places: Vec<i64> = (0..).zip(&lengths).map(|(at, own)| at * capacity + own).collect();
            let longest = lengths.iter().copied().max().unwrap_or(0);
            classes.push(ClassInputs { places: place(&places)?, lengths: place(&lengths)?, longest });
        }
        let uniform = Tensor::f_from_slice(&uniform)?.f_view([steps as i64, count as i64])?;
        Ok(Self {
            ids: place(&ids)?,
            positions: place(&positions)?,
            uniform: uniform.f_to_kind(Kind::Double)?.f_to_device(device)?,
            sampler: DeviceSampler::new(&settings, device)?,
            classes,
        })
    }
}
