//! Results of models on question sets, as JSON.

use std::collections::BTreeMap;

use isr_api::Fingerprint;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::figures::{Figure, Parts, Take, Unit, accuracy, difference, figure, score};
use crate::scorer::Scorer;
use crate::scoring::Marked;

/// Whether a set is of the training data's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// In-domain: WebVid, VIDAL and ActivityNet of the paper.
    In,
    /// Out-of-domain: MSVD, MSRVTT, TGIF and SSV2 of the paper.
    Out,
}

/// Result of one model on one set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetResult {
    /// Name of the model.
    pub model: String,
    /// Name of the set.
    pub set: String,
    /// Whether the set is in-domain; null where that is not said.
    pub domain: Option<Domain>,
    /// The scorer, with its model.
    pub scorer: String,
    /// First and last day of the scorer's replies; null of a scorer that asks no model.
    pub dates: Option<[String; 2]>,
    /// Share of right predictions, by the published rule.
    pub accuracy: Option<Figure>,
    /// Mean score, by the published rule; null of a scorer without scores.
    pub score: Option<Figure>,
    /// The same over replies that state their score as asked, or predictions that are read as asked.
    pub stated: Stated,
    /// Accuracy of the parts of pairs, `basic` and `hallucination`; empty for single questions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: Parts,
    /// Number of questions that the scorer can mark.
    pub questions: usize,
    /// Of these, the ones without a prediction.
    pub missing: usize,
    /// Rows of the files without a mark; `quarantine.jsonl` has the reasons.
    pub quarantined: usize,
    /// Replies, or predictions scored by a rule, that do not say what they should as asked.
    pub unparsed: usize,
    /// Beginnings of some of these.
    pub unparsed_examples: Vec<String>,
    /// Digest of the scorer's settings, its prompts and model included.
    pub scorer_fingerprint: Fingerprint,
    /// Digest of the scorer, the days, and all marks.
    pub fingerprint: Fingerprint,
}

/// Figures over what was read as asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stated {
    /// Number of questions, or of pairs.
    pub n: usize,
    /// Share of right predictions.
    pub accuracy: Option<Figure>,
    /// Mean score.
    pub score: Option<Figure>,
}

/// Paired difference of two models on the questions of a set that both have a mark of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Name of the set.
    pub set: String,
    /// The model that is subtracted.
    pub first: String,
    /// The model that it is subtracted from.
    pub second: String,
    /// Difference of accuracy.
    pub accuracy: Option<Figure>,
    /// Difference of mean score.
    pub score: Option<Figure>,
}

/// Results of all models on all sets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Version of the format.
    pub schema: u32,
    /// One for each model and set, in the order of the config.
    pub results: Vec<SetResult>,
    /// Of each model to the first one.
    pub differences: Vec<Difference>,
    #[serde(skip)]
    units: Vec<Vec<Unit>>,
}

impl Results {
    /// No results.
    pub fn new() -> Self {
        Self { schema: 1, ..Self::default() }
    }

    /// Adds the marks of a model on a set, and its difference to the first model of that set with the same scorer.
    pub fn add(&mut self, model: &str, set: &str, domain: Option<Domain>, scorer: &Scorer, marked: Marked) {
        let units = &marked.units;
        let stated = || units.iter().filter(|unit| unit.stated);
        let fingerprint = Fingerprint::of_json(&(scorer.fingerprint(), &marked.dates, &marked.marks));
        let result = SetResult {
            model: model.to_owned(),
            set: set.to_owned(),
            domain,
            scorer: scorer.name(),
            dates: marked.dates,
            accuracy: figure(units, accuracy),
            score: figure(units, score),
            stated: Stated {
                n: stated().count(),
                accuracy: figure(stated(), accuracy),
                score: figure(stated(), score),
            },
            parts: marked.parts,
            questions: marked.questions,
            missing: marked.missing,
            quarantined: marked.quarantined.len(),
            unparsed: marked.unparsed,
            unparsed_examples: marked.examples,
            scorer_fingerprint: scorer.fingerprint(),
            fingerprint,
        };
        let of_set = |other: &SetResult| {
            other.set == result.set && other.scorer_fingerprint == result.scorer_fingerprint
        };
        if let Some(first) = self.results.iter().position(of_set) {
            let paired = |take: Take| difference(&self.units[first], &marked.units, take);
            let (accuracy, score) = (paired(accuracy), paired(score));
            let first = self.results[first].model.clone();
            let (set, second) = (set.to_owned(), model.to_owned());
            self.differences.push(Difference { set, first, second, accuracy, score });
        }
        self.results.push(result);
        self.units.push(marked.units);
    }

    /// The result of a model on a set.
    pub fn get(&self, model: &str, set: &str) -> Option<&SetResult> {
        self.results.iter().find(|result| result.model == model && result.set == set)
    }
}

impl SetResult {
    /// The line that LLaVA-Hound's scripts append to `eval_results.jsonl`: accuracy in percent and mean score with two
    /// decimals, and a name; `None` without an accuracy.
    pub fn published_line(&self) -> Option<String> {
        let accuracy = format!("{:.2}", self.accuracy.as_ref()?.value * 100.0);
        let result = match &self.score {
            Some(score) => format!("{accuracy}/{:.2}", score.value),
            None => accuracy,
        };
        Some(
            serde_json::json!({ "result": result, "name_or_path": format!("{}/{}", self.model, self.set) })
                .to_string(),
        )
    }
}
