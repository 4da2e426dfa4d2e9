//! Data of a store: what a plugin's instance can reach.

use std::sync::Arc;

use isr_api::{Fingerprint, FrozenPolicy, VideoInput};
use tokio::runtime::Handle;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::Call;
use super::clock::Clock;
use super::room::Room;
use crate::error::SandboxError;

/// Bytes of output that are logged.
const OUTPUT: usize = 16 << 10;
/// Most handles of the host, such as of clocks and files, that an instance holds.
const HANDLES: usize = 10_000;

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
    pub(crate) clock: Arc<Clock>,
    pub(crate) room: Room,
    wasi: WasiCtx,
    table: ResourceTable,
    output: MemoryOutputPipe,
}

impl State {
    pub(crate) fn new(call: Call) -> Result<Self, SandboxError> {
        let Call { plugin, limits, context, seed, clock } = call;
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
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        Ok(Self {
            plugin,
            context: context.map(Arc::new),
            asked: 0,
            clock,
            room: Room::new(limits.memory_mb.saturating_mul(1 << 20)),
            wasi: wasi.build(),
            table,
            output,
        })
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
