//! The judge `human`: verdicts from the annotations of a run.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::records::Annotation;
use isr_api::{
    BuildContext, Cause, Component, ComponentError, Error, FrozenPolicy, Judge, JudgeCase, Verdict, Vote,
};
use isr_run::store::{Comparison, comparisons, read_journal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

/// Treatment of a pair without annotation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// Quarantine the sample and continue.
    #[default]
    Quarantine,
    /// Stop the run. Once the pair is annotated, the same command continues it.
    Stop,
}

/// Human verdicts collected with `isr annotate`: the mean over annotators, a tie counting one half.
///
/// A verdict applies only to the video, instruction and two texts that were annotated, as recorded in the run
/// directory of the file. The file is read when the first pair is judged, so a run may name its own: with
/// `missing = "stop"` it stops until its pairs are annotated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HumanJudgeConfig {
    /// File `annotations.jsonl` of a run directory, relative to the current directory. Required.
    pub annotations: PathBuf,
    /// Name of the annotator whose choices count. Default none: all annotators.
    #[serde(default)]
    pub annotator: Option<String>,
    /// Treatment of a pair without annotation: `quarantine` its sample, or `stop` the run. Default
    /// `quarantine`.
    #[serde(default)]
    pub missing: Missing,
}

impl Component for HumanJudgeConfig {
    type Built = Arc<dyn Judge>;

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(HumanJudge { config: self.clone(), votes: OnceCell::new() }))
    }
}

isr_config::register!(Judge "human" => HumanJudgeConfig, example = "\
annotations = \"runs/first/annotations.jsonl\"
missing = \"stop\"
");

/// Key of an annotated pair: video, instruction, text of the first and of the second answer.
type Pair = [String; 4];

struct HumanJudge {
    config: HumanJudgeConfig,
    /// Votes on each pair, with the answers in the order of the run.
    votes: OnceCell<HashMap<Pair, Vec<Vote>>>,
}

#[async_trait]
impl Judge for HumanJudge {
    async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let by_pair = self.votes.get_or_try_init(|| async { read_votes(&self.config) }).await;
        let by_pair = by_pair.map_err(ComponentError::failed)?;
        let pair = |a: &str, b: &str| -> Pair {
            [case.scene.key(), case.instruction.clone(), a.to_owned(), b.to_owned()]
        };
        let (first, second) = (case.first.text.as_str(), case.second.text.as_str());
        if let Some(votes) = by_pair.get(&pair(first, second)) {
            return Ok(Verdict::from_votes(votes.clone()));
        }
        if let Some(votes) = by_pair.get(&pair(second, first)) {
            return Ok(Verdict::from_votes(votes.clone()).mirrored());
        }
        let text = self.missing_annotation(case);
        Err(match self.config.missing {
            Missing::Quarantine => ComponentError::bad_input(text),
            Missing::Stop => ComponentError::failed(text),
        })
    }
}

impl HumanJudge {
    fn missing_annotation(&self, case: &JudgeCase) -> String {
        let path = &self.config.annotations;
        let run = folder(path).display().to_string();
        let who = self.config.annotator.as_deref().map_or_else(String::new, |name| format!(" of {name}"));
        format!(
            "{} has no choice{who} between these two answers about {}; annotate them with `isr annotate {run}`",
            path.display(),
            case.scene.key()
        )
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Reads the votes on each pair of a run.
fn read_votes(config: &HumanJudgeConfig) -> Result<HashMap<Pair, Vec<Vote>>, Error> {
    let lines: Vec<Annotation> = read_journal(&config.annotations)?;
    let counts = |line: &Annotation| config.annotator.as_ref().is_none_or(|name| *name == line.annotator);
    let mut pairs: HashMap<u32, HashMap<String, Comparison>> = HashMap::new();
    let mut votes: HashMap<Pair, Vec<Vote>> = HashMap::new();
    for line in lines.into_iter().filter(counts) {
        let cases = match pairs.entry(line.iteration) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                let cases = comparisons(folder(&config.annotations), line.iteration)?;
                free.insert(cases.into_iter().map(|case| (case.sample.clone(), case)).collect())
            }
        };
        if let Some(case) = cases.get(line.sample.as_str()) {
            let [first, second] = case.answers.clone();
            let vote = Vote { first_shown_first: line.first_shown_first, p_first: line.choice.p_first() };
            votes
                .entry([case.video.clone(), case.instruction.clone(), first, second])
                .or_default()
                .push(vote);
        }
    }
    Ok(votes)
}
