//! The program as seen from a plugin: of the call that a thread is at, or else of the last component built.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::RemoteError;
use crate::interface::HostBox;
use crate::message::Message;

/// The program's side of a call. Cheap to clone.
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

/// That of the last component built: for threads that are at no call.
static LAST: Mutex<Option<HostHandle>> = Mutex::new(None);

pub(crate) fn keep(host: &HostHandle) {
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(host.clone());
}

/// Works on a call.
pub(crate) fn during<T>(host: &HostHandle, work: impl FnOnce() -> T) -> T {
    /// Restores what was there before, whatever happens.
    struct End(Option<HostHandle>);
    impl Drop for End {
        fn drop(&mut self) {
            CALL.set(self.0.take());
        }
    }
    let _end = End(CALL.replace(Some(host.clone())));
    work()
}

pub(crate) fn host() -> Option<HostHandle> {
    let of_call = CALL.try_with(|call| call.borrow().clone()).ok().flatten();
    of_call.or_else(|| LAST.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Whether nobody waits for the call any more that this thread is at: the run is being stopped, say. A call
/// that takes long looks at this now and then, and returns
/// [`ComponentError::Cancelled`](isr_api::ComponentError::Cancelled).
pub fn cancelled() -> bool {
    let call = CALL.with_borrow(Clone::clone);
    call.is_some_and(|host| host.cancelled())
}
