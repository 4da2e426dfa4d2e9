//! Collectives of the threads of one process, for tests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tch::Tensor;

use crate::error::{Result, TorchError};
use crate::process_group::Collectives;

/// Time after which a thread gives up on the others.
const PATIENCE: Duration = Duration::from_secs(120);

/// One of several threads that meet in each operation.
pub(crate) struct Threads {
    rank: usize,
    meeting: Arc<Meeting>,
    sent: AtomicU64,
}

struct Meeting {
    count: usize,
    round: Mutex<Round>,
    changed: Condvar,
}

/// An operation that threads are in.
#[derive(Default)]
struct Round {
    /// What each thread brings, with the operation's name, length and dtype.
    brought: Vec<(usize, String, Brought)>,
    /// Threads that have taken the result.
    left: usize,
}

enum Brought {
    Bytes(Vec<u8>),
    Tensor(Tensor),
}

impl Threads {
    /// Creates the collectives of `count` threads.
    pub(crate) fn group(count: usize) -> Vec<Arc<Self>> {
        let meeting = Arc::new(Meeting { count, round: Mutex::default(), changed: Condvar::new() });
        let one = |rank| Arc::new(Self { rank, meeting: Arc::clone(&meeting), sent: AtomicU64::new(0) });
        (0..count).map(one).collect()
    }

    /// Returns the bytes of tensors that this thread would have sent so far, by the ring algorithms.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Counts `passes` passes of a ring over `bytes`, in which each thread sends all shares but one.
    fn count(&self, tensor: &Tensor, passes: u64) {
        let (bytes, count) =
            (tensor.numel() * tensor.kind().elt_size_in_bytes(), self.meeting.count as u64);
        self.sent.fetch_add(passes * bytes as u64 * (count - 1) / count, Ordering::Relaxed);
    }

    /// Waits for all threads, and lets each read what all have brought, by rank.
    fn meet<T>(&self, what: String, own: Brought, read: impl Fn(&[&Brought]) -> Result<T>) -> Result<T> {
        let Meeting { count, round, changed } = &*self.meeting;
        let mut now = round.lock().unwrap();
        // The round before may still be read by others.
        while now.brought.len() == *count {
            now = self.wait(now)?;
        }
        now.brought.push((self.rank, what, own));
        changed.notify_all();
        while now.brought.len() < *count {
            now = self.wait(now)?;
        }
        let mut all: Vec<&(usize, String, Brought)> = now.brought.iter().collect();
        all.sort_by_key(|(rank, ..)| *rank);
        let names: Vec<&String> = all.iter().map(|(_, name, _)| name).collect();
        assert!(
            names.iter().all(|name| *name == names[0]),
            "threads are in different operations: {names:?}"
        );
        let outcome = read(&all.iter().map(|(.., brought)| brought).collect::<Vec<_>>());
        now.left += 1;
        if now.left == *count {
            *now = Round::default();
            changed.notify_all();
            return outcome;
        }
        // None is in the next round before all have left this one, as `brought` is full until then.
        outcome
    }

    fn wait<'r>(
        &self,
        round: std::sync::MutexGuard<'r, Round>,
    ) -> Result<std::sync::MutexGuard<'r, Round>> {
        let (round, timeout) = self.meeting.changed.wait_timeout(round, PATIENCE).unwrap();
        match timeout.timed_out() {
            true => Err(TorchError::Engine(format!("thread {} waits in vain", self.rank))),
            false => Ok(round),
        }
    }

    fn meet_tensors<T>(
        &self,
        name: &str,
        tensor: &Tensor,
        read: impl Fn(&[Tensor]) -> Result<T>,
    ) -> Result<T> {
        assert!(tensor.size().len() == 1 && tensor.is_contiguous() && !tensor.requires_grad());
        let what = format!("{name} of {} {:?}", tensor.numel(), tensor.kind());
        self.meet(what, Brought::Tensor(tensor.copy()), |all| {
            let tensors = all.iter().map(|brought| match brought {
                Brought::Tensor(tensor) => tensor.shallow_clone(),
                Brought::Bytes(_) => unreachable!("names differ"),
            });
            read(&tensors.collect::<Vec<_>>())
        })
    }
}

fn sum(tensors: &[Tensor]) -> Tensor {
    assert!(tensors.iter().all(|tensor| tensor.kind() == tch::Kind::Float));
    tensors.iter().skip(1).fold(tensors[0].copy(), |sum, tensor| sum + tensor)
}

impl Collectives for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.meeting.count
    }

    fn all_reduce(&self, tensor: &mut Tensor) -> Result<()> {
        self.count(tensor, 2);
        let sum = self.meet_tensors("all_reduce", tensor, |all| Ok(sum(all)))?;
        Ok(tensor.f_copy_(&sum)?)
    }

    fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<()> {
        self.count(tensor, 1);
        let sent = self.meet_tensors("broadcast", tensor, |all| Ok(all[root].copy()))?;
        Ok(tensor.f_copy_(&sent)?)
    }

    fn reduce_scatter(&self, all: &Tensor) -> Result<Tensor> {
        self.count(all, 1);
        let share = (all.numel() / self.meeting.count) as i64;
        assert_eq!(share as usize * self.meeting.count, all.numel());
        let start = share * self.rank as i64;
        self.meet_tensors("reduce_scatter", all, |all| Ok(sum(all).narrow(0, start, share).copy()))
    }

    fn all_gather(&self, share: &Tensor) -> Result<Tensor> {
        let all = self.meet_tensors("all_gather", share, |all| Ok(Tensor::cat(all, 0)))?;
        self.count(&all, 1);
        Ok(all)
    }

    fn all_gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.meet("all_gather_bytes".to_owned(), Brought::Bytes(bytes.to_vec()), |all| {
            Ok(all
                .iter()
                .map(|brought| match brought {
                    Brought::Bytes(bytes) => bytes.clone(),
                    Brought::Tensor(_) => unreachable!("names differ"),
                })
                .collect())
        })
    }
}
