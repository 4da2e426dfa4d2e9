//! Verdicts.

use isr_api::{Verdict, Vote};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    p_first: Option<f64>,
    #[serde(default)]
    votes: Vec<Vote>,
    consistent: Option<bool>,
}

/// Reads a verdict: a probability, or an object of `p_first`, `votes`, `consistent`. What can be derived
/// from the votes may be left out.
pub(crate) fn verdict(value: Value) -> Result<Verdict, String> {
    if let Some(p_first) = value.as_f64() {
        return check(Verdict { p_first, votes: Vec::new(), consistent: true });
    }
    let Form { p_first, votes, consistent } = serde_json::from_value(value).map_err(|it| it.to_string())?;
    let derived = (!votes.is_empty()).then(|| Verdict::from_votes(votes.clone()));
    let derived = derived.as_ref();
    let Some(p_first) = p_first.or(derived.map(|it| it.p_first)) else {
        return Err("a verdict without `p_first` and without votes".to_owned());
    };
    let consistent = consistent.unwrap_or_else(|| derived.is_none_or(|it| it.consistent));
    check(Verdict { p_first, votes, consistent })
}

fn check(verdict: Verdict) -> Result<Verdict, String> {
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
    fn what_votes_say_may_be_left_out() {
        let votes = r#"[{"first_shown_first": true, "p_first": 0.75},
                        {"first_shown_first": false, "p_first": 0.25}]"#;
        let verdict = read(&format!(r#"{{"votes": {votes}}}"#)).unwrap();
        assert_eq!((verdict.p_first, verdict.consistent, verdict.votes.len()), (0.5, false, 2));
        let said = read(&format!(r#"{{"votes": {votes}, "p_first": 0.9, "consistent": true}}"#)).unwrap();
        assert_eq!((said.p_first, said.consistent), (0.9, true));
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
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.contains(says), "{text}: {refused}");
        }
    }
}
