//! Requests to stop a run that let a training step under way come to its end.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use isr_api::Error;
use tokio_util::sync::CancellationToken;

/// A request to stop where no training step is lost: a training ends behind its current step, with a snapshot; everything
/// else, which is journalled item by item, is cancelled.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    requested: CancellationToken,
    in_training: Arc<AtomicBool>,
}

impl Stop {
    pub(crate) fn on(requested: CancellationToken) -> Self {
        Self { requested, in_training: Arc::default() }
    }

    pub(crate) fn is_requested(&self) -> bool {
        self.requested.is_cancelled()
    }

    /// Does `work`, and cancels `cancel` on a request that comes while no training is under way.
    pub(crate) async fn watch<T>(&self, cancel: &CancellationToken, work: impl Future<Output = T>) -> T {
        let watch = async {
            self.requested.cancelled().await;
            if !self.in_training.load(Ordering::Relaxed) {
                cancel.cancel();
            }
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            outcome = work => outcome,
            never = watch => match never {},
        }
    }

    /// Does a training, which looks for requests itself.
    ///
    /// # Errors
    /// Those of the training; [`Error::Cancelled`] on a request, also where the training has come to its end.
    pub(crate) async fn while_training<T>(
        &self,
        training: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.in_training.store(true, Ordering::Relaxed);
        let outcome = training.await;
        self.in_training.store(false, Ordering::Relaxed);
        match outcome {
            Ok(_) if self.is_requested() => Err(Error::Cancelled),
            outcome => outcome,
        }
    }
}
