//! Division of a stage's items among processes: each takes the next item when it has room for one.

use isr_api::Error;

use crate::processes::Processes;

/// What this process takes of a list of items that all processes know.
pub(super) struct Claims<'a> {
    processes: &'a Processes,
    counter: String,
    total: usize,
    /// Place of the next item that nobody had taken when this process last asked.
    reached: usize,
    exhausted: bool,
}

impl<'a> Claims<'a> {
    /// `counter` is one that no other list has.
    pub(super) fn new(processes: &'a Processes, counter: String, total: usize) -> Self {
        Self { processes, counter, total, reached: 0, exhausted: total == 0 }
    }

    /// Takes the next item; returns its place in the list, or `None` if there is no item left.
    pub(super) async fn next(&mut self) -> Result<Option<usize>, Error> {
        if self.exhausted {
            return Ok(None);
        }
        let place = self.processes.next(&self.counter).await? as usize;
        self.reached = (place + 1).min(self.total);
        self.exhausted = self.reached == self.total;
        Ok(Some(place).filter(|&place| place < self.total))
    }

    /// Returns whether a process with so many items under way, of at most `most`, should take another one: towards the
    /// end of the list each holds its share of what is left, so that none is left waiting for another's last ones.
    pub(super) fn has_room(&self, under_way: usize, most: usize) -> bool {
        let share = (self.total - self.reached).div_ceil(self.processes.count());
        !self.exhausted && under_way < share.clamp(1, most.max(1))
    }

    /// Counts an item that is done; returns how many of them all processes have.
    pub(super) async fn done(&self) -> Result<u64, Error> {
        Ok(self.processes.next(&format!("{}, done", self.counter)).await? + 1)
    }
}
