//! Parameters that are updated together.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::dynamic8::{self, Maps, Quantised};
use super::host::Staging;
use super::{AdamWSettings, Rates};
use crate::error::{Result, TorchError};
use crate::train::parallel::Processes;

/// Neighbouring parameters of one dtype, whose state is one tensor after the other.
pub(super) struct Group {
    members: Range<usize>,
    /// Elements of the members before each of them, and of all.
    starts: Vec<i64>,
    /// Elements whose state this process has: all, or its share.
    own: Range<i64>,
    /// Elements of a share, of which the last processes may have fewer or none; where the state is divided.
    pub(super) share: i64,
    /// `None` before the first gradient.
    pub(super) state: Option<State>,
}

/// State of a group: flat tensors of its members' elements.
pub(super) struct State {
    pub(super) first: Moment,
    pub(super) second: Moment,
    /// Float32 master copy of parameters of a narrower dtype, or of parameters on another device.
    pub(super) master: Option<Tensor>,
}

/// A moment of a group's elements.
pub(super) enum Moment {
    /// `[count]` in float32.
    Float32(Tensor),
    /// Codes and scales.
    Dynamic8(Quantised),
}

/// Arranges parameters in groups of at most `together` elements; larger ones have a group of their own.
pub(super) fn groups(parameters: &[(String, Tensor)], together: i64) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, (_, tensor)) in parameters.iter().enumerate() {
        let count = tensor.numel() as i64;
        let fits = |group: &&mut Group| {
            let same = parameters[group.members.start].1.kind() == tensor.kind();
            same && group.count() + count <= together
        };
        match groups.last_mut().filter(fits) {
            Some(group) => {
                group.members.end = index + 1;
                group.starts.push(group.count() + count);
                group.own.end = group.count();
            }
            None => {
                let (starts, own) = (vec![0, count], 0..count);
                groups.push(Group { members: index..index + 1, starts, own, share: count, state: None });
            }
        }
    }
    groups
}

impl Group {
    /// Returns the indices of the parameters.
    pub(super) fn members(&self) -> Range<usize> {
        self.members.clone()
    }

    /// Returns the elements of the member with this index in the group.
    pub(super) fn range(&self, member: usize) -> Range<i64> {
        self.starts[member]..self.starts[member + 1]
    }

    /// Returns the number of elements.
    pub(super) fn count(&self) -> i64 {
        self.starts.last().copied().unwrap_or_default()
    }

    /// Divides the state among processes.
    pub(super) fn divide(&mut self, processes: &Processes, settings: &AdamWSettings) {
        // Blocks of 8-bit moments are not divided.
        let unit = if settings.is_eight_bit(self.count() as usize) { dynamic8::BLOCK } else { 1 };
        let units = self.count().unsigned_abs().div_ceil(unit.unsigned_abs());
        self.share = units.div_ceil(processes.count() as u64) as i64 * unit;
        self.own = self.share_of(processes.rank());
    }

    /// Returns the elements of a process's share.
    fn share_of(&self, rank: usize) -> Range<i64> {
        let start = (self.share * rank as i64).min(self.count());
        start..(start + self.share).min(self.count())
    }

    /// Returns the elements of a member, counted from its first, that are in a process's share.
    pub(super) fn share_of_member(&self, rank: usize, member: usize) -> Range<i64> {
        let range = self.range(member);
        from(&common(&range, &self.share_of(rank)), range.start)
    }

    /// Returns the elements of a member, counted from its first, whose state this process has.
    pub(super) fn own_of_member(&self, member: usize) -> Range<i64> {
        let range = self.range(member);
        from(&common(&range, &self.own), range.start)
    }

    /// Returns the elements of a member among those whose state this process has, which `own` is a tensor of.
    pub(super) fn own_part(&self, own: &Tensor, member: usize) -> Result<Tensor> {
        part(own, &from(&common(&self.range(member), &self.own), self.own.start))
    }

    /// Returns all elements as `[processes, share]`, with zeros behind them.
    pub(super) fn by_share(&self, elements: &Tensor, processes: usize) -> Result<Tensor> {
        let missing = processes as i64 * self.share - self.count();
        let padded =
            if missing > 0 { elements.f_constant_pad_nd([0, missing])? } else { elements.shallow_clone() };
        Ok(padded.f_view([processes as i64, self.share])?)
    }

