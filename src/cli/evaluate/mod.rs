//! `isr evaluate`.

mod asked;
mod inputs;
mod predict;

use std::fs::create_dir_all;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use isr_api::Error;
use isr_chat::ChatClient;
use isr_config::{LoadedConfig, Loader};
use isr_dpo::CancellationToken;
use isr_dpo::store::{lock_dir, write_atomic, write_json};
use isr_dpo::{EvaluateConfig, EvaluatedModelConfig, QuestionSetConfig};
use isr_questions::{
    Predictions, Questions, QuestionsError, Results, Scorer, ScoringError, TableForm, check_questions,
    mark_set, table,
};
use serde_json::{Value, json};

use self::inputs::{name_of, read_predictions, read_questions};
use self::predict::Predictor;
use super::failure::Unusable;
use super::output::{print, print_line};
use super::processes::require_single;
use super::session::Session;

/// Measure models on question sets, and write the table
///
/// Asks models the questions of MSVD-QA, MSRVTT-QA, TGIF-QA, SSV2, ActivityNet, VIDAL and WebVid in LLaVA-Hound's
/// files, or of others, or takes predictions that were made elsewhere; scores the answers as published; writes
/// accuracy and mean score with 95% intervals, and paired differences to the first model.
///
/// What is to be evaluated stands in CONFIG, or in the options. What was answered and scored before is not done again.
#[derive(Args)]
pub(super) struct EvaluateArgs {
    /// A config of sets, models and scorer
    #[arg(conflicts_with_all = ["model", "predictions", "questions", "videos", "scorer"])]
    config: Option<PathBuf>,
    /// Change a setting: `-s scoring.server.model=gpt-3.5-turbo-1106`; may be given again
    #[arg(short, long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A question file; may be given again
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    questions: Vec<PathBuf>,
    /// The folder that the videos are in [default: the folder of the question file]
    #[arg(long, value_name = "DIR")]
    videos: Option<PathBuf>,
    /// A model: a checkpoint, an adapter, or a run directory; may be given again
    #[arg(long, value_name = "DIR")]
    model: Vec<PathBuf>,
    /// A file of predictions, where `{set}` stands for a question file's name up to its first dot; may be given again
    #[arg(long, value_name = "FILE")]
    predictions: Vec<PathBuf>,
    /// `score_1_5`, `yes_no_0_5`, `exact`, `options` or `yes_no_pairs`; the first two need `-s
    /// scoring.server.base_url=URL -s scoring.server.model=NAME`
    #[arg(long, value_name = "NAME", required_unless_present = "config")]
    scorer: Option<String>,
    /// Where predictions, marks and tables go
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Print the results as one JSON object, not as a table
    #[arg(long)]
    json: bool,
}

/// A set with its questions and its scorer.
struct Set<'c> {
    config: &'c QuestionSetConfig,
    questions: Questions,
    scorer: Scorer,
}

impl EvaluateArgs {
    pub(super) fn execute(&self, session: &Session) -> Result<()> {
        require_single("isr evaluate")?;
        let config = self.load()?.value;
        create_dir_all(&self.out).map_err(|error| Error::io("create", &self.out, error))?;
        let _lock = lock_dir(&self.out)?;
        // All files and scorers before the first model is loaded.
        let client = config.scoring.client().map_err(|error| Error::Config(error.to_string()))?;
        let open = |set| Set::open(set, &config, client.clone());
        let sets = config.sets.iter().map(open).collect::<Result<Vec<_>>>()?;
        for model in &config.models {
            if let Some(path) = &model.predictions {
                sets.iter().try_for_each(|set| read_predictions(path, &set.config.name).map(drop))?;
            }
        }
        let cancel = session.cancelled_by_signals();
        let mut results = Results::new();
        for model in &config.models {
            self.evaluate(model, &sets, &config, session, &cancel, &mut results)?;
        }
        self.write(&results)?;
        match self.json {
            true => print_line(serde_json::to_string(&results)?),
            false => print(table(&results, TableForm::Markdown)),
        }
    }

    /// The config file, or what the options say as one.
    fn load(&self) -> Result<LoadedConfig<EvaluateConfig>> {
        let loader = match &self.config {
            Some(file) => Loader::new().file(file),
            None => Loader::new().text("the options", toml::to_string(&self.as_config())?, "."),
        };
        Ok(loader.environment().overrides(&self.set).load()?)
    }

