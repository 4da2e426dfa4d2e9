//! Marks of one model's predictions on one question set, on disk.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use futures::StreamExt;
use isr_api::{ComponentError, Error, Fingerprint};
use isr_run::store::{Journal, write_atomic};
use isr_run::unless_cancelled;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::error::QuestionsError;
use crate::figures::Unit;
use crate::rows::{Prediction, Predictions, Question, Questions, Rejected, video_id};
use crate::scorer::{Case, Mark, Reading, Scorer, ScorerKind};

/// A mark as a JSON line: `{id, response, ...}`, so that LLaVA-Hound's scripts read the file as their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct MarkLine {
    id: String,
    /// The scorer's reply; null of a scorer that asks no model.
    response: Option<String>,
    correct: Option<bool>,
    score: Option<f64>,
    reading: Reading,
    /// Day on which the reply was received, in UTC; left out of a scorer that asks no model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    date: Option<String>,
    /// Digest of what was marked.
    case: Fingerprint,
}

/// A row that has no mark, with the file that it is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// `questions`, `predictions`, or `scoring` for a row that the scorer rejects.
    pub stage: String,
    /// Line, id and reason.
    #[serde(flatten)]
    pub row: Rejected,
}

/// Marks of a set.
#[derive(Clone, Debug)]
pub struct Marked {
    /// Number of questions that the scorer can mark.
    pub questions: usize,
    /// Of these, the ones without a prediction.
    pub missing: usize,
    /// Rows without a mark.
    pub quarantined: Vec<Quarantined>,
    /// Replies, or predictions scored by a rule, that do not say what they should as asked.
    pub unparsed: usize,
    /// Beginnings of some of these.
    pub examples: Vec<String>,
    /// First and last day of the replies; `None` of a scorer that asks no model.
    pub dates: Option<[String; 2]>,
    /// Accuracy of the parts of pairs.
    pub(crate) parts: BTreeMap<String, f64>,
    pub(crate) units: Vec<Unit>,
    /// Digest of the marks.
    pub(crate) marks: Fingerprint,
}

/// Number and length of the unparsed replies that a result shows.
const EXAMPLES: usize = 3;
const SHOWN: usize = 120;