    /// Returns this process's share of the weights `[share]`, with zeros behind it.
    pub(super) fn own_weights(&self, members: &[(String, Tensor)]) -> Result<Tensor> {
        let own = |(member, (_, parameter)): (usize, &(String, Tensor))| {
            part(&parameter.f_detach()?.f_view([-1])?, &self.own_of_member(member))
        };
        let own = joined(members.iter().enumerate().map(own).collect::<Result<Vec<_>>>()?)?;
        Ok(own.f_constant_pad_nd([0, self.share - self.own_count()])?)
    }

    /// Sets the weights of this process's share from what [`own_weights`](Self::own_weights) has returned.
    pub(super) fn put_own_weights(&self, members: &[(String, Tensor)], own: &Tensor) -> Result<()> {
        for (member, (_, parameter)) in members.iter().enumerate() {
            let weights = part(&parameter.f_detach()?.f_view([-1])?, &self.own_of_member(member));
            weights?.f_copy_(&self.own_part(own, member)?)?;
        }
        Ok(())
    }

    /// Sets all weights from the shares of all processes, `[processes, share]`.
    pub(super) fn put_weights(&self, members: &[(String, Tensor)], shares: &Tensor) -> Result<()> {
        let weights = shares.f_reshape([-1])?;
        for (member, (_, parameter)) in members.iter().enumerate() {
            parameter.f_detach()?.f_view([-1])?.f_copy_(&part(&weights, &self.range(member))?)?;
        }
        Ok(())
    }

    /// Returns the number of elements whose state this process has.
    pub(super) fn own_count(&self) -> i64 {
        self.own.end - self.own.start
    }

    pub(super) fn reset(&mut self) {
        self.state = None;
    }

    /// Creates the state on `home`, unless it exists: moments of zero, and masters of the parameters.
    pub(super) fn create_state(
        &mut self,
        parameters: &[(String, Tensor)],
        settings: &AdamWSettings,
        home: Device,
    ) -> Result<()> {
        if self.state.is_some() {
            return Ok(());
        }
        let eight_bit = settings.is_eight_bit(self.count() as usize);
        let moment = |signed| Moment::zeros(self.own_count(), eight_bit, signed, home);
        let is_narrow = parameters.iter().any(|(_, parameter)| parameter.kind() != Kind::Float);
        let master = match is_narrow || settings.on_host {
            true => {
                let master = Tensor::f_empty([self.own_count()], (Kind::Float, home))?;
                for (member, (_, parameter)) in parameters.iter().enumerate() {
                    let weights = part(&flat(&parameter.f_detach()?)?, &self.own_of_member(member))?;
                    self.own_part(&master, member)?.f_copy_(&weights)?;
                }
                Some(master)
            }
            false => None,
        };
        self.state = Some(State { first: moment(true)?, second: moment(false)?, master });
        Ok(())
    }

    /// Updates the parameters that have a gradient, in the elements whose state this process has.
    pub(super) fn update(
        &mut self,
        parameters: &[(String, Tensor)],
        gradients: Vec<Option<Tensor>>,
        rates: &Rates,
        settings: &AdamWSettings,
        maps: Option<&Maps>,
        mut staging: Option<&mut Staging>,
    ) -> Result<()> {
        let runs: Vec<Range<usize>> = match gradients.iter().all(Option::is_some) {
            true => std::iter::once(0..gradients.len()).collect(),
            false => {
                (0..gradients.len()).filter(|&at| gradients[at].is_some()).map(|at| at..at + 1).collect()
            }
        };
        for run in runs {
            let elements = common(&(self.starts[run.start]..self.starts[run.end]), &self.own);
            if elements.is_empty() {
                continue;
            }
            let gradient =
                joined(gradients[run.clone()].iter().flatten().map(Tensor::shallow_clone).collect())?;
            let own = from(&elements, self.own.start);
            let weights = |member: usize, parameter: &Tensor| -> Result<Tensor> {
                part(&parameter.f_view([-1])?, &self.own_of_member(member))
            };
            let members = run.clone().zip(&parameters[run.clone()]);
            let members = members.map(|(member, (_, parameter))| weights(member, parameter));
            let members = members.collect::<Result<Vec<_>>>()?;
            let Some(state) = &mut self.state else { return Err(no_state()) };
            let (gradient, trained) = match (&state.master, &mut staging) {
                (Some(master), Some(staging)) => (staging.gradient(&gradient)?, part(master, &own)?),
                (Some(master), None) => (gradient, part(master, &own)?),
                (None, _) => (gradient, joined(members.iter().map(Tensor::shallow_clone).collect())?),
            };
            state.step(&trained, &gradient, own.start, rates, settings, maps)?;
            // A single parameter without master has been updated in place.
            if state.master.is_none() && run.len() == 1 {
                continue;
            }
            let mut start = 0;
            for mut weights in members {
                let new = part(&trained, &(start..start + weights.numel() as i64))?;
                start += weights.numel() as i64;
                match &mut staging {
                    Some(staging) => staging.put(&new, &mut weights)?,
                    None => weights.f_copy_(&new)?,
                }
            }
        }
        Ok(())
    }
}

