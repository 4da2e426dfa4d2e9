//! AdamW (arXiv 1711.05101) with the update of `torch.optim.AdamW` and a serialisable state, which tch does not
//! expose for libtorch's own. Weights in bfloat16 have float32 master copies. Moments may be 8-bit ([`dynamic8`]), and
//! the state in host memory ([`host`]). Several processes sum their gradients, and may divide the state ([`exchange`]).

#[cfg(test)]
mod division_tests;
mod dynamic8;
mod exchange;
mod group;
mod host;
mod layers;
mod rates;
mod state;
mod state_files;
#[cfg(test)]
mod tests;

use tch::{Device, Kind, Tensor};

use self::dynamic8::Maps;
pub(crate) use self::dynamic8::dynamic_map;
use self::group::Group;
use self::host::Staging;
pub(super) use self::layers::{DividedLayers, Pass};
use self::rates::Rates;
pub(crate) use self::state::AdamWState;
use super::parallel::Processes;
use super::{OptimizerConfig, OptimizerStateConfig, ShardConfig, TrainingConfig};
use crate::error::Result;

/// Settings of the optimiser.
#[derive(Clone, Copy, Debug)]
pub(super) struct AdamWSettings {
    betas: [f64; 2],
    epsilon: f64,
    weight_decay: f64,
    /// Whether moments of large parameters are 8-bit.
    eight_bit: bool,
    /// Whether moments and masters are in host memory, where the step is taken.
    on_host: bool,
    /// Number of elements of several parameters that are updated together, whose state is one tensor; 0 for none.
    together: i64,
    /// Whether several processes divide the state.
    divided: bool,
}

impl AdamWSettings {
    /// Returns the settings for parameters on `device`.
    pub(super) fn new(config: &TrainingConfig, device: Device) -> Self {
        let on_host = config.optimizer_state == OptimizerStateConfig::Cpu && device != Device::Cpu;
        let eight_bit = config.optimizer == OptimizerConfig::Adamw8bit;
        // A GPU takes longer to start the operations on a small tensor than to compute them.
        let full = config.parallel.shard == ShardConfig::Full;
        let together = if device == Device::Cpu || on_host || eight_bit || full { 0 } else { 1 << 26 };
        let divided = config.parallel.shard != ShardConfig::None;
        let TrainingConfig { betas, epsilon, weight_decay, .. } = *config;
        Self { betas, epsilon, weight_decay, eight_bit, on_host, together, divided }
    }

    /// Returns whether the moments of a parameter of `count` elements are 8-bit.
    fn is_eight_bit(&self, count: usize) -> bool {
        self.eight_bit && count as i64 >= dynamic8::MIN_COUNT
    }

    /// Returns the number of elements updated at a time: few enough to stay in a CPU's cache between operations, enough
    /// to occupy a GPU. A multiple of the blocks of 8-bit moments.
    fn block(&self, device: Device) -> i64 {
        match device {
            Device::Cpu => 1 << 18,
            _ if self.eight_bit => 1 << 24,
            _ => 1 << 26,
        }
    }
}

/// AdamW optimiser.
pub(crate) struct AdamW {
    parameters: Vec<(String, Tensor)>,
    /// Float32 sums of the gradients of parameters of a narrower type, over the micro-batches of a step.
    sums: Vec<Option<Tensor>>,
    /// All parameters in their order.
    groups: Vec<Group>,
    /// Where the state is divided: of each group with gradients, this process's share of their sum over processes.
    shares: Vec<Option<Tensor>>,
    /// Whether each parameter has a gradient on some process; counts where there are several.
    has_gradient: Vec<bool>,
    steps: i64,
    settings: AdamWSettings,
    processes: Processes,
    /// Values of 8-bit moments.
    maps: Option<Maps>,
    /// Buffers between device and host.
    staging: Option<Staging>,
}

impl AdamW {
    pub(super) fn new(
        parameters: Vec<(String, Tensor)>,
        settings: AdamWSettings,
        processes: Processes,
    ) -> Self {
        let settings = AdamWSettings { divided: settings.divided && processes.count() > 1, ..settings };
        let mut groups = group::groups(&parameters, settings.together);
        if settings.divided {
            groups.iter_mut().for_each(|group| group.divide(&processes, &settings));
        }
        Self {
            sums: parameters.iter().map(|_| None).collect(),
            shares: groups.iter().map(|_| None).collect(),
            has_gradient: Vec::new(),
            parameters,
            groups,
            steps: 0,
            settings,
            processes,
            maps: None,
            staging: None,
        }
    }

    /// Returns the bytes of gradients, moments and master copies on the parameters' device.
    pub(super) fn state_bytes(&self) -> u64 {
        let AdamWSettings { eight_bit, on_host, divided, .. } = self.settings;
        let processes = if divided { self.processes.count() as u64 } else { 1 };
        let of = |(_, parameter): &(String, Tensor)| {
            let is_narrow = parameter.kind() != Kind::Float;
            // The gradient, and of a narrower type the float32 sum of micro-batches.
            let gradients = parameter.kind().elt_size_in_bytes() as u64 + if is_narrow { 4 } else { 0 };
            let moments = if eight_bit { 2 } else { 8 };
            let state = if on_host { 0 } else { moments + if is_narrow { 4 } else { 0 } };
            parameter.numel() as u64 * gradients + (parameter.numel() as u64 * state).div_ceil(processes)
        };
        self.parameters.iter().map(of).sum()
    }

