//! Extraction of a verdict or score from a reply by regular expression.

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::JudgeError;

/// Selection among several matches in a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Take {
    /// The first match.
    First,
    /// The last match, for replies that reason first.
    Last,
}

/// A compiled regular expression, with the match that counts.
#[derive(Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    take: Take,
}

impl Pattern {
    pub(crate) fn new(regex: &str, take: Take) -> Result<Self, JudgeError> {
        let error = |error: regex::Error| JudgeError::Pattern {
            key: "pattern".to_owned(),
            reason: error.to_string(),
        };
        Ok(Self { regex: Regex::new(regex).map_err(error)?, take })
    }

    /// The first group of the match, trimmed, or the whole match if the pattern has no group.
    pub(crate) fn find<'r>(&self, reply: &'r str) -> Option<&'r str> {
        let mut matches = self.regex.captures_iter(reply);
        let found = match self.take {
            Take::First => matches.next(),
            Take::Last => matches.last(),
        }?;
        found.get(1).or_else(|| found.get(0)).map(|text| text.as_str().trim())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

    use super::*;

    #[test]
    fn the_first_group_counts_or_else_the_match() {
        let grouped = Pattern::new(r"score: (\d)", Take::First).unwrap();
        assert_eq!(grouped.find("score: 4, or score: 5"), Some("4"));
        assert_eq!(grouped.find("4"), None);
        let last = Pattern::new(r"\d", Take::Last).unwrap();
        assert_eq!(last.find("1 of 5"), Some("5"));
        let error = Pattern::new("(", Take::First).unwrap_err().to_string();
        assert!(error.starts_with("pattern: "), "{error}");
    }
}