impl State {
    /// Updates flat weights and the moments of the elements from `offset` on.
    fn step(
        &mut self,
        trained: &Tensor,
        gradient: &Tensor,
        offset: i64,
        rates: &Rates,
        settings: &AdamWSettings,
        maps: Option<&Maps>,
    ) -> Result<()> {
        let (count, block) = (trained.numel() as i64, settings.block(trained.device()));
        for start in (0..count).step_by(block as usize) {
            let here = start..(start + block).min(count);
            let own = offset + here.start..offset + here.end;
            let (first, second) = (self.first.values(&own, maps)?, self.second.values(&own, maps)?);
            let (weights, gradient) = (part(trained, &here)?, part(gradient, &here)?);
            rates.apply([weights, gradient, first.shallow_clone(), second.shallow_clone()])?;
            self.first.store(&own, &first, maps)?;
            self.second.store(&own, &second, maps)?;
        }
        Ok(())
    }
}

impl Moment {
    fn zeros(count: i64, eight_bit: bool, signed: bool, device: Device) -> Result<Self> {
        match eight_bit {
            true => Ok(Self::Dynamic8(Quantised::zeros(count, signed, device)?)),
            false => Ok(Self::Float32(Tensor::f_zeros([count], (Kind::Float, device))?)),
        }
    }

    /// Returns the values of some elements: a view, or decoded.
    fn values(&self, range: &Range<i64>, maps: Option<&Maps>) -> Result<Tensor> {
        match self {
            Self::Float32(all) => part(all, range),
            Self::Dynamic8(all) => all.values(range, maps.ok_or_else(no_state)?),
        }
    }

    /// Stores what has become of the values of some elements.
    fn store(&mut self, range: &Range<i64>, values: &Tensor, maps: Option<&Maps>) -> Result<()> {
        match self {
            Self::Float32(_) => Ok(()),
            Self::Dynamic8(all) => all.store(range, values, maps.ok_or_else(no_state)?),
        }
    }
}

/// Returns some elements of a flat tensor, a view.
pub(super) fn part(flat: &Tensor, range: &Range<i64>) -> Result<Tensor> {
    Ok(flat.f_narrow(0, range.start, range.end - range.start)?)
}

/// Returns the elements that two ranges have in common; an empty range if there are none.
pub(super) fn common(one: &Range<i64>, other: &Range<i64>) -> Range<i64> {
    let start = one.start.max(other.start);
    start..one.end.min(other.end).max(start)
}

/// Returns a range counted from `first`; an empty one is 0..0.
fn from(range: &Range<i64>, first: i64) -> Range<i64> {
    if range.is_empty() { 0..0 } else { range.start - first..range.end - first }
}

/// Returns a tensor's elements, row-major.
pub(super) fn flat(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.f_contiguous()?.f_view([-1])?)
}

/// Returns tensors one after the other; a single one as it is.
pub(super) fn joined(mut tensors: Vec<Tensor>) -> Result<Tensor> {
    match tensors.len() {
        1 => Ok(tensors.swap_remove(0)),
        _ => Ok(Tensor::f_cat(&tensors, 0)?),
    }
}

fn no_state() -> TorchError {
    TorchError::Engine("the optimiser has no state".to_owned())
}
