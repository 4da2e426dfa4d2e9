//! A judge in a process.

use async_trait::async_trait;
use isr_api::messages::{JudgeMessage, VerdictMessage, VideoInfo};
use isr_api::{ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict};
use serde_json::Value;

use super::{call_error, params, unusable};
use crate::keys;
use crate::questions::CaseContext;
use crate::session::Session;

/// A [`Judge`] whose component runs in a [`Session`]'s process.
pub struct RemoteJudge {
    name: String,
    session: Session,
}

impl RemoteJudge {
    /// A judge on a session; errors carry `name`.
    pub fn new(name: &str, session: Session) -> Self {
        Self { name: name.to_owned(), session }
    }
}

#[async_trait]
impl Judge for RemoteJudge {
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let context = CaseContext { video: &case.scene, policy };
        let message = params(&JudgeMessage::new(case, VideoInfo::from(&case.scene)))?;
        let value = self.session.call("judge", message, Some(context)).await;
        let value = value.map_err(|error| call_error(&self.name, "judge", &error))?;
        verdict(value).map_err(|reason| unusable(&self.name, "judge", reason))
    }
}

/// Reads a verdict: a probability, or a [`VerdictMessage`].
fn verdict(value: Value) -> Result<Verdict, String> {
    let verdict = match value.as_f64() {
        Some(p_first) => Verdict { p_first, votes: Vec::new(), consistent: true },
        None => {
            let message: VerdictMessage = keys::read(value)?;
            Verdict::try_from(message).map_err(|error| error.to_string())?
        }
    };
    let mut all = verdict.votes.iter().map(|vote| vote.p_first).chain([verdict.p_first]);
    match all.find(|p| !(0.0..=1.0).contains(p)) {
        Some(p) => Err(format!("its probability is {p}, not in [0, 1]")),
        None => Ok(verdict),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Verdict, String> {
        verdict(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn a_number_is_a_verdict_without_votes() {
        let expected = Verdict { p_first: 0.25, votes: Vec::new(), consistent: true };
        assert_eq!(read("0.25"), Ok(expected.clone()));
        assert_eq!(read(r#"{"p_first": 0.25}"#), Ok(expected));
    }

    #[test]
    fn what_is_no_verdict_is_refused() {
        for (text, says) in [
            ("1.5", "its probability is 1.5, not in [0, 1]"),
            (r#"{"votes": [{"first_shown_first": true, "p_first": -1}]}"#, "-1"),
            ("{}", "a verdict without `p_first` and without votes"),
            (r#""first""#, "invalid type"),
            (r#"{"p_first": 0.5, "p_second": 0.5}"#, "p_second"),
            (r#"{"p_first": "0.5"}"#, "invalid type"),
            (r#"{"p_first": "NaN"}"#, "its probability is NaN"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.contains(says), "{text}: {refused}");
        }
    }
}
