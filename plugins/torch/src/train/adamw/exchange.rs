//! Gradients and weights between processes.
//!
//! Gradients are summed in float32. Undivided, each process gets the whole sum (all-reduce) and takes the whole step. Divided
//! (ZeRO-1, arXiv 1910.02054), each group of parameters is cut into equal shares, the last one padded: a process gets the
//! sum of its share (reduce-scatter), updates it, and sends the weights to the others (all-gather). Both send as much. Of
//! [divided layers](super::layers), the shares have been summed in the backward pass.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::AdamW;
use super::group::{flat, joined, part};
use super::layers::DividedLayers;
use crate::error::Result;
use crate::process_group::Collectives;
use crate::train::parallel::misread;

/// Elements that are sent together: few enough not to need much memory beside the gradients, enough to occupy a network.
const BUCKET: i64 = 1 << 24;

impl AdamW {
    /// Sums the gradients of a step over processes. `has_gradient` tells which parameters have one on some process; the
    /// others contribute zeros.
    pub(in crate::train) fn sum_gradients(
        &mut self,
        has_gradient: &[bool],
        layers: Option<&DividedLayers>,
    ) -> Result<()> {
        let processes = self.processes.clone();
        let Some(group) = processes.group() else { return Ok(()) };
        self.has_gradient = has_gradient.to_vec();
        for (name, share) in layers.map(DividedLayers::gradients).transpose()?.unwrap_or_default() {
            // Each is a group of its own.
            if let Some(at) =
                self.groups.iter().position(|group| self.parameters[group.members().start].0 == name)
            {
                self.has_gradient[self.groups[at].members().start] = true;
                self.shares[at] = Some(share);
            }
        }
        tch::no_grad(|| match self.settings.divided {
            true => self.reduce_scatter(group),
            false => self.all_reduce(group),
        })
    }

    /// Replaces each gradient by its sum over processes.
    fn all_reduce(&mut self, group: &dyn Collectives) -> Result<()> {
        let mut gradients = Vec::new();
        for index in 0..self.parameters.len() {
            if self.has_gradient[index] {
                gradients.push(self.exact_gradient(index)?.f_view([-1])?);
            }
        }
        let counts: Vec<i64> = gradients.iter().map(|gradient| gradient.numel() as i64).collect();
        for bucket in buckets(&counts) {
            let mut bucket: Vec<Tensor> = bucket
                .into_iter()
                .map(|(index, elements)| part(&gradients[index], &elements))
                .collect::<Result<_>>()?;
            if let [whole] = &mut bucket[..] {
                group.all_reduce(whole)?;
                continue;
            }
            let mut sum = Tensor::f_cat(&bucket, 0)?;
            group.all_reduce(&mut sum)?;
            let mut start = 0;
            for gradient in &mut bucket {
                let count = gradient.numel() as i64;
                gradient.f_copy_(&part(&sum, &(start..start + count))?)?;
                start += count;
            }
        }
        Ok(())
    }

    /// Returns a contiguous float32 tensor that holds the gradient of a parameter over the step; zeros if it has none here.
    fn exact_gradient(&mut self, index: usize) -> Result<Tensor> {
        let found = match self.gradient(index)? {
            Some(gradient) if gradient.kind() == Kind::Float && gradient.is_contiguous() => {
                return Ok(gradient);
            }
            Some(gradient) => gradient.f_to_kind(Kind::Float)?.f_contiguous()?,
            None => {
                let parameter = &self.parameters[index].1;
                Tensor::f_zeros(parameter.size(), (Kind::Float, parameter.device()))?
            }
        };
        self.sums[index] = Some(found.shallow_clone());
        Ok(found)
    }

    /// Keeps this process's share of each group's gradient, summed over processes.
    fn reduce_scatter(&mut self, group: &dyn Collectives) -> Result<()> {
        let unsent = |at: usize| self.shares[at].is_none().then_some(Kind::Float);
        for bucket in self.group_buckets(unsent) {
            let rows = bucket.iter().map(|&at| self.gradient_by_share(at)).collect::<Result<Vec<_>>>()?;
            let own = group.reduce_scatter(&Tensor::f_cat(&rows, 1)?.f_view([-1])?)?;
            let mut start = 0;
            for at in bucket {
                let (share, count) = (self.groups[at].share, self.groups[at].own_count());
                self.shares[at] = Some(part(&own, &(start..start + count))?);
                start += share;
            }
        }
        // What has been sent is not needed any more.
        self.sums.fill_with(|| None);
        Ok(())
    }

