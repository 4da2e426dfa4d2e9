//! Binding of c10d, PyTorch's distributed store and process groups (`c10d.cpp`).
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::{NonNull, null, null_mut};
use std::time::Duration;

use tch::Tensor;

use crate::error::{Result, TorchError};
use crate::operators::check;

/// Objects of `c10d.cpp`.
type RawStore = c_void;
type RawGroup = c_void;
type RawWork = c_void;

unsafe extern "C" {
    fn isr_store_open(
        host: *const c_char,
        port: u16,
        serve: bool,
        timeout: i64,
        out: *mut *mut RawStore,
    ) -> *mut c_char;
    fn isr_store_within(
        store: *const RawStore,
        prefix: *const c_char,
        out: *mut *mut RawStore,
    ) -> *mut c_char;
    fn isr_store_release(store: *mut RawStore);
    fn isr_store_set(store: *const RawStore, key: *const c_char, value: *const c_char) -> *mut c_char;
    fn isr_store_add(store: *const RawStore, key: *const c_char, amount: i64, sum: *mut i64)
    -> *mut c_char;
    fn isr_store_set_first(store: *const RawStore, key: *const c_char, value: *const c_char)
    -> *mut c_char;
    fn isr_store_has(
        store: *const RawStore,
        keys: *const *const c_char,
        count: usize,
        all: *mut bool,
    ) -> *mut c_char;
    fn isr_store_get(
        store: *const RawStore,
        keys: *const *const c_char,
        count: usize,
        context: *mut c_void,
        take: extern "C" fn(*mut c_void, *const u8, usize),
    ) -> *mut c_char;
    fn isr_gloo(
        store: *const RawStore,
        rank: c_int,
        size: c_int,
        interface: *const c_char,
        address: *const c_char,
        connect_timeout: i64,
        timeout: i64,
        out: *mut *mut RawGroup,
    ) -> *mut c_char;
    fn isr_nccl_loaded() -> bool;
    fn isr_nccl(
        store: *const RawStore,
        rank: c_int,
        size: c_int,
        timeout: i64,
        out: *mut *mut RawGroup,
    ) -> *mut c_char;
    fn isr_group_shutdown(group: *mut RawGroup) -> *mut c_char;
    fn isr_group_release(group: *mut RawGroup);
    fn isr_group_start(
        group: *mut RawGroup,
        operation: c_int,
        out: *const c_void,
        input: *const c_void,
        root: c_int,
        work: *mut *mut RawWork,
    ) -> *mut c_char;
    fn isr_work_wait(work: *mut RawWork, timeout: i64, ended: *mut bool) -> *mut c_char;
    fn isr_work_release(work: *mut RawWork);
}

/// Key-value store that all processes reach, c10d's `TCPStore`: one connection, which calls take turns on.
///
/// Calls wait for the server without limit, but for [`open`](Self::open).
pub(super) struct Store(NonNull<RawStore>);

