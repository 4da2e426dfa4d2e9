//! Division of a stage's items among processes.
//!
//! Each process has a part of the list, in which it takes one item after the other as it has room, and then takes from
//! what the others have not begun. Parts are equally large, and go by video: through the stages of an iteration a process
//! has mostly the same videos, which it has decoded and read already.

use isr_api::Error;

use super::record::StageItem;
use crate::processes::Processes;

/// What this process takes of a list of items that all processes know.
pub(super) struct Claims<'a> {
    processes: &'a Processes,
    counter: String,
    /// Places of the items of each process's part.
    parts: Vec<Vec<usize>>,
    /// The part from which this process takes, counted from its own.
    at: usize,
    /// Number of items of another's part that may be under way here: a share of what is left of it.
    room: usize,
}

impl<'a> Claims<'a> {
    /// Divides the items at these places. `counter` is one that no other list has.
    pub(super) fn new<I: StageItem>(
        processes: &'a Processes,
        counter: String,
        items: &[I],
        places: &[usize],
    ) -> Self {
        let count = processes.count();
        let mut order: Vec<(u64, usize)> =
            places.iter().map(|&place| (hash(&items[place].video()), place)).collect();
        order.sort_unstable();
        let part = |rank: usize| {
            let part = &order[order.len() * rank / count..order.len() * (rank + 1) / count];
            let mut places: Vec<usize> = part.iter().map(|(_, place)| *place).collect();
            places.sort_unstable();
            places
        };
        Self { processes, counter, parts: (0..count).map(part).collect(), at: 0, room: 1 }
    }

    /// Takes the next item for a process with so many under way; returns its place, or `None` if nobody has one left, or
    /// only others do, and this process has its share of that under way.
    pub(super) async fn next(&mut self, under_way: usize) -> Result<Option<usize>, Error> {
        let count = self.parts.len();
        while self.at < count {
            if self.at > 0 && under_way >= self.room {
                return Ok(None);
            }
            let owner = (self.processes.rank() + self.at) % count;
            let number = self.processes.next(&format!("{}, part {owner}", self.counter)).await?;
            let (part, number) = (&self.parts[owner], usize::try_from(number).unwrap_or(usize::MAX));
            if let Some(place) = part.get(number) {
                self.room = ((part.len() - number) / count).max(1);
                return Ok(Some(*place));
            }
            (self.at, self.room) = (self.at + 1, 1);
        }
        Ok(None)
    }

    /// Counts an item that is done; returns how many of them all processes have.
    pub(super) async fn done(&self) -> Result<u64, Error> {
        Ok(self.processes.next(&format!("{}, done", self.counter)).await? + 1)
    }
}

/// Spreads videos evenly, in all processes alike.
fn hash(video: &str) -> u64 {
    let digest = blake3::hash(video.as_bytes());
    digest.as_bytes().iter().take(8).fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}