    /// Returns whether several processes divide the state.
    pub(super) fn is_divided(&self) -> bool {
        self.settings.divided
    }

    /// Resets all moments and the step count.
    pub(super) fn reset(&mut self) {
        self.groups.iter_mut().for_each(Group::reset);
        self.steps = 0;
    }

    /// Sets all gradients to zero.
    pub(super) fn zero_gradients(&mut self) {
        for (_, parameter) in &mut self.parameters {
            parameter.zero_grad();
        }
        self.sums.fill_with(|| None);
        self.shares.fill_with(|| None);
    }

    /// Returns whether each parameter has a gradient on this process.
    pub(super) fn has_gradient(&self) -> Result<Vec<bool>> {
        (0..self.parameters.len()).map(|index| Ok(self.gradient(index)?.is_some())).collect()
    }

    /// Moves the gradients of a micro-batch into their float32 sums. Gradients of float32 parameters add up in place.
    pub(super) fn collect_gradients(&mut self) -> Result<()> {
        for ((_, parameter), sum) in self.parameters.iter_mut().zip(&mut self.sums) {
            let gradient = parameter.f_grad()?;
            if parameter.kind() == Kind::Float || !gradient.defined() {
                continue;
            }
            let exact = gradient.f_to_kind(Kind::Float)?;
            match sum {
                Some(sum) => drop(sum.f_add_(&exact)?),
                None => *sum = Some(exact),
            }
            parameter.zero_grad();
        }
        Ok(())
    }

    /// Returns the gradient of a parameter over the whole step; `None` if it has none.
    fn gradient(&self, index: usize) -> Result<Option<Tensor>> {
        if let Some(sum) = &self.sums[index] {
            return Ok(Some(sum.shallow_clone()));
        }
        let gradient = self.parameters[index].1.f_grad()?;
        Ok(gradient.defined().then_some(gradient))
    }

    /// Returns, of each parameter of a group, the gradient of the elements whose state this process has; `None` of those
    /// without a gradient.
    fn own_gradients(&self, at: usize) -> Result<Vec<Option<Tensor>>> {
        let group = &self.groups[at];
        let of_member = |(member, index): (usize, usize)| match &self.shares[at] {
            Some(share) if self.has_gradient[index] => Ok(Some(group.own_part(share, member)?)),
            Some(_) => Ok(None),
            None => self.gradient(index)?.map(|gradient| group::flat(&gradient)).transpose(),
        };
        group.members().enumerate().map(of_member).collect()
    }

    /// Returns the global L2 norm of the gradient: norms of the parameters in float32, whose squares add up in float64.
    /// A device is waited for once.
    pub(super) fn gradient_norm(&self) -> Result<f64> {
        let mut norms = Vec::new();
        for at in 0..self.groups.len() {
            for gradient in self.own_gradients(at)?.into_iter().flatten() {
                norms.push(gradient.f_to_kind(Kind::Float)?.f_norm()?);
            }
        }
        let norms: Vec<f64> = match norms.is_empty() {
            true => Vec::new(),
            false => {
                let norms = Tensor::f_stack(&norms, 0)?.f_to_kind(Kind::Double)?;
                Vec::try_from(&norms.f_to_device(Device::Cpu)?)?
            }
        };
        let squares = norms.into_iter().fold(0.0, |sum, norm| sum + norm.powi(2));
        Ok(if self.settings.divided { self.sum_over_processes(squares)? } else { squares }.sqrt())
    }

    /// Takes a step with gradients scaled by `clip`. Parameters without a gradient are left unchanged.
    pub(super) fn step(&mut self, learning_rate: f64, clip: f64) -> Result<()> {
        self.steps += 1;
        let rates = Rates::new(&self.settings, self.steps, learning_rate, clip);
        let updated = tch::no_grad(|| self.update_groups(&rates));
        self.processes.agree(updated.map(|()| Vec::new()))?;
        if self.settings.divided {
            tch::no_grad(|| self.gather_weights())?;
            self.shares.fill_with(|| None);
        }
        Ok(())
    }

    fn update_groups(&mut self, rates: &Rates) -> Result<()> {
        for at in 0..self.groups.len() {
            let gradients = self.own_gradients(at)?;
            if gradients.iter().all(Option::is_none) {
                continue;
            }
            self.prepare(at)?;
            let (maps, staging) = (self.maps.as_ref(), self.staging.as_mut());
            let members = &self.parameters[self.groups[at].members()];
            self.groups[at].update(members, gradients, rates, &self.settings, maps, staging)?;
        }
        Ok(())
    }

    /// Creates the state of a group, and what it needs, if it has none yet.
    fn prepare(&mut self, at: usize) -> Result<()> {
        let device = self.parameters.first().map_or(Device::Cpu, |(_, tensor)| tensor.device());
        let home = if self.settings.on_host { Device::Cpu } else { device };
        if self.settings.eight_bit && self.maps.is_none() {
            self.maps = Some(Maps::on(home)?);
        }
        if self.settings.on_host && self.staging.is_none() {
            self.staging = Some(Staging::new(self.parameters.iter().map(|(_, tensor)| tensor), device)?);
        }
        let group = &mut self.groups[at];
        let members = &self.parameters[group.members()];
        group.create_state(members, &self.settings, home)
    }
}
