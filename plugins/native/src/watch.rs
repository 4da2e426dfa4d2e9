//! Warnings about calls that exceed `call_s`: a library's thread cannot be stopped, but it can be named.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Period of the checks.
const PERIOD: Duration = Duration::from_millis(250);

/// Calls in progress, by id.
type Calls = Mutex<HashMap<u64, Arc<Call>>>;

#[derive(Debug)]
struct Call {
    plugin: String,
    call: &'static str,
    limit: Duration,
    times: Mutex<Times>,
}

#[derive(Debug)]
struct Times {
    /// Start of its silence; `None` while it waits for the host.
    silent_since: Option<Instant>,
    warned: u32,
}

/// A call that is watched until the value is dropped.
pub(crate) struct Watched {
    id: u64,
    call: Arc<Call>,
}

/// The clock of a call.
#[derive(Clone)]
pub(crate) struct Clock(Arc<Call>);

impl Drop for Watched {
    fn drop(&mut self) {
        lock(calls()).remove(&self.id);
    }
}

impl Watched {
    pub(crate) fn begin(plugin: &str, call: &'static str, limit: Duration) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let times = Mutex::new(Times { silent_since: Some(Instant::now()), warned: 0 });
        let call = Arc::new(Call { plugin: plugin.to_owned(), call, limit, times });
        lock(calls()).insert(id, Arc::clone(&call));
        Self { id, call }
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock(Arc::clone(&self.call))
    }
}

impl Clock {
    /// Stops the clock while `work` answers the plugin.
    pub(crate) fn paused<T>(&self, work: impl FnOnce() -> T) -> T {
        lock(&self.0.times).silent_since = None;
        let result = work();
        lock(&self.0.times).silent_since = Some(Instant::now());
        result
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The calls in progress; the first use starts the thread that checks them.
fn calls() -> &'static Calls {
    static CALLS: OnceLock<Calls> = OnceLock::new();
    static THREAD: OnceLock<()> = OnceLock::new();
    let calls = CALLS.get_or_init(Calls::default);
    THREAD.get_or_init(|| {
        let look = || {
            loop {
                thread::sleep(PERIOD);
                lock(calls).values().for_each(|call| call.check());
            }
        };
        if let Err(error) = thread::Builder::new().name("plugin-watch".to_owned()).spawn(look) {
            tracing::warn!(%error, "calls of plugins are not watched");
        }
    });
    calls
}

impl Call {
    /// Warns each time that another multiple of the limit has passed.
    fn check(&self) {
        let mut times = lock(&self.times);
        let Some(since) = times.silent_since else { return };
        let silent = since.elapsed();
        if silent >= self.limit * (times.warned + 1) {
            times.warned += 1;
            tracing::warn!(
                "plugin `{}`, {}: silent for {:.1} s, longer than `call_s` = {}; a library cannot be \
                 stopped in this process: end the run, or give the plugin isolation = \"process\"",
                self.plugin,
                self.call,
                silent.as_secs_f64(),
                self.limit.as_secs_f64(),
            );
        }
    }
}
