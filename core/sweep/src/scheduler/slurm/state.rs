//! What Slurm calls the state of a task.

/// What a state means to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It waits, or will run again.
    Waiting,
    /// It runs.
    Running,
    /// It is over, in Slurm's word (`TIMEOUT`, `NODE_FAIL`, ...).
    Over(String),
}

impl State {
    /// Of a word of `squeue` or `sacct`; unknown ones are taken for waiting, lest a job be given up.
    pub(super) fn read(word: &str) -> Self {
        // sacct: `CANCELLED by 1000`.
        let word = word.split_whitespace().next().unwrap_or_default();
        match word {
            // Of one that is completing, processes may be left, and it may be put into the queue again.
            "RUNNING" | "COMPLETING" | "STAGE_OUT" | "SUSPENDED" | "STOPPED" | "SIGNALING" | "RESIZING" => {
                Self::Running
            }
            "BOOT_FAIL" | "CANCELLED" | "COMPLETED" | "DEADLINE" | "FAILED" | "NODE_FAIL"
            | "OUT_OF_MEMORY" | "PREEMPTED" | "REVOKED" | "TIMEOUT" => Self::Over(word.to_owned()),
            _ => Self::Waiting,
        }
    }

    /// Whether the task's script may yet have written its exit status, so that its file is waited for.
    pub(super) fn may_have_written(word: &str) -> bool {
        matches!(word, "COMPLETED" | "FAILED")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_an_unknown_one_gives_no_job_up() {
        assert_eq!(State::read("CANCELLED by 1000"), State::Over("CANCELLED".into()));
        assert_eq!(State::read("RUNNING"), State::Running);
        for word in ["PENDING", "CONFIGURING", "REQUEUED", "NEWER_THAN_US", ""] {
            assert_eq!(State::read(word), State::Waiting, "{word}");
        }
    }
}
