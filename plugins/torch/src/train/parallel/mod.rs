//! Training by several processes: what they tell each other in a step.

#[cfg(test)]
pub(crate) mod objectives;
mod tally;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
pub(crate) mod threads;

use std::sync::Arc;

use crate::error::{Result, TorchError};
use crate::process_group::Collectives;
pub(super) use tally::Tally;

/// First byte of a message about work that was done.
const DONE: u8 = 0;
/// First byte of an error's text.
const FAILED: u8 = 1;

/// Processes that train together; of a single one, nothing is told to others.
#[derive(Clone)]
pub(crate) struct Processes {
    /// `None` of a single process.
    group: Option<Arc<dyn Collectives>>,
}

impl Processes {
    /// Takes the collectives of a group; `None` is a single process.
    pub(crate) fn new(group: Option<Arc<dyn Collectives>>) -> Self {
        Self { group: group.filter(|group| group.world_size() > 1) }
    }

    /// Returns the collectives of several processes.
    pub(super) fn group(&self) -> Option<&dyn Collectives> {
        self.group.as_deref()
    }

    /// Returns the index of this process.
    pub(crate) fn rank(&self) -> usize {
        self.group().map_or(0, Collectives::rank)
    }

    /// Returns the number of processes.
    pub(crate) fn count(&self) -> usize {
        self.group().map_or(1, Collectives::world_size)
    }

    /// Gathers a message of each process, by rank.
    ///
    /// # Errors
    /// Where the work of a process has failed, its error, on all processes. An error that all know of already is returned
    /// without a word to the others.
    pub(crate) fn agree(&self, own: Result<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
        let Some(group) = self.group() else { return own.map(|own| vec![own]) };
        let sent = match own {
            Ok(own) => [vec![DONE], own].concat(),
            Err(error @ TorchError::Process { .. }) => return Err(error),
            Err(error) => [vec![FAILED], error.to_string().into_bytes()].concat(),
        };
        let received = group.all_gather_bytes(&sent)?;
        let opened = |(rank, message): (usize, Vec<u8>)| match message.split_first() {
            Some((&DONE, told)) => Ok(told.to_vec()),
            Some((_, told)) => {
                Err(TorchError::Process { rank, message: String::from_utf8_lossy(told).into_owned() })
            }
            None => Err(misread(rank)),
        };
        received.into_iter().enumerate().map(opened).collect()
    }

    /// Gathers examples and micro-batches of each process: `counted` are this one's.
    pub(super) fn place(&self, counted: Result<(usize, usize)>) -> Result<Place> {
        let told = counted.map(|(examples, micro_batches)| {
            [(examples as u32).to_le_bytes(), (micro_batches as u32).to_le_bytes()].concat()
        });
        let mut place = Place::default();
        for (rank, told) in self.agree(told)?.into_iter().enumerate() {
            let counts: [u8; 8] = told.try_into().map_err(|_| misread(rank))?;
            let (examples, micro_batches) =
                (u64::from_le_bytes(counts) as u32, (u64::from_le_bytes(counts) >> 32) as u32);
            place.examples += examples as usize;
            place.most_micro_batches = place.most_micro_batches.max(micro_batches as usize);
            if rank < self.rank() {
                place.micro_batches_before += micro_batches;
            }
        }
        Ok(place)
    }

    /// Adds up what each process has found in its part of a batch.
    pub(super) fn total(&self, own: Result<Tally>) -> Result<Tally> {
        if self.group.is_none() {
            return own;
        }
        let told = self.agree(own.and_then(|tally| tally.to_bytes()))?;
        let mut sum = Tally::default();
        for (rank, told) in told.iter().enumerate() {
            sum.add(Tally::from_bytes(told).ok_or_else(|| misread(rank))?);
        }
        Ok(sum)
    }
}

/// Place of a process's examples in a batch.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    /// Number of examples of all processes.
    pub(super) examples: usize,
    /// Number of micro-batches of the processes of lower rank.
    pub(super) micro_batches_before: u32,
    /// Largest number of micro-batches of a process.
    pub(super) most_micro_batches: usize,
}

/// Returns the error for a message of another form: processes of different versions, or that are not in step.
pub(super) fn misread(rank: usize) -> TorchError {
    TorchError::Process {
        rank,
        message: "sent a message of another form; do all processes run one version?".to_owned(),
    }
}
