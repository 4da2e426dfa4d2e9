//! Components in the sandbox.

mod judge;
mod objective;
mod retrospector;

pub(crate) use judge::WasmJudge;
pub(crate) use objective::{ObjectiveExport, WasmObjective};
pub(crate) use retrospector::WasmRetrospector;

use std::sync::Arc;

use isr_api::{FrozenPolicy, VideoInput};
use tokio::runtime::Handle;

use crate::error::SandboxError;
use crate::sandbox::{Call, CaseContext, Clock, Limits};

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
    let call = Call { context: Some(context), seed, ..Call::new(&shared.name, &shared.limits) };
    let _cancel = CancelOnDrop(Arc::clone(&call.clock));
    let done = tokio::task::spawn_blocking(move || work(call)).await;
    done.unwrap_or_else(|error| Err(SandboxError::Trap(error.to_string())))
}

/// Ends the call when it is dropped.
struct CancelOnDrop(Arc<Clock>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
