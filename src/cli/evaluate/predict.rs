//! Predictions of a model, as JSON lines that LLaVA-Hound's scripts read.

use std::collections::HashMap;
use std::fs::create_dir_all;
use std::path::{Path, PathBuf};

use anyhow::Result;
use futures::{StreamExt, stream};
use isr_api::{ComponentError, Error, Fingerprint, FingerprintBuilder};
use isr_dpo::store::{Journal, read_json, read_readable, write_atomic, write_json};
use isr_dpo::{CancellationToken, EvaluatedModelConfig, GenerationConfig, QuestionSetConfig};
use isr_questions::{
    Outcome, Prediction, PredictionRow, Predictions, Question, Questions, video_chatgpt_row,
};
use isr_run::unless_cancelled;
use serde_json::{Value, json};

use super::asked::Asked;
use super::inputs::find_video;
use crate::cli::model::checkpoint_of;
use crate::cli::session::Session;

/// Asks one model. It is loaded when the first question is open.
pub(super) struct Predictor<'c> {
    model: &'c EvaluatedModelConfig,
    generation: &'c GenerationConfig,
    asked: Option<Asked>,
}

impl<'c> Predictor<'c> {
    pub(super) fn new(model: &'c EvaluatedModelConfig, generation: &'c GenerationConfig) -> Self {
        Self { model, generation, asked: None }
    }

    /// Asks the questions that have no answer in `dir/predictions.jsonl`. Those that could not be asked before are tried
    /// again.
    pub(super) fn predict(
        &mut self,
        set: &QuestionSetConfig,
        questions: &Questions,
        dir: &Path,
        session: &Session,
        cancel: &CancellationToken,
    ) -> Result<Predictions> {
        create_dir_all(dir).map_err(|error| Error::io("create", dir, error))?;
        self.check_identity(dir)?;
        let path = dir.join("predictions.jsonl");
        let mut answered = answered(&path, questions)?;
        let folder =
            set.videos.clone().or_else(|| set.questions.parent().map(Path::to_owned)).unwrap_or_default();
        let open: Vec<(&Question, Result<PathBuf, String>)> = questions
            .questions
            .iter()
            .filter(|question| !answered.contains_key(question.id.as_str()))
            .map(|question| (question, find_video(&folder, &question.video)))
            .collect();
        if open.iter().any(|(_, video)| video.is_ok()) && self.asked.is_none() {
            session.progress.line(format_args!("loading {}", self.model.name));
            self.asked = Some(self.open()?);
        }
        let stage = session.progress.stage(format!("{} on {}: answer", self.model.name, set.name));
        let (mut journal, _) = Journal::<PredictionRow>::open(&path)?;
        let outcome = session.block_on(async {
            let mut done = questions.questions.len() - open.len();
            stage.at(done, questions.questions.len());
            let tasks = open.into_iter().map(|(question, video)| self.ask(question, video));
            let mut rows = stream::iter(tasks).buffered(self.generation.concurrency);
            while let Some(row) = unless_cancelled(cancel, rows.next()).await? {
                let row = row?;
                journal.append(&row)?;
                answered.insert(row.id.clone(), row);
                done += 1;
                stage.at(done, questions.questions.len());
            }
            journal.sync()
        });
        if outcome.is_err() {
            // To drop a model is to wait for the operation that it is at.
            std::mem::forget(self.asked.take());
        }
        outcome?;
        stage.finish();
        write_all(dir, questions, &answered)?;
        Ok(predictions(questions, &answered))
    }

    fn open(&self) -> Result<Asked> {
        match (&self.model.model, &self.model.server) {
            (Some(path), _) => Asked::load(path, self.generation),
            (None, Some(server)) => Asked::serve(server, self.generation),
            (None, None) => Err(Error::Config(format!("{}: no model", self.model.name)).into()),
        }
    }

    async fn ask(
        &self,
        question: &Question,
        video: Result<PathBuf, String>,
    ) -> Result<PredictionRow, Error> {
        let most = self.generation.max_new_tokens;
        let (video, answer) = match (video, &self.asked) {
            (Ok(video), Some(asked)) => {
                let answer = asked.answer(&video, &question.prompt()).await;
                (video, answer)
            }
            (Err(reason), _) => (PathBuf::from(&question.video), Err(ComponentError::bad_input(reason))),
            (Ok(video), None) => (video, Err(ComponentError::failed("the model is not loaded"))),
        };
        let answer = match answer {
            Ok(text) => Ok(text),
            Err(ComponentError::BadInput(cause)) => Err(cause.to_string()),
            Err(ComponentError::Cancelled) => return Err(Error::Cancelled),
            Err(source) => {
                let stage = format!("{}, answer", self.model.name);
                return Err(Error::Component { stage, subject: question.id.clone(), source });
            }
        };
        Ok(PredictionRow::of(question, &video, most, answer))
    }