// SAFETY: c10d's stores guard their connection by a mutex.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Store {
    /// Connects to the store at `host`:`port`, trying again until `timeout`, or serves it from this process.
    pub(super) fn open(host: &str, port: u16, serve: bool, timeout: Duration) -> Result<Self> {
        let host = c_text(host)?;
        let mut out = null_mut();
        // SAFETY: `host` ends in zero and `out` is a live pointer.
        check(unsafe { isr_store_open(host.as_ptr(), port, serve, milliseconds(timeout), &raw mut out) })?;
        owned(out).map(Self)
    }

    /// Returns the part of this store in which all keys begin with `prefix`.
    pub(super) fn within(&self, prefix: &str) -> Result<Self> {
        let prefix = c_text(prefix)?;
        let mut out = null_mut();
        // SAFETY: as in `open`; the new store keeps the first alive.
        check(unsafe { isr_store_within(self.raw(), prefix.as_ptr(), &raw mut out) })?;
        owned(out).map(Self)
    }

    /// Sets a key.
    pub(super) fn set(&self, key: &str, value: &str) -> Result<()> {
        let [key, value] = [c_text(key)?, c_text(value)?];
        // SAFETY: both texts end in zero.
        check(unsafe { isr_store_set(self.raw(), key.as_ptr(), value.as_ptr()) })
    }

    /// Sets a key that has no value yet.
    pub(super) fn set_first(&self, key: &str, value: &str) -> Result<()> {
        let [key, value] = [c_text(key)?, c_text(value)?];
        // SAFETY: as in `set`.
        check(unsafe { isr_store_set_first(self.raw(), key.as_ptr(), value.as_ptr()) })
    }

    /// Adds to the number of a key, from 0, and returns the sum.
    pub(super) fn add(&self, key: &str, amount: i64) -> Result<i64> {
        let key = c_text(key)?;
        let mut sum = 0;
        // SAFETY: the text ends in zero and `sum` is live.
        check(unsafe { isr_store_add(self.raw(), key.as_ptr(), amount, &raw mut sum) })?;
        Ok(sum)
    }

    /// Returns whether all keys have values.
    pub(super) fn has<S: AsRef<str>>(&self, keys: &[S]) -> Result<bool> {
        let keys = c_texts(keys)?;
        let pointers: Vec<_> = keys.iter().map(|key| key.as_ptr()).collect();
        let mut all = false;
        // SAFETY: the pointers are to texts that end in zero, `count` of them; `all` is live.
        check(unsafe { isr_store_has(self.raw(), pointers.as_ptr(), pointers.len(), &raw mut all) })?;
        Ok(all)
    }

    /// Returns the values of keys that all have one.
    pub(super) fn get<S: AsRef<str>>(&self, keys: &[S]) -> Result<Vec<String>> {
        extern "C" fn take(context: *mut c_void, bytes: *const u8, count: usize) {
            // SAFETY: the context is the vector below, and the bytes live for this call; none may be at null.
            let (values, bytes) = unsafe {
                let bytes = if count == 0 { &[] } else { std::slice::from_raw_parts(bytes, count) };
                (&mut *context.cast::<Vec<String>>(), bytes)
            };
            values.push(String::from_utf8_lossy(bytes).into_owned());
        }
        let keys = c_texts(keys)?;
        let pointers: Vec<_> = keys.iter().map(|key| key.as_ptr()).collect();
        let mut values = Vec::<String>::with_capacity(keys.len());
        let context = (&raw mut values).cast();
        // SAFETY: as in `has`; `take` gets the vector, which nothing else uses meanwhile.
        check(unsafe { isr_store_get(self.raw(), pointers.as_ptr(), pointers.len(), context, take) })?;
        Ok(values)
    }

    fn raw(&self) -> *const RawStore {
        self.0.as_ptr()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: the pointer is owned, and is not used again.
        unsafe { isr_store_release(self.0.as_ptr()) }
    }
}

