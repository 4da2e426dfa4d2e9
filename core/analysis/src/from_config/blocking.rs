//! Synchronous work inside async code.

use std::panic::resume_unwind;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

/// Runs `work` on a thread of the blocking pool, where it may call [`Handle::block_on`]. A panic of `work` continues in the
/// caller.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce(&Handle) -> T + Send + 'static) -> T {
    let runtime = Handle::current();
    match spawn_blocking(move || work(&runtime)).await {
        Ok(output) => output,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // Not started, because the runtime shuts down: it drops this future too.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_may_wait_for_the_runtime_that_awaits_it() {
        let output = blocking(|runtime| {
            runtime.block_on(async {
                tokio::task::yield_now().await;
                7
            })
        })
        .await;
        assert_eq!(output, 7);
    }

    #[tokio::test]
    #[should_panic(expected = "of the work")]
    async fn a_panic_reaches_the_caller() {
        blocking(|_| panic!("of the work")).await
    }
}
