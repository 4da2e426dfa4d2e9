//! Components in the sandbox.

mod judge;
mod objective;
mod retrospector;

pub(crate) use judge::WasmJudge;
pub(crate) use objective::WasmObjective;
pub(crate) use retrospector::WasmRetrospector;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use isr_api::{FrozenPolicy, VideoInput};
use tokio::runtime::Handle;

use crate::error::Fault;
use crate::sandbox::{Asked, Call, Limits};

/// What the components of a file have in common.
#[derive(Clone)]
pub(crate) struct Shared {
    /// The component's name.
    pub(crate) name: String,
    /// The section's settings as JSON.
    pub(crate) settings: String,
    pub(crate) limits: Arc<Limits>,
}

/// Does a call about a case on a thread that may wait; it ends where nobody waits for it any more.
async fn on_case<T: Send + 'static>(
    shared: &Shared,
    scene: &VideoInput,
    policy: &FrozenPolicy,
    seed: u64,
    work: impl FnOnce(Call) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let asked = Asked { scene: scene.clone(), policy: policy.clone(), runtime: Handle::current() };
    let end = EndOnDrop(Arc::default());
    let call = Call {
        asked: Some(asked),
        seed,
        cancelled: Arc::clone(&end.0),
        ..Call::new(&shared.name, &shared.limits)
    };
    let done = tokio::task::spawn_blocking(move || work(call)).await;
    done.unwrap_or_else(|error| Err(Fault::Trap(error.to_string())))
}

/// Tells a call that nobody waits for it.
struct EndOnDrop(Arc<AtomicBool>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
