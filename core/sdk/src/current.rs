//! The host as seen from a plugin: that of the call on this thread, else that of the last component built.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::RemoteError;
use crate::interface::HostBox;
use crate::message::Message;

/// Shared handle of the host's side of a call.
#[derive(Clone)]
pub(crate) struct HostHandle(Arc<HostBox>);

impl HostHandle {
    pub(crate) fn new(host: HostBox) -> Self {
        Self(Arc::new(host))
    }

    pub(crate) fn wants(&self, level: u8) -> bool {
        self.0.wants(level)
    }

    pub(crate) fn log(&self, level: u8, target: &str, message: &str) {
        self.0.log(level, target.into(), message.into());
    }

    pub(crate) fn cancelled(&self) -> bool {
        self.0.cancelled()
    }

    pub(crate) fn ask(&self, method: &str, request: &Message) -> Result<Message, RemoteError> {
        let reply = request.lend(|raw| self.0.ask(method.into(), raw)).into_result();
        reply.map(Message::from).map_err(RemoteError::from)
    }
}

thread_local! {
    static CALL: RefCell<Option<HostHandle>> = const { RefCell::new(None) };
}

/// Host of the last component built, for threads that are in no call.
static FALLBACK: Mutex<Option<HostHandle>> = Mutex::new(None);

/// Sets the host for threads that are in no call.
pub(crate) fn set_fallback_host(host: &HostHandle) {
    *FALLBACK.lock().unwrap_or_else(PoisonError::into_inner) = Some(host.clone());
}

/// Runs `work` with this thread's host set, and restores the previous one.
pub(crate) fn with_host<T>(host: &HostHandle, work: impl FnOnce() -> T) -> T {
    /// Restores the previous host, on a panic too.
    struct End(Option<HostHandle>);
    impl Drop for End {
        fn drop(&mut self) {
            CALL.set(self.0.take());
        }
    }
    let _end = End(CALL.replace(Some(host.clone())));
    work()
}

/// The host of this thread's call, else the fallback.
pub(crate) fn host() -> Option<HostHandle> {
    let of_call = CALL.try_with(|call| call.borrow().clone()).ok().flatten();
    of_call.or_else(|| FALLBACK.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Whether the call on this thread was cancelled, for example because the run is being stopped. A long call polls
/// this and returns
/// [`ComponentError::Cancelled`](isr_api::ComponentError::Cancelled).
pub fn cancelled() -> bool {
    let call = CALL.with_borrow(Clone::clone);
    call.is_some_and(|host| host.cancelled())
}