/// Marks predictions, and keeps the marks in `dir`: a file for each scorer. What was marked before is not marked again.
///
/// # Errors
/// [`QuestionsError`] for questions that the scorer has no use for, and for a scorer without a single readable reply;
/// failures of files and of the scorer's server.
pub async fn mark_set(
    questions: &Questions,
    predictions: &Predictions,
    scorer: &Scorer,
    dir: &Path,
    cancel: &CancellationToken,
    done: impl Fn(usize, usize),
) -> Result<Marked, ScoringError> {
    let matched = Matched::of(questions, predictions, scorer)?;
    let path = marks_file(dir, scorer);
    std::fs::create_dir_all(dir).map_err(|source| Error::io("create", dir, source))?;
    let (mut journal, earlier) = Journal::<MarkLine>::open(&path)?;
    let mut lines: HashMap<String, MarkLine> =
        earlier.into_iter().map(|line| (line.id.clone(), line)).collect();
    let mut quarantined = matched.quarantined;
    let total = matched.pairs.len();
    let open: Vec<_> = matched.pairs.iter().filter(|pair| !pair.is_marked(&lines)).collect();
    let mut finished = total - open.len();
    done(finished, total);
    let tasks = open.into_iter().map(|pair| async move { (pair, pair.mark(scorer).await) });
    let mut outcomes = futures::stream::iter(tasks).buffered(scorer.concurrency());
    while let Some((pair, outcome)) = unless_cancelled(cancel, outcomes.next()).await? {
        match outcome {
            Ok(mark) => {
                let line = pair.line(mark);
                journal.append(&line)?;
                lines.insert(line.id.clone(), line);
            }
            Err(ComponentError::BadInput(cause)) => {
                quarantined.push(pair.rejected("scoring", pair.question.line, cause.to_string()));
            }
            Err(source) => return Err(failed(scorer, pair, source).into()),
        }
        finished += 1;
        done(finished, total);
    }
    journal.sync()?;
    drop(outcomes);
    // In the order of the questions, without what was marked of earlier predictions.
    let marked: Vec<(&Pairing<'_>, MarkLine)> = matched
        .pairs
        .iter()
        .filter_map(|pair| {
            let line = lines.remove(&pair.question.id).filter(|line| line.case == pair.case)?;
            Some((pair, line))
        })
        .collect();
    write_lines(&path, marked.iter().map(|(_, line)| line))?;
    write_lines(&dir.join("quarantine.jsonl"), quarantined.iter())?;
    let unparsed: Vec<&(&Pairing<'_>, MarkLine)> =
        marked.iter().filter(|(_, line)| line.reading != Reading::Stated).collect();
    let unread = marked.iter().filter(|(_, line)| line.reading == Reading::Nothing).count();
    if let Some((_, first)) = unparsed.first().filter(|_| scorer.asks() && unread == marked.len()) {
        let (scorer, replies) = (scorer.name(), marked.len());
        let first = beginning(first.response.as_deref().unwrap_or_default());
        return Err(QuestionsError::Nonsense { scorer, replies, first, path }.into());
    }
    let examples = unparsed
        .iter()
        .take(EXAMPLES)
        .map(|(pair, line)| beginning(line.response.as_deref().unwrap_or(pair.prediction)));
    let mut days: Vec<&String> = marked.iter().filter_map(|(_, line)| line.date.as_ref()).collect();
    days.sort();
    let dates = days.first().zip(days.last()).map(|(first, last)| [(*first).clone(), (*last).clone()]);
    let (units, parts) = units(&marked, scorer.kind());
    Ok(Marked {
        questions: matched.questions,
        missing: matched.questions - total,
        quarantined,
        unparsed: unparsed.len(),
        examples: examples.collect(),
        dates,
        parts,
        units,
        marks: Fingerprint::of_json(&marked.iter().map(|(_, line)| line).collect::<Vec<_>>()),
    })
}

/// The file of a scorer's marks: `score_1_5-0a1b2c3d.jsonl`.
pub fn marks_file(dir: &Path, scorer: &Scorer) -> PathBuf {
    let digest = scorer.fingerprint();
    dir.join(format!("{}-{}.jsonl", scorer.kind(), &digest.as_str()[..8]))
}

/// Errors of marking a set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScoringError {
    /// Of the questions, the predictions or the scorer.
    #[error(transparent)]
    Questions(#[from] QuestionsError),
    /// Of a file, or of the scorer's server; also cancellation.
    #[error(transparent)]
    Store(#[from] Error),
}

/// A question with its prediction.
struct Pairing<'q> {
    question: &'q Question,
    prediction: &'q str,
    case: Fingerprint,
}

impl<'q> Pairing<'q> {
    fn of(question: &'q Question, prediction: &'q str) -> Self {
        let Question { caption, question: asked, answer, options, .. } = question;
        let case = Fingerprint::of_json(&(caption, asked, answer, options, prediction));
        Self { question, prediction, case }
    }

    fn is_marked(&self, lines: &HashMap<String, MarkLine>) -> bool {
        lines.get(&self.question.id).is_some_and(|line| line.case == self.case)
    }

    async fn mark(&self, scorer: &Scorer) -> Result<Mark, ComponentError> {
        let Question { caption, question, answer, options, .. } = self.question;
        let (caption, prediction) = (caption.as_deref(), self.prediction);
        scorer.mark(&Case { caption, question, answer, prediction, options }).await
    }

    fn line(&self, mark: Mark) -> MarkLine {
        let Mark { correct, score, reading, reply } = mark;
        let (id, case) = (self.question.id.clone(), self.case.clone());
        // The day of `2026-11-26T09:00:00Z`.
        let date = reply.as_ref().map(|_| isr_run::utc_now().chars().take(10).collect());
        MarkLine { id, response: reply, correct, score, reading, date, case }
    }

    fn rejected(&self, stage: &str, line: usize, reason: String) -> Quarantined {
        let row = Rejected { line, id: Some(self.question.id.clone()), reason };
        Quarantined { stage: stage.to_owned(), row }
    }
}

/// Questions with their predictions, and what has none.
struct Matched<'q> {
    questions: usize,
    pairs: Vec<Pairing<'q>>,
    quarantined: Vec<Quarantined>,
}

impl<'q> Matched<'q> {
    fn of(
        questions: &'q Questions,
        predictions: &'q Predictions,
        scorer: &Scorer,
    ) -> Result<Self, QuestionsError> {
        check_questions(questions, scorer)?;
        let at = |stage: &str, row: Rejected| Quarantined { stage: stage.to_owned(), row };
        let mut quarantined: Vec<Quarantined> =
            questions.rejected.iter().map(|row| at("questions", row.clone())).collect();
        let mut usable: HashMap<&str, &Question> = HashMap::new();
        for question in &questions.questions {
            match scorer.check(question) {
                Ok(()) => drop(usable.insert(&question.id, question)),
                Err(reason) => quarantined.push(at("questions", rejected(question, reason))),
            }
        }
        quarantined.extend(predictions.rejected.iter().map(|row| at("predictions", row.clone())));
        let known: HashMap<&str, &Question> =
            questions.questions.iter().map(|question| (question.id.as_str(), question)).collect();
        let mut said: HashMap<&str, &str> = HashMap::new();
        for prediction in &predictions.predictions {
            match text_for(&known, prediction) {
                Ok(text) => drop(said.insert(&prediction.id, text)),
                Err(reason) => {
                    let (line, id) = (prediction.line, Some(prediction.id.clone()));
                    quarantined.push(at("predictions", Rejected { line, id, reason }));
                }
            }
        }
        let with_prediction = |question: &'q Question| {
            let question = usable.get(question.id.as_str())?;
            Some(Pairing::of(question, said.get(question.id.as_str())?))
        };
        let pairs = questions.questions.iter().filter_map(with_prediction).collect();
        Ok(Self { questions: usable.len(), pairs, quarantined })
    }
}