    fn as_config(&self) -> Value {
        let set = |path: &PathBuf| {
            let mut set = json!({ "name": name_of(path), "questions": path });
            if let Some(videos) = &self.videos {
                set["videos"] = json!(videos);
            }
            set
        };
        let models = self.model.iter().map(|path| json!({ "name": name_of(path), "model": path }));
        let made =
            self.predictions.iter().map(|path| json!({ "name": name_of(path), "predictions": path }));
        json!({
            "sets": self.questions.iter().map(set).collect::<Vec<_>>(),
            "models": models.chain(made).collect::<Vec<_>>(),
            "scoring": { "scorer": self.scorer },
        })
    }

    fn evaluate(
        &self,
        model: &EvaluatedModelConfig,
        sets: &[Set<'_>],
        config: &EvaluateConfig,
        session: &Session,
        cancel: &CancellationToken,
        results: &mut Results,
    ) -> Result<()> {
        let mut predictor = Predictor::new(model, &config.generation);
        for set in sets {
            let dir = self.out.join(&model.name).join(&set.config.name);
            let predictions = match &model.predictions {
                Some(path) => read_predictions(path, &set.config.name)?,
                None => predictor.predict(set.config, &set.questions, &dir, session, cancel)?,
            };
            let marked = set.mark(&model.name, &predictions, &dir, session, cancel)?;
            results.add(&model.name, &set.config.name, set.config.domain, &set.scorer, marked);
        }
        Ok(())
    }

    /// Writes `results.json`, `table.md`, `table.tex`, and `eval_results.jsonl` as LLaVA-Hound's scripts do.
    fn write(&self, results: &Results) -> Result<()> {
        write_json(&self.out.join("results.json"), results)?;
        for (name, form) in [("table.md", TableForm::Markdown), ("table.tex", TableForm::Latex)] {
            write_atomic(&self.out.join(name), table(results, form).as_bytes())?;
        }
        let lines = results.results.iter().filter_map(|result| result.published_line());
        let lines: String = lines.map(|line| line + "\n").collect();
        Ok(write_atomic(&self.out.join("eval_results.jsonl"), lines.as_bytes())?)
    }
}

impl<'c> Set<'c> {
    fn open(
        set: &'c QuestionSetConfig,
        config: &EvaluateConfig,
        client: Option<Arc<ChatClient>>,
    ) -> Result<Self> {
        let questions = read_questions(&set.questions, set.layout)?;
        let unusable = |error: QuestionsError| unusable(&set.questions, &error);
        let scorer = Scorer::with_client(&set.scoring(&config.scoring), client);
        let scorer = scorer.map_err(|error| Error::Config(error.to_string()))?;
        check_questions(&questions, &scorer).map_err(unusable)?;
        Ok(Self { config: set, questions, scorer })
    }

    fn mark(
        &self,
        model: &str,
        predictions: &Predictions,
        dir: &Path,
        session: &Session,
        cancel: &CancellationToken,
    ) -> Result<isr_questions::Marked> {
        let stage = session.progress.stage(format!("{model} on {}: score", self.config.name));
        let marking = mark_set(&self.questions, predictions, &self.scorer, dir, cancel, |done, total| {
            stage.at(done, total);
        });
        let marked = session.block_on(marking).map_err(|error| match error {
            ScoringError::Store(error) => error.into(),
            error => anyhow::anyhow!("{model} on {}: {error}", self.config.name),
        })?;
        stage.finish();
        if marked.unparsed > 0 {
            let example = marked.examples.first().map_or("", String::as_str);
            tracing::warn!(
                "{model} on {}: {} unparsed, such as `{example}`",
                self.config.name,
                marked.unparsed
            );
        }
        if let Some(first) = marked.quarantined.first() {
            let (count, row) = (marked.quarantined.len(), &first.row);
            let path = dir.join("quarantine.jsonl");
            tracing::warn!(
                "{count} rows in {}, the first on line {}: {}",
                path.display(),
                row.line,
                row.reason
            );
        }
        Ok(marked)
    }
}

/// An error of a file that the user names.
fn unusable(path: &Path, error: &dyn std::fmt::Display) -> anyhow::Error {
    Unusable { message: format!("{}: {error}", path.display()), hint: None }.into()
}
