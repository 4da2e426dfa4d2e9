//! Rules over a single answer: conditions and points.

use isr_run::words::{is_unspaced, words};
use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds;
use crate::error::JudgeError;

/// A rule: an answer that meets all of its conditions, at least one, gets its points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Points for an answer that meets the conditions; negative for a fault. Default 1.
    #[serde(default = "one")]
    pub points: f64,
    /// Condition: the answer contains a match of this regular expression (Rust `regex` syntax, Unicode).
    /// Default none.
    #[serde(default)]
    pub regex: Option<String>,
    /// Condition: the answer contains one of these words or phrases, as whole words, in any case. Default
    /// none.
    #[serde(default)]
    pub keywords: Vec<String>,
    /// Condition: the answer has at least this many words. Default none.
    #[serde(default)]
    pub min_words: Option<usize>,
    /// Condition: the answer has at most this many words. Default none.
    #[serde(default)]
    pub max_words: Option<usize>,
}

fn one() -> f64 {
    1.0
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        bounds::finite("points", self.points)?;
        if self.keywords.iter().any(|word| word.trim().is_empty()) {
            return Err("keywords has an empty word, which is in every answer".to_owned());
        }
        if let (Some(least), Some(most)) = (self.min_words, self.max_words)
            && least > most
        {
            return Err(format!("min_words is {least} and max_words {most}; no answer has both"));
        }
        let conditions = [self.regex.is_some(), !self.keywords.is_empty(), self.min_words.is_some()];
        if !conditions.contains(&true) && self.max_words.is_none() {
            return Err(
                "a rule without conditions; give regex, keywords, min_words or max_words".to_owned()
            );
        }
        Ok(())
    }

    fn patterns(&self) -> Result<Vec<Regex>, String> {
        let words: Vec<_> = self.keywords.iter().map(|word| whole_word(word.trim())).collect();
        let words = words.join("|");
        let words = (!self.keywords.is_empty()).then_some((words, true));
        let own = self.regex.clone().map(|pattern| (pattern, false));
        let compiled = own
            .into_iter()
            .chain(words)
            .map(|(pattern, any_case)| RegexBuilder::new(&pattern).case_insensitive(any_case).build());
        compiled.collect::<Result<_, _>>().map_err(|error| format!("regex: {error}"))
    }
}

/// Pattern of a word or phrase between word boundaries; without one beside a letter of a script that writes no spaces.
fn whole_word(word: &str) -> String {
    let boundary = |edge: Option<char>, boundary| if edge.is_some_and(is_unspaced) { "" } else { boundary };
    let start = boundary(word.chars().next(), r"\b{start-half}");
    let end = boundary(word.chars().next_back(), r"\b{end-half}");
    format!("{start}{}{end}", regex::escape(word))
}

/// Validated rules with their compiled patterns.
#[derive(Debug)]
pub(crate) struct Rules {
    rules: Vec<(Rule, Vec<Regex>)>,
}

impl Rules {
    /// Validates rules and compiles their patterns.
    pub(crate) fn new(rules: &[Rule]) -> Result<Self, JudgeError> {
        let compile = |(index, rule): (usize, &Rule)| {
            let patterns = rule.check().and_then(|()| rule.patterns());
            let at = |reason| JudgeError::Pattern { key: format!("rules[{index}]"), reason };
            patterns.map(|patterns| (rule.clone(), patterns)).map_err(at)
        };
        if rules.is_empty() {
            let reason = "empty; name at least one rule".to_owned();
            return Err(JudgeError::Pattern { key: "rules".to_owned(), reason });
        }
        Ok(Self { rules: rules.iter().enumerate().map(compile).collect::<Result<_, _>>()? })
    }

    /// Sum of the points of all rules that an answer meets.
    pub(crate) fn points(&self, answer: &str) -> f64 {
        let length = words(answer).count();
        let meets = |(rule, patterns): &&(Rule, Vec<Regex>)| {
            rule.min_words.is_none_or(|least| length >= least)
                && rule.max_words.is_none_or(|most| length <= most)
                && patterns.iter().all(|pattern| pattern.is_match(answer))
        };
        self.rules.iter().filter(meets).map(|(rule, _)| rule.points).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

    use super::*;

    fn rules(text: &str) -> Result<Rules, String> {
        #[derive(Deserialize)]
        struct Section {
            rules: Vec<Rule>,
        }
        let section: Section = toml::from_str(text).map_err(|error| error.to_string())?;
        Rules::new(&section.rules).map_err(|error| error.to_string())
    }

    #[test]
    fn all_conditions_of_a_rule_must_hold() {
        let rules = rules("rules = [{ keywords = ['red bar'], max_words = 4, points = 2.5 }]").unwrap();
        assert_eq!(rules.points("A Red Bar moves."), 2.5);
        assert_eq!(rules.points("a red bar moves on and on"), 0.0);
        assert_eq!(rules.points("a blue bar moves"), 0.0);
    }

    #[test]
    fn keywords_are_whole_words_and_literal() {
        let rules = rules("rules = [{ keywords = ['cat', 'c++', 'a.b'] }]").unwrap();
        assert_eq!(rules.points("concatenate"), 0.0);
        assert_eq!(rules.points("axb"), 0.0);
        assert_eq!(rules.points("written in C++."), 1.0);
        assert_eq!(rules.points("(cat)"), 1.0);
    }

    #[test]
    fn keywords_and_lengths_work_without_spaces() {
        let rules =
            rules("rules = [{ keywords = ['红色', 'RGB'] }, { max_words = 6, points = 10.0 }]").unwrap();
        // 一 个 红 色 的 球 在 动: eight words.
        assert_eq!(rules.points("一个红色的球在动。"), 1.0);
        assert_eq!(rules.points("球是RGB的"), 10.0);
        assert_eq!(rules.points("球"), 10.0);
    }

    #[test]
    fn points_of_several_rules_add_up() {
        let text = "rules = [{ regex = '^I think', points = -1 }, { min_words = 2, points = 0.5 }]";
        let rules = rules(text).unwrap();
        assert_eq!(rules.points("I think so."), -0.5);
        assert_eq!(rules.points("i think so."), 0.5);
        assert_eq!(rules.points("so."), 0.0);
    }

    #[test]
    fn rules_that_cannot_work_are_refused_by_place() {
        assert!(rules("rules = []").unwrap_err().starts_with("rules: empty"));
        assert!(rules("rules = [{ points = 1.0 }]").unwrap_err().starts_with("rules[0]: a rule without"));
        assert!(rules("rules = [{ regex = '(' }]").unwrap_err().starts_with("rules[0]: regex:"));
        assert!(rules("rules = [{ keywords = [' '] }]").unwrap_err().contains("empty word"));
        let window = rules("rules = [{ min_words = 5, max_words = 4 }]").unwrap_err();
        assert_eq!(window, "rules[0]: min_words is 5 and max_words 4; no answer has both");
        assert!(rules("rules = [{ regexp = 'a' }]").unwrap_err().contains("regexp"));
        assert!(rules("rules = [{ min_words = 1, points = inf }]").unwrap_err().contains("points is inf"));
    }
}