/// The text of a prediction that is one of the questions'.
fn text_for<'p>(known: &HashMap<&str, &Question>, prediction: &'p Prediction) -> Result<&'p str, String> {
    let question = known.get(prediction.id.as_str());
    let question = question.ok_or_else(|| "the question file has no question of its id".to_owned())?;
    // A model may have been asked with options or a request behind the question.
    if let Some(query) = prediction.query.as_ref().filter(|query| !query.starts_with(&question.question)) {
        return Err(format!(
            "it answers `{}`, and the question of its id is `{}`",
            beginning(query),
            question.question
        ));
    }
    prediction.text.as_deref().map_err(Clone::clone)
}

fn rejected(question: &Question, reason: String) -> Rejected {
    Rejected { line: question.line, id: Some(question.id.clone()), reason }
}

/// Checks that a scorer can mark a question of a file.
///
/// # Errors
/// [`QuestionsError::OtherScorer`], which names the layout and the scorer that would go together.
pub fn check_questions(questions: &Questions, scorer: &Scorer) -> Result<(), QuestionsError> {
    let mut reasons = questions.questions.iter().map(|question| scorer.check(question).err());
    let Some(Some(reason)) = reasons.next() else { return Ok(()) };
    if reasons.any(|reason| reason.is_none()) {
        return Ok(());
    }
    let layout = questions.layout;
    let remedy = match scorer.kind() {
        ScorerKind::Score1To5 => {
            "its nearest layout with captions is `llava-hound`; or set scorer = \"yes_no_0_5\", which shows none"
        }
        ScorerKind::Options => "the layout with options is `options`; or set scorer = \"exact\"",
        _ => "the layout with pairs is `video-hallucer`; or set scorer = \"exact\"",
    };
    let remedy = format!("the file is in layout `{layout}`; {remedy}");
    Err(QuestionsError::OtherScorer { reason, questions: questions.questions.len(), remedy })
}

/// What is right or wrong as a whole, and the accuracy of the parts of pairs.
fn units(marked: &[(&Pairing<'_>, MarkLine)], scorer: ScorerKind) -> (Vec<Unit>, BTreeMap<String, f64>) {
    let single = |(pair, line): &(&Pairing<'_>, MarkLine)| Unit {
        id: line.id.clone(),
        video: video_id(&pair.question.video).to_owned(),
        correct: line.correct,
        score: line.score,
        stated: line.reading == Reading::Stated,
    };
    if scorer != ScorerKind::YesNoPairs {
        return (marked.iter().map(single).collect(), BTreeMap::new());
    }
    let mut pairs: BTreeMap<usize, [Option<Unit>; 2]> = BTreeMap::new();
    for entry in marked {
        if let Some(pair) = &entry.0.question.pair {
            pairs.entry(pair.number).or_default()[usize::from(pair.hallucination)] = Some(single(entry));
        }
    }
    let complete: Vec<(usize, [Unit; 2])> = pairs
        .into_iter()
        .filter_map(|(number, [basic, hallucination])| Some((number, [basic?, hallucination?])))
        .collect();
    let share = |part: usize| {
        let right = complete.iter().filter(|(_, pair)| pair[part].correct == Some(true)).count();
        right as f64 / complete.len().max(1) as f64
    };
    let parts = [("basic", share(0)), ("hallucination", share(1))];
    let parts = parts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let both = |(number, [basic, hallucination]): (usize, [Unit; 2])| Unit {
        id: number.to_string(),
        correct: basic.correct.zip(hallucination.correct).map(|(one, other)| one && other),
        score: None,
        stated: basic.stated && hallucination.stated,
        video: basic.video,
    };
    (complete.into_iter().map(both).collect(), parts)
}

fn failed(scorer: &Scorer, pair: &Pairing<'_>, source: ComponentError) -> Error {
    match source {
        ComponentError::Cancelled => Error::Cancelled,
        source => Error::Component {
            stage: format!("scoring by {}", scorer.name()),
            subject: pair.question.id.clone(),
            source,
        },
    }
}

fn write_lines<'l, T: Serialize + 'l>(
    path: &Path,
    lines: impl Iterator<Item = &'l T>,
) -> Result<(), Error> {
    let mut text = String::new();
    for line in lines {
        let line = serde_json::to_string(line).map_err(|error| Error::io("write", path, error.into()))?;
        text.push_str(&line);
        text.push('\n');
    }
    write_atomic(path, text.as_bytes())
}

/// Beginning of a text, on one line.
fn beginning(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect()
}
