//! Notices processes that are gone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::OnLost;
use super::c10d::Store;
use super::failure::{Failure, Member};
use super::pulse::{Command, Event, LEFT, Pulse};
use super::rendezvous::Rendezvous;
use crate::error::{Result, TorchError};

/// Watches the processes of a group, by counts that each writes into the store.
///
/// Two threads: one talks with the store ([`Pulse`]), the other one judges what it hears, and that it hears something: a
/// call to a store whose machine hangs does not return.
pub(super) struct Watchdog {
    shared: Arc<Shared>,
    commands: Sender<Command>,
    members: Arc<[Member]>,
    rank: usize,
    keeps_store: bool,
    limit: Duration,
}

/// What the judging thread has found.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lost: Option<String>,
    left: Vec<bool>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a condition holds, or the group is lost, or time is up.
    fn wait(&self, limit: Duration, until: impl Fn(&State) -> bool) -> Option<String> {
        let waits = |state: &mut State| state.lost.is_none() && !until(state);
        let state = self.changed.wait_timeout_while(self.state(), limit, waits);
        state.unwrap_or_else(PoisonError::into_inner).0.lost.clone()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }
}

impl Watchdog {
    /// Begins to watch, through a connection of its own. `on_lost` is called once, with rank, host and cause, at most
    /// `limit` after a process's last sign of life.
    pub(super) fn start(
        store: Store,
        place: &Rendezvous,
        members: Arc<[Member]>,
        limit: Duration,
        on_lost: OnLost,
    ) -> Result<Self> {
        let (events, heard) = mpsc::channel();
        let (commands, ordered) = mpsc::channel();
        let world_size = members.len();
        let period = (limit / 8).min(Duration::from_secs(1));
        let shared = Arc::new(Shared::default());
        shared.state().left = vec![false; world_size];
        let pulse = Pulse {
            store,
            rank: place.rank,
            world_size,
            keeps_store: place.keeps_store(),
            period,
            events,
            commands: ordered,
        };
        let judge = Judge {
            place: place.clone(),
            members: members.clone(),
            // A count is written, and read, up to a period late.
            tolerance: limit.saturating_sub(2 * period),
            beats: vec![String::new(); world_size],
            silent: vec![Duration::ZERO; world_size],
            since_beats: Duration::ZERO,
            unanswered: Duration::ZERO,
            suspicion: None,
            shared: shared.clone(),
            commands: commands.clone(),
        };
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
            thread.map_err(|error| TorchError::Group(format!("cannot start a thread: {error}")))
        };
        spawn("isr-pulse", Box::new(move || pulse.run()))?;
        spawn("isr-watchdog", Box::new(move || judge.run(&heard, (period / 2).max(STEP), on_lost)))?;
        let (rank, keeps_store) = (place.rank, place.keeps_store());
        Ok(Self { shared, commands, members, rank, keeps_store, limit })
    }

    /// Returns what was lost.
    pub(super) fn lost(&self) -> Option<String> {
        self.shared.state().lost.clone()
    }

    /// Waits for the verdict on an operation that has failed: a dead process is known by its silence.
    pub(super) fn verdict(&self) -> Option<String> {
        self.shared.wait(self.limit, |_| false)
    }

    /// Returns the ranks that have left.
    pub(super) fn left(&self) -> Vec<usize> {
        let state = self.shared.state();
        state.left.iter().enumerate().filter_map(|(rank, left)| left.then_some(rank)).collect()
    }

    /// Tells the others that this process stops; waits until they can know it, three seconds at most.
    pub(super) fn fail(&self, cause: &str) {
        let cause = format!("stopped: {cause}");
        let failure = Failure::of(self.rank, &self.members[self.rank], cause, self.rank);
        if self.commands.send(Command::Publish(failure)).is_ok() {
            self.shared.wait(Duration::from_secs(3), |_| false);
        }
    }

    /// Ends watching and being watched. The process that keeps the store waits for the others to leave, `limit` at most.
    pub(super) fn leave(&self) -> Result<()> {
        let _ = self.commands.send(Command::Leave);
        let mut lost = self.shared.wait(self.limit, |state| state.left[self.rank]);
        if lost.is_none() && self.keeps_store {
            lost = self.shared.wait(self.limit, |state| state.left.iter().all(|left| *left));
        }
        let _ = self.commands.send(Command::Stop);
        lost.map_or(Ok(()), |lost| Err(TorchError::Group(lost)))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop);
    }
}

/// Shortest interval at which the judging thread looks at the time.
const STEP: Duration = Duration::from_millis(20);

