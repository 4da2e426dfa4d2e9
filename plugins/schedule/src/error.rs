//! Errors of `isr-schedule`.

/// Why jobs cannot be run at all. A job that fails is none of these: it is a
/// [`JobEnd`](crate::JobEnd).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A job asks for what cannot be had, or two of them are alike.
    #[error("job `{job}`: {reason}")]
    Job {
        /// The job's name.
        job: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl Error {
    pub(crate) fn job(job: &str, reason: impl Into<String>) -> Self {
        Self::Job { job: job.to_owned(), reason: reason.into() }
    }
}