/// Network interface of a group's connections.
pub(super) enum Interface<'a> {
    /// By its name.
    Name(&'a str),
    /// By its address.
    Address(&'a str),
}

/// Operation of a [`Group`].
pub(super) enum Operation<'a> {
    /// Replaces the tensor by its sum over processes.
    Sum(&'a mut Tensor),
    /// Replaces the tensor by that of a process.
    Broadcast(&'a mut Tensor, usize),
    /// Writes the inputs of all processes, by rank, into the output.
    Gather { all: &'a mut Tensor, share: &'a Tensor },
    /// Writes this process's share of the sum over processes into the output.
    SumShare { share: &'a mut Tensor, all: &'a Tensor },
    /// Writes this process's share of each process's input, by rank, into the output.
    Exchange { received: &'a mut Tensor, sent: &'a Tensor },
    /// Waits for all processes.
    Barrier,
}

/// Processes that take operations on tensors together, a `c10d::Backend`.
pub(super) struct Group(NonNull<RawGroup>);

// SAFETY: c10d's groups may be used from any thread; that operations take turns is the caller's business.
unsafe impl Send for Group {}

impl Group {
    /// Connects a group for tensors of the CPU. Its operations fail after `timeout`.
    pub(super) fn gloo(
        store: &Store,
        [rank, size]: [usize; 2],
        interface: &Interface<'_>,
        connect_timeout: Duration,
        timeout: Duration,
    ) -> Result<Self> {
        let text = match interface {
            Interface::Name(text) | Interface::Address(text) => c_text(text)?,
        };
        let [name, address] = match interface {
            Interface::Name(_) => [text.as_ptr(), null()],
            Interface::Address(_) => [null(), text.as_ptr()],
        };
        let mut out = null_mut();
        // SAFETY: the text that is not null ends in zero; the group keeps the store alive.
        check(unsafe {
            isr_gloo(
                store.raw(),
                rank as c_int,
                size as c_int,
                name,
                address,
                milliseconds(connect_timeout),
                milliseconds(timeout),
                &raw mut out,
            )
        })?;
        owned(out).map(Self)
    }

    /// Returns whether libtorch's NCCL group has been loaded into this process.
    pub(super) fn has_nccl() -> bool {
        // SAFETY: no preconditions.
        unsafe { isr_nccl_loaded() }
    }

    /// Makes a group for tensors of GPUs, which connects in its first operation. Operations are queued on the current
    /// stream; one that takes longer than `timeout` ends the process.
    pub(super) fn nccl(store: &Store, [rank, size]: [usize; 2], timeout: Duration) -> Result<Self> {
        let mut out = null_mut();
        // SAFETY: the group keeps the store alive.
        check(unsafe {
            isr_nccl(store.raw(), rank as c_int, size as c_int, milliseconds(timeout), &raw mut out)
        })?;
        owned(out).map(Self)
    }

    /// Runs an operation, and calls `go_on` every `step` until it has ended. Returns none where `go_on` gives up: the
    /// operation is still under way then, and this group is past use and must be [abandoned](Self::abandon).
    pub(super) fn run(
        &mut self,
        operation: Operation<'_>,
        step: Duration,
        go_on: impl Fn() -> bool,
    ) -> Result<Option<()>> {
        let work = self.start(operation)?;
        loop {
            let mut ended = false;
            // SAFETY: the work and `ended` are live.
            check(unsafe { isr_work_wait(work.0.as_ptr(), milliseconds(step), &raw mut ended) })?;
            if ended {
                return Ok(Some(()));
            }
            if !go_on() {
                return Ok(None);
            }
        }
    }

    fn start(&mut self, operation: Operation<'_>) -> Result<Work> {
        let raw = |tensor: &Tensor| tensor.as_ptr().cast::<c_void>();
        let (code, out, input, root) = match operation {
            Operation::Sum(tensor) => (0, raw(tensor), null(), 0),
            Operation::Broadcast(tensor, root) => (1, raw(tensor), null(), root),
            Operation::Gather { all, share } => (2, raw(all), raw(share), 0),
            Operation::SumShare { share, all } => (3, raw(share), raw(all), 0),
            Operation::Exchange { received, sent } => (4, raw(received), raw(sent), 0),
            Operation::Barrier => (5, null(), null(), 0),
        };
        let mut work = null_mut();
        // SAFETY: tensors are live or null as the operation wants them; it keeps their memory alive.
        check(unsafe { isr_group_start(self.0.as_ptr(), code, out, input, root as c_int, &raw mut work) })?;
        owned(work).map(Work)
    }

    /// Closes connections without waiting for the others.
    pub(super) fn shut_down(self) -> Result<()> {
        // SAFETY: the pointer is owned.
        check(unsafe { isr_group_shutdown(self.0.as_ptr()) })
    }

    /// Leaves a group to the end of the process: c10d would wait for operations that do not end.
    pub(super) fn abandon(self) {
        std::mem::forget(self);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: the pointer is owned, and is not used again.
        unsafe { isr_group_release(self.0.as_ptr()) }
    }
}

/// Operation under way.
struct Work(NonNull<RawWork>);

impl Drop for Work {
    fn drop(&mut self) {
        // SAFETY: the pointer is owned, and is not used again.
        unsafe { isr_work_release(self.0.as_ptr()) }
    }
}

/// Returns this machine's name.
pub(super) fn host_name() -> String {
    let mut name = [0u8; 256];
    // SAFETY: the buffer has room for what is written; its last byte stays zero.
    unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..end]).into_owned()
}

fn owned(pointer: *mut c_void) -> Result<NonNull<c_void>> {
    NonNull::new(pointer).ok_or_else(|| TorchError::Group("c10d returned nothing".to_owned()))
}

fn c_text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| TorchError::Group(format!("{text:?} contains a zero byte")))
}

fn c_texts<S: AsRef<str>>(texts: &[S]) -> Result<Vec<CString>> {
    texts.iter().map(|text| c_text(text.as_ref())).collect()
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).max(1)
}
