//! The group of processes that have joined.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use isr_api::{ComponentError, ProcessGroup};
use tch::{Device, Kind, Tensor};

use super::c10d::{Group, Operation, Store};
use super::collectives::Collectives;
use super::reason;
use super::rendezvous::Rendezvous;
use super::watchdog::Watchdog;
use crate::device_clock;
use crate::error::{Result, TorchError};

/// Interval at which a waiting call asks whether the group is lost.
const STEP: Duration = Duration::from_millis(100);

/// Processes that run one loop together, on PyTorch's c10d.
///
/// Bytes ([`ProcessGroup`]) and tensors (`Collectives`) have groups of their own, so that operations on the one may run
/// while those on the other do. A call that waits for a lost process returns the error that names it.
///
/// Each process [leaves](Self::leave) in the end: one that is dropped, or ends, without that is lost to the others.
pub struct C10dGroup {
    place: Rendezvous,
    store: Arc<Store>,
    watchdog: Watchdog,
    control: Slot,
    tensors: Slot,
    nccl: Option<Slot>,
}

/// A group of c10d, and none once it is left or lost.
struct Slot(Mutex<Option<Group>>);

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<Group>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl C10dGroup {
    pub(super) fn new(
        place: Rendezvous,
        store: Store,
        watchdog: Watchdog,
        control: Group,
        tensors: Group,
        nccl: Option<Group>,
    ) -> Self {
        let slot = |group| Slot(Mutex::new(Some(group)));
        Self {
            place,
            store: Arc::new(store),
            watchdog,
            control: slot(control),
            tensors: slot(tensors),
            nccl: nccl.map(slot),
        }
    }

    /// Returns this process's place.
    pub fn place(&self) -> &Rendezvous {
        &self.place
    }

    /// Returns whether tensors of GPUs are moved by NCCL.
    pub fn has_nccl(&self) -> bool {
        self.nccl.is_some()
    }

    /// Ends the membership without the others' taking it for a death. Calls after this one fail. The process that keeps the
    /// store waits for the others to leave, at most the group's time limit.
    ///
    /// # Errors
    /// A process that is gone.
    pub fn leave(&self) -> Result<(), TorchError> {
        let left = self.watchdog.leave();
        for slot in [Some(&self.control), Some(&self.tensors), self.nccl.as_ref()].into_iter().flatten() {
            match slot.lock().take() {
                Some(group) if left.is_ok() => group.shut_down()?,
                // NCCL would wait for who is gone.
                Some(group) => group.abandon(),
                None => {}
            }
        }
        left
    }

    /// Runs an operation to its end, or to that of the group.
    fn run(&self, slot: &Slot, operation: Operation<'_>) -> Result<()> {
        if let Some(lost) = self.watchdog.lost() {
            return Err(TorchError::Group(lost));
        }
        let mut held = slot.lock();
        let Some(group) = held.as_mut() else {
            return Err(TorchError::Group("this process has left the group".to_owned()));
        };
        match group.run(operation, STEP, || self.watchdog.lost().is_none()) {
            Ok(Some(())) => Ok(()),
            Ok(None) => {
                held.take().into_iter().for_each(Group::abandon);
                Err(TorchError::Group(self.watchdog.lost().unwrap_or_default()))
            }
            Err(error) => {
                drop(held);
                Err(self.explain(&error))
            }
        }
    }

    /// Names the process because of which an operation has failed.
    fn explain(&self, error: &TorchError) -> TorchError {
        let left = self.watchdog.left();
        if !left.is_empty() {
            let text = format!(
                "ranks {left:?} have left the group, and this process waits for them ({})",
                reason(error)
            );
            return TorchError::Group(text);
        }
        let lost = self.watchdog.verdict();
        TorchError::Group(
            lost.unwrap_or_else(|| format!("an operation of the group failed: {}", reason(error))),
        )
    }

    /// Asks the store, on a thread that is left alone if the group is lost meanwhile.
    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = mpsc::channel();
        let store = self.store.clone();
        let thread = thread::Builder::new().name("isr-store".to_owned());
        let thread = thread.spawn(move || sender.send(question(&store)));
        thread.map_err(|error| TorchError::Group(format!("cannot start a thread: {error}")))?;
        loop {
            match receiver.recv_timeout(STEP) {
                Ok(answer) => return answer.map_err(|error| self.explain(&error)),
                Err(_) => {
                    if let Some(lost) = self.watchdog.lost() {
                        return Err(TorchError::Group(lost));
                    }
                }
            }
        }
    }

    /// Returns the group that moves a tensor, and whether it moves tensors of that device itself.
    fn slot(&self, device: Device) -> (&Slot, bool) {
        match &self.nccl {
            Some(nccl) if device != Device::Cpu => (nccl, true),
            _ => (&self.tensors, device == Device::Cpu),
        }
    }

    /// Runs an operation that changes a tensor in place, on the host where it must.
    fn change(&self, tensor: &mut Tensor, operation: impl Fn(&mut Tensor) -> Operation<'_>) -> Result<()> {
        check(tensor)?;
        if tensor.numel() == 0 {
            return Ok(());
        }
        let (slot, direct) = self.slot(tensor.device());
        if direct {
            return self.run(slot, operation(tensor));
        }
        let mut host = tensor.f_to_device(Device::Cpu)?;
        self.run(slot, operation(&mut host))?;
        Ok(tensor.f_copy_(&host)?)
    }

    /// Returns the tensors of all processes of the same shape, one after the other.
    fn gather(&self, slot: &Slot, share: &Tensor) -> Result<Tensor> {
        let count = share.size1()? * self.place.world_size as i64;
        let all = Tensor::f_empty([count], (share.kind(), share.device()))?;
        self.run(slot, Operation::Gather { all: &mut bytes(&all)?, share: &bytes(share)? })?;
        Ok(all)
    }

    fn gather_bytes(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let lengths = self.gather(&self.control, &Tensor::from_slice(&[own.len() as i64]))?;
        let lengths = Vec::<i64>::try_from(&lengths)?;
        let longest = lengths.iter().copied().max().unwrap_or(0) as usize;
        if longest == 0 {
            return Ok(vec![Vec::new(); lengths.len()]);
        }
        let mut padded = own.to_vec();
        padded.resize(longest, 0);
        let all = Vec::<u8>::try_from(&self.gather(&self.control, &Tensor::from_slice(&padded))?)?;
        let each = all.chunks(longest).zip(&lengths);
        Ok(each.map(|(bytes, length)| bytes[..*length as usize].to_vec()).collect())
    }

    fn broadcast_bytes(&self, own: &[u8], root: usize) -> Result<Vec<u8>> {
        if root >= self.place.world_size {
            let size = self.place.world_size;
            return Err(TorchError::Group(format!("there is no rank {root} in a group of {size}")));
        }
        let is_root = self.place.rank == root;
        let mut length = Tensor::from_slice(&[own.len() as i64]);
        self.run(&self.control, Operation::Broadcast(&mut length, root))?;
        let length = i64::try_from(&length)?;
        if length == 0 {
            return Ok(Vec::new());
        }
        let mut sent = match is_root {
            true => Tensor::from_slice(own),
            false => Tensor::f_empty([length], (Kind::Uint8, Device::Cpu))?,
        };
        self.run(&self.control, Operation::Broadcast(&mut sent, root))?;
        Ok(Vec::<u8>::try_from(&sent)?)
    }
}

