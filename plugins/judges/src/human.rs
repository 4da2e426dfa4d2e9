//! The judge `human`.

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

use crate::agreement::averaged;

/// What becomes of a pair that nobody has annotated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// Its sample is quarantined, and the run goes on.
    #[default]
    Quarantine,
    /// The run stops. Once the pair is annotated, the same command continues it.
    Stop,
}

/// Takes the verdicts that people gave with `isr annotate`: the mean over annotators, a tie being one half.
///
/// A verdict belongs to two texts about one video and instruction, and is never applied to other answers;
/// the run directory that holds the file says which they were. The file is read when the first pair is
/// judged, so a run may name its own: with `missing = "stop"` it stops for its pairs to be annotated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HumanJudgeConfig {
    /// The file `annotations.jsonl` of a run directory, relative to the current directory. Required.
    pub annotations: PathBuf,
    /// Whose choices count. Default none: everybody's.
    #[serde(default)]
    pub annotator: Option<String>,
    /// What becomes of a pair that nobody has annotated: `quarantine` or `stop`. Default `quarantine`.
    #[serde(default)]
    pub missing: Missing,
}

impl Component for HumanJudgeConfig {
    type Built = Arc<dyn Judge>;

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(HumanJudge { config: self.clone(), said: OnceCell::new() }))
    }
}

isr_config::register!(Judge "human" => HumanJudgeConfig, example = "\
annotations = \"runs/first/annotations.jsonl\"
missing = \"stop\"
");

/// Video, instruction and both texts.
type Pair = [String; 4];

struct HumanJudge {
    config: HumanJudgeConfig,
    /// What was said of each pair, in the run's order of its answers.
    said: OnceCell<HashMap<Pair, Vec<Vote>>>,
}

#[async_trait]
impl Judge for HumanJudge {
    async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let said = self.said.get_or_try_init(|| async { said(&self.config) }).await;
        let said = said.map_err(ComponentError::failed)?;
        let pair = |a: &str, b: &str| -> Pair {
            [case.scene.key(), case.instruction.clone(), a.to_owned(), b.to_owned()]
        };
        let (first, second) = (case.first.text.as_str(), case.second.text.as_str());
        if let Some(votes) = said.get(&pair(first, second)) {
            return Ok(averaged(votes.clone()));
        }
        if let Some(votes) = said.get(&pair(second, first)) {
            return Ok(averaged(votes.clone()).mirrored());
        }
        let text = self.nothing(case);
        Err(match self.config.missing {
            Missing::Quarantine => ComponentError::bad_input(text),
            Missing::Stop => ComponentError::failed(text),
        })
    }
}

impl HumanJudge {
    fn nothing(&self, case: &JudgeCase) -> String {
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

/// The votes on each pair of a run.
fn said(config: &HumanJudgeConfig) -> Result<HashMap<Pair, Vec<Vote>>, Error> {
    let lines: Vec<Annotation> = read_journal(&config.annotations)?;
    let counts = |line: &Annotation| config.annotator.as_ref().is_none_or(|name| *name == line.annotator);
    let mut pairs: HashMap<u32, HashMap<String, Comparison>> = HashMap::new();
    let mut said: HashMap<Pair, Vec<Vote>> = HashMap::new();
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
            said.entry([case.video.clone(), case.instruction.clone(), first, second])
                .or_default()
                .push(vote);
        }
    }
    Ok(said)
}