/// State of the judging thread.
struct Judge {
    place: Rendezvous,
    members: Arc<[Member]>,
    tolerance: Duration,
    beats: Vec<String>,
    /// Time without a change of each process's count.
    silent: Vec<Duration>,
    since_beats: Duration,
    /// Time without an answer of the store.
    unanswered: Duration,
    /// Process found silent, whose failure is being told to the others.
    suspicion: Option<Failure>,
    shared: Arc<Shared>,
    commands: Sender<Command>,
}

impl Judge {
    fn run(mut self, heard: &Receiver<Event>, step: Duration, on_lost: OnLost) {
        loop {
            let begin = Instant::now();
            let event = heard.recv_timeout(step);
            // A process that was stopped for a while judges the others by the time in which it ran.
            let passed = begin.elapsed().min(self.tolerance / 4);
            self.since_beats += passed;
            self.unanswered += passed;
            let lost = match event {
                Ok(event) => {
                    self.unanswered = Duration::ZERO;
                    self.hear(event)
                }
                Err(RecvTimeoutError::Timeout) if self.unanswered < self.tolerance => None,
                Err(RecvTimeoutError::Timeout) => {
                    let cause = format!("has not answered for {:.1} s", self.unanswered.as_secs_f64());
                    Some(self.store_lost(&cause))
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let Some(lost) = lost else { continue };
            if !lost.own {
                // Before waiting calls return, so that it decides how the process ends.
                let message = lost.message.clone();
                let _ = catch_unwind(AssertUnwindSafe(|| on_lost(message)));
            }
            self.shared.change(|state| state.lost = Some(lost.message));
            return;
        }
    }

    fn hear(&mut self, event: Event) -> Option<Lost> {
        match event {
            Event::Quiet => None,
            Event::Left => {
                self.shared.change(|state| state.left[self.place.rank] = true);
                None
            }
            Event::Beats(beats) => {
                self.compare(beats);
                None
            }
            Event::Failed(failure) => {
                let own = failure.rank == self.place.rank;
                let told = own && failure.told_by == self.place.rank;
                let message = if own && !told {
                    format!("{failure}, as rank {} found; this is that process", failure.told_by)
                } else {
                    failure.to_string()
                };
                Some(Lost { message, own: told })
            }
            Event::StoreLost(error) => Some(self.store_lost(&format!("is gone ({error})"))),
        }
    }

    /// Takes in new counts, and suspects a process whose count stands still.
    fn compare(&mut self, beats: Vec<String>) {
        let passed = std::mem::take(&mut self.since_beats);
        for (rank, beat) in beats.iter().enumerate() {
            if *beat != self.beats[rank] {
                self.silent[rank] = Duration::ZERO;
            } else {
                self.silent[rank] += passed;
            }
            if beat == LEFT || rank == self.place.rank {
                self.silent[rank] = Duration::ZERO;
            }
        }
        if beats.iter().zip(&self.beats).any(|(new, old)| new == LEFT && old != LEFT) {
            self.shared.change(|state| {
                for (left, beat) in state.left.iter_mut().zip(&beats) {
                    *left |= beat == LEFT;
                }
            });
        }
        self.beats = beats;
        let longest = self.silent.iter().enumerate().max_by_key(|(_, silent)| **silent);
        let Some((rank, silent)) = longest.filter(|(_, silent)| **silent >= self.tolerance) else { return };
        if self.suspicion.is_none() {
            let cause = format!(
                "has given no sign of life for {:.1} s: it has ended or hangs, or its network is down",
                silent.as_secs_f64()
            );
            let failure = Failure::of(rank, &self.members[rank], cause, self.place.rank);
            // The answer is the first failure that was told, this one or another's.
            let _ = self.commands.send(Command::Publish(failure.clone()));
            self.suspicion = Some(failure);
        }
    }

    fn store_lost(&self, cause: &str) -> Lost {
        let address = self.place.address();
        let message = match &self.suspicion {
            Some(failure) => failure.to_string(),
            None if self.place.agent_store => format!(
                "torchrun's store at {address} {cause}: its agent has ended or hangs, or the network is down"
            ),
            None if self.place.rank == 0 => {
                format!("the store of this process, rank 0, at {address} {cause}")
            }
            None if self.beats[0] == LEFT => {
                let cause = format!("has left before this process did; its store at {address} {cause}");
                Failure::of(0, &self.members[0], cause, self.place.rank).to_string()
            }
            None => {
                let cause = format!(
                    "is lost: the store that it keeps at {address} {cause}; it has ended or hangs, or its network is \
                     down"
                );
                Failure::of(0, &self.members[0], cause, self.place.rank).to_string()
            }
        };
        Lost { message, own: false }
    }
}

/// End of a group.
struct Lost {
    message: String,
    /// Whether this process told it.
    own: bool,
}