    /// Refuses to go on with the answers of another model.
    fn check_identity(&self, dir: &Path) -> Result<()> {
        let GenerationConfig { max_new_tokens, frames, system, precision, .. } = self.generation;
        let model = match (&self.model.model, &self.model.server) {
            (Some(path), _) => json!(folder_digest(&checkpoint_of(path))?),
            (None, server) => {
                json!(server.as_ref().map(|server| (&server.model, server.temperature, &server.extra)))
            }
        };
        let now = json!({
            "model": model, "max_new_tokens": max_new_tokens, "frames": frames, "system": system,
            "precision": precision,
        });
        let path = dir.join("asked.json");
        let Some(then) = read_json::<Value>(&path)? else { return Ok(write_json(&path, &now)?) };
        let differs = |key: &&String| then.get(key.as_str()) != now.get(key.as_str());
        match now.as_object().and_then(|now| now.keys().find(differs)) {
            Some(key) => {
                let difference = format!("{key} is not what answered there");
                Err(Error::OtherRun { path: dir.to_owned(), difference }.into())
            }
            None => Ok(()),
        }
    }
}

/// Answers of earlier sessions to these questions; the file is left with them alone.
fn answered(path: &Path, questions: &Questions) -> Result<HashMap<String, PredictionRow>> {
    let rows: Vec<PredictionRow> = read_readable(path);
    let asked: HashMap<&str, &Question> =
        questions.questions.iter().map(|question| (question.id.as_str(), question)).collect();
    let same = |row: &PredictionRow| {
        let success = row.model_prediction.status == Outcome::Success;
        success && asked.get(row.id.as_str()).is_some_and(|question| question.question == row.query)
    };
    let kept: Vec<PredictionRow> = rows.into_iter().filter(same).collect();
    if path.exists() {
        write_atomic(path, lines(&kept)?.as_bytes())?;
    }
    Ok(kept.into_iter().map(|row| (row.id.clone(), row)).collect())
}

/// Writes the predictions in the questions' order, and beside them those that Video-ChatGPT's scripts read.
fn write_all(dir: &Path, questions: &Questions, answered: &HashMap<String, PredictionRow>) -> Result<()> {
    let of = |question: &Question| answered.get(&question.id).cloned();
    let rows: Vec<PredictionRow> = questions.questions.iter().filter_map(of).collect();
    write_atomic(&dir.join("predictions.jsonl"), lines(&rows)?.as_bytes())?;
    let theirs: Vec<Value> = questions
        .questions
        .iter()
        .filter_map(|question| Some((question, &answered.get(&question.id)?.model_prediction)))
        .filter(|(_, made)| made.status == Outcome::Success)
        .map(|(question, made)| video_chatgpt_row(question, &made.message))
        .collect();
    Ok(write_json(&dir.join("predictions.video-chatgpt.json"), &theirs)?)
}

fn lines(rows: &[PredictionRow]) -> Result<String> {
    let line = |row| Ok(serde_json::to_string(row)? + "\n");
    rows.iter().map(line).collect()
}

/// The predictions, each with the line of its question.
fn predictions(questions: &Questions, answered: &HashMap<String, PredictionRow>) -> Predictions {
    let of = |question: &Question| {
        let made = &answered.get(&question.id)?.model_prediction;
        let text = match made.status {
            Outcome::Success => Ok(made.message.clone()),
            Outcome::Error => Err(made.message.clone()),
        };
        Some(Prediction { id: question.id.clone(), query: None, text, line: question.line })
    };
    Predictions { predictions: questions.questions.iter().filter_map(of).collect(), rejected: Vec::new() }
}

/// Digest of a checkpoint's files: their names, sizes, and first and last bytes. A name of the hub is its own.
fn folder_digest(folder: &Path) -> Result<Fingerprint> {
    use std::io::{Read, Seek, SeekFrom};
    const ENDS: u64 = 1 << 16;
    let mut digest = FingerprintBuilder::default();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(Fingerprint::of(folder.to_string_lossy().as_bytes()));
    };
    let mut paths: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    for path in paths {
        let failed = |error| Error::io("read", &path, error);
        let mut file = std::fs::File::open(&path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut ends = Vec::new();
        (&mut file).take(ENDS).read_to_end(&mut ends).map_err(failed)?;
        file.seek(SeekFrom::Start(size.saturating_sub(ENDS))).map_err(failed)?;
        file.take(ENDS).read_to_end(&mut ends).map_err(failed)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        digest.update(name.as_bytes()).update(&size.to_le_bytes()).update(&ends);
    }
    Ok(digest.finish())
}
