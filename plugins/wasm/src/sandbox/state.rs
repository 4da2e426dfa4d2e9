//! Data of a store: what a plugin's instance can reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use isr_api::{Fingerprint, FrozenPolicy, VideoInput};
use tokio::runtime::Handle;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::Call;
use crate::error::SandboxError;

/// Bytes of output that are logged.
const OUTPUT: usize = 16 << 10;
/// Most elements of a table.
const TABLE: usize = 1 << 20;

/// What a call's questions are about.
pub(crate) struct CaseContext {
    /// The video of the case.
    pub(crate) video: VideoInput,
    /// The policy.
    pub(crate) policy: FrozenPolicy,
    /// Where the policy's work is done.
    pub(crate) runtime: Handle,
}

/// The data of a store.
pub(crate) struct State {
    pub(crate) plugin: String,
    pub(crate) context: Option<Arc<CaseContext>>,
    /// Number of questions to the policy so far.
    pub(crate) asked: usize,
    deadline: Instant,
    cancelled: Arc<AtomicBool>,
    memory: usize,
    memory_refused: bool,
    wasi: WasiCtx,
    table: ResourceTable,
    output: MemoryOutputPipe,
}

impl State {
    pub(crate) fn new(call: Call) -> Result<Self, SandboxError> {
        let Call { plugin, limits, context, seed, cancelled } = call;
        let output = MemoryOutputPipe::new(OUTPUT);
        let random = || Deterministic::new(Fingerprint::of(seed.to_le_bytes()).as_str().into());
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(output.clone()).stderr(output.clone());
        wasi.secure_random(random()).insecure_random(random()).insecure_random_seed(u128::from(seed));
        wasi.allow_tcp(false).allow_udp(false);
        for folder in &limits.read {
            let name = folder.to_string_lossy();
            wasi.preopened_dir(folder, name, FsPerms::ReadOnly).map_err(|error| {
                SandboxError::Module(format!("`read` names {}: {error:#}", folder.display()))
            })?;
        }
        Ok(Self {
            plugin,
            context: context.map(Arc::new),
            asked: 0,
            deadline: Instant::now() + limits.call,
            cancelled,
            memory: limits.memory_mb.saturating_mul(1 << 20),
            memory_refused: false,
            wasi: wasi.build(),
            table: ResourceTable::new(),
            output,
        })
    }

    /// Whether the call has no time left, or is not wanted any more.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now > self.deadline || self.cancelled.load(Ordering::Relaxed)
    }

    /// Gives back time that was spent waiting for the host.
    pub(crate) fn extend(&mut self, waited: Duration) {
        self.deadline += waited;
    }

    pub(crate) fn memory_refused(&self) -> bool {
        self.memory_refused
    }

    /// Logs what the plugin printed.
    pub(crate) fn log_output(&self) {
        let (plugin, bytes) = (self.plugin.as_str(), self.output.contents());
        for line in String::from_utf8_lossy(&bytes).lines().filter(|line| !line.trim().is_empty()) {
            tracing::info!(plugin, "{line}");
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.memory {
            self.memory_refused = true;
            return Err(wasmtime::Error::msg("out of memory"));
        }
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE)
    }
}