    /// Returns the gradient of a group on this process, `[processes, share]` in float32, with zeros behind it.
    fn gradient_by_share(&self, at: usize) -> Result<Tensor> {
        let of_member = |index: usize| match self.gradient(index)? {
            Some(gradient) => flat(&gradient.f_to_kind(Kind::Float)?),
            None => {
                let parameter = &self.parameters[index].1;
                Ok(Tensor::f_zeros([parameter.numel() as i64], (Kind::Float, parameter.device()))?)
            }
        };
        let members = self.groups[at].members().map(of_member).collect::<Result<Vec<_>>>()?;
        self.groups[at].by_share(&joined(members)?, self.processes.count())
    }

    /// Sends the weights that this process has updated to the others, and takes theirs.
    pub(super) fn gather_weights(&mut self) -> Result<()> {
        let processes = self.processes.clone();
        let Some(group) = processes.group() else { return Ok(()) };
        let kind = |at: usize| Some(self.members(at)[0].1.kind());
        for bucket in self.group_buckets(kind) {
            let own = bucket.iter().map(|&at| self.groups[at].own_weights(self.members(at)));
            let own = joined(own.collect::<Result<Vec<_>>>()?)?;
            let all = group.all_gather(&own)?.f_view([processes.count() as i64, -1])?;
            let mut start = 0;
            for at in bucket {
                let share = self.groups[at].share;
                self.groups[at].put_weights(self.members(at), &all.f_narrow(1, start, share)?)?;
                start += share;
            }
        }
        Ok(())
    }

    fn members(&self, at: usize) -> &[(String, Tensor)] {
        &self.parameters[self.groups[at].members()]
    }

    /// Arranges the groups that have gradients, and a `kind`, in buckets of one kind.
    fn group_buckets(&self, kind: impl Fn(usize) -> Option<Kind>) -> Vec<Vec<usize>> {
        let mut buckets: Vec<Vec<usize>> = Vec::new();
        let (mut size, mut last) = (0, None);
        for (at, group) in self.groups.iter().enumerate() {
            let has_gradient = self.has_gradient[group.members()].contains(&true);
            let Some(kind) = kind(at).filter(|_| has_gradient) else { continue };
            if size == 0 || size + group.count() > BUCKET || last != Some(kind) {
                buckets.push(Vec::new());
                size = 0;
            }
            size += group.count().max(1);
            last = Some(kind);
            if let Some(bucket) = buckets.last_mut() {
                bucket.push(at);
            }
        }
        buckets
    }

    /// Adds up a number of each process, in the order of ranks.
    pub(super) fn sum_over_processes(&self, own: f64) -> Result<f64> {
        let mut sum = 0.0;
        for (rank, told) in self.processes.agree(Ok(own.to_le_bytes().to_vec()))?.into_iter().enumerate() {
            sum += f64::from_le_bytes(told.try_into().map_err(|_| misread(rank))?);
        }
        Ok(sum)
    }
}

/// Cuts tensors of these lengths, one after the other, into buckets; each is a list of tensors and their elements.
fn buckets(counts: &[i64]) -> Vec<Vec<(usize, Range<i64>)>> {
    let mut buckets = Vec::new();
    let (mut bucket, mut room) = (Vec::new(), BUCKET);
    for (index, &count) in counts.iter().enumerate() {
        let mut start = 0;
        while start < count {
            let end = count.min(start + room);
            bucket.push((index, start..end));
            room -= end - start;
            start = end;
            if room == 0 {
                buckets.push(std::mem::take(&mut bucket));
                room = BUCKET;
            }
        }
    }
    if !bucket.is_empty() {
        buckets.push(bucket);
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_all_elements_in_their_order_and_no_more_than_their_size() {
        let cut = buckets(&[3, BUCKET - 1, 0, 2 * BUCKET + 5, 1]);
        let full = |bucket: &Vec<(usize, Range<i64>)>| {
            bucket.iter().map(|(_, range)| range.end - range.start).sum::<i64>()
        };
        assert_eq!(cut.iter().map(full).collect::<Vec<_>>(), [BUCKET, BUCKET, BUCKET, 8]);
        assert_eq!(cut[0], [(0, 0..3), (1, 0..BUCKET - 3)]);
        assert_eq!(cut[3], [(3, 2 * BUCKET - 2..2 * BUCKET + 5), (4, 0..1)]);
        assert!(buckets(&[]).is_empty());
    }
}
