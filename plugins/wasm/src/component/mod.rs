//! Components in the sandbox.

mod judge;
mod objective;
mod retrospector;

pub(crate) use judge::WasmJudge;
pub(crate) use objective::{ObjectiveExport, WasmObjective};
pub(crate) use retrospector::WasmRetrospector;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use isr_api::{FrozenPolicy, VideoInput};
use tokio::runtime::Handle;

use crate::error::SandboxError;
use crate::sandbox::{Call, CaseContext, Limits};

/// What all components of a file need.
#[derive(Clone)]
pub(crate) struct Shared {
    /// The component's name.
    pub(crate) name: String,
    /// The section's settings as JSON.
    pub(crate) settings: String,
    pub(crate) limits: Arc<Limits>,
}

/// Makes a call about a case on a blocking thread; dropping the future ends the call.
async fn on_case<T: Send + 'static>(
    shared: &Shared,
    video: &VideoInput,
    policy: &FrozenPolicy,
    seed: u64,
    work: impl FnOnce(Call) -> Result<T, SandboxError> + Send + 'static,
) -> Result<T, SandboxError> {
    let context = CaseContext { video: video.clone(), policy: policy.clone(), runtime: Handle::current() };
    let cancel = CancelOnDrop(Arc::default());
    let call = Call {
        context: Some(context),
        seed,
        cancelled: Arc::clone(&cancel.0),
        ..Call::new(&shared.name, &shared.limits)
    };
    let done = tokio::task::spawn_blocking(move || work(call)).await;
    done.unwrap_or_else(|error| Err(SandboxError::Trap(error.to_string())))
}

/// Sets its flag when it is dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