impl ProcessGroup for C10dGroup {
    fn rank(&self) -> usize {
        self.place.rank
    }

    fn world_size(&self) -> usize {
        self.place.world_size
    }

    fn barrier(&self) -> Result<(), ComponentError> {
        Ok(self.run(&self.control, Operation::Barrier)?)
    }

    fn broadcast(&self, bytes: &[u8], root: usize) -> Result<Vec<u8>, ComponentError> {
        Ok(self.broadcast_bytes(bytes, root)?)
    }

    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, ComponentError> {
        Ok(self.gather_bytes(bytes)?)
    }

    fn next(&self, counter: &str) -> Result<u64, ComponentError> {
        let key = format!("counter/{counter}");
        let number = self.ask(move |store| store.add(&key, 1))?;
        Ok(number.unsigned_abs() - 1)
    }

    fn fail(&self, cause: &str) {
        self.watchdog.fail(cause);
    }
}

impl Collectives for C10dGroup {
    fn rank(&self) -> usize {
        self.place.rank
    }

    fn world_size(&self) -> usize {
        self.place.world_size
    }

    fn all_reduce(&self, tensor: &mut Tensor) -> Result<()> {
        let _waiting = device_clock::wait();
        self.change(tensor, |tensor| Operation::Sum(tensor))
    }

    fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<()> {
        check(tensor)?;
        let _waiting = device_clock::wait();
        // A view of the same memory, so that all dtypes are moved.
        self.change(&mut bytes(tensor)?, |tensor| Operation::Broadcast(tensor, root))
    }

    fn reduce_scatter(&self, all: &Tensor) -> Result<Tensor> {
        check(all)?;
        let _waiting = device_clock::wait();
        let (count, parts) = (all.size1()?, self.place.world_size as i64);
        if count % parts != 0 {
            return Err(TorchError::Group(format!(
                "{count} elements do not divide among {parts} processes"
            )));
        }
        let (slot, direct) = self.slot(all.device());
        let options = (all.kind(), all.device());
        if count == 0 {
            return Ok(Tensor::f_empty([0], options)?);
        }
        if direct && all.device() != Device::Cpu {
            let mut share = Tensor::f_empty([count / parts], options)?;
            self.run(slot, Operation::SumShare { share: &mut share, all })?;
            return Ok(share);
        }
        // gloo sends all of the sum to all. Each sends the others their shares, and adds up its own.
        let sent = all.f_to_device(Device::Cpu)?;
        let received = Tensor::f_empty([parts, count / parts], (all.kind(), Device::Cpu))?;
        self.run(
            slot,
            Operation::Exchange { received: &mut bytes(&received.f_view([-1])?)?, sent: &bytes(&sent)? },
        )?;
        let sum = received.f_sum_dim_intlist(0i64, false, all.kind())?;
        Ok(sum.f_to_device(all.device())?)
    }

    fn all_gather(&self, share: &Tensor) -> Result<Tensor> {
        check(share)?;
        let _waiting = device_clock::wait();
        if share.numel() == 0 {
            return Ok(share.f_detach()?);
        }
        let (slot, direct) = self.slot(share.device());
        match direct {
            true => self.gather(slot, share),
            false => {
                Ok(self.gather(slot, &share.f_to_device(Device::Cpu)?)?.f_to_device(share.device())?)
            }
        }
    }

    fn all_gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let _waiting = device_clock::wait();
        self.gather_bytes(bytes)
    }
}

/// Refuses tensors whose memory is not one run of elements.
fn check(tensor: &Tensor) -> Result<()> {
    if tensor.dim() == 1 && tensor.is_contiguous() {
        return Ok(());
    }
    Err(TorchError::Group(format!("a tensor of shape {:?} is not flat and contiguous", tensor.size())))
}

/// Returns the bytes of a flat tensor, a view.
fn bytes(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.f_view_dtype(Kind::Uint8)?)
}
