//! Prediction files, ours and others'.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Object, Question, Rejected, any, object, sorted, text, without_placeholders};
use crate::error::QuestionsError;

/// A prediction in LLaVA-Hound's layout, one JSON line, which its scripts and the authors' read
/// (`Evaluation/inference/inference_test_qa.py`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictionRow {
    /// Id of the question.
    pub id: String,
    /// Path of the video.
    pub modal_path: String,
    /// The question.
    pub query: String,
    /// The reference answer.
    pub answer: String,
    /// `VIDEO`.
    pub modal_type: String,
    /// How the video was read: `frames` of a folder, or `decord` for a file.
    pub video_decode_backend: String,
    /// Sampling temperature.
    pub temperature: f64,
    /// Nucleus probability.
    pub top_p: f64,
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// What the model said.
    pub model_prediction: ModelPrediction,
}

/// Outcome of asking a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelPrediction {
    /// `success` or `error`.
    pub status: Outcome,
    /// The answer, or the reason.
    pub message: String,
}

/// Whether a model answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It did.
    Success,
    /// The question could not be asked: the video cannot be read, the prompt is too long.
    Error,
}

impl PredictionRow {
    /// The row of a question; an error is the reason why the model was not asked.
    pub fn of(
        question: &Question,
        video: &std::path::Path,
        max_new_tokens: usize,
        answer: Result<String, String>,
    ) -> Self {
        let (status, message) = match answer {
            Ok(text) => (Outcome::Success, text),
            Err(reason) => (Outcome::Error, reason),
        };
        let backend = if video.is_file() { "decord" } else { "frames" };
        Self {
            id: question.id.clone(),
            modal_path: video.to_string_lossy().into_owned(),
            query: question.question.clone(),
            answer: question.answer.clone(),
            modal_type: "VIDEO".to_owned(),
            video_decode_backend: backend.to_owned(),
            temperature: 0.0,
            top_p: 1.0,
            max_new_tokens,
            model_prediction: ModelPrediction { status, message },
        }
    }
}

/// A prediction in the layout of Video-ChatGPT's `evaluate_activitynet_qa.py` (`video_name`, `Q`, `A`, `pred`), with the
/// keys of its inference scripts and of Video-LLaVA's (`id`, `question`, `answer`, `pred`) beside them.
pub fn video_chatgpt_row(question: &Question, prediction: &str) -> Value {
    let Question { id, video, question, answer, .. } = question;
    json!({
        "id": id, "video_name": super::video_id(video), "question": question, "answer": answer,
        "Q": question, "A": answer, "pred": prediction,
    })
}

/// One prediction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// Id of the question.
    pub id: String,
    /// The question, if the file repeats it.
    pub query: Option<String>,
    /// What the model said; an error is the reason why it said nothing.
    pub text: Result<String, String>,
    /// Line of the file, from 1.
    pub line: usize,
}

/// Predictions of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predictions {
    /// The predictions, in the file's order.
    pub predictions: Vec<Prediction>,
    /// Rows that are no predictions.
    pub rejected: Vec<Rejected>,
}

impl Predictions {
    /// Reads rows with their lines, each in the layout of LLaVA-Hound (`model_prediction`), Video-ChatGPT and Video-LLaVA
    /// (`pred`), or VideoHallucer (`basic.predict` and `hallucination.predict`).
    ///
    /// # Errors
    /// A file of which no row is a prediction.
    pub fn read(
        rows: impl Iterator<Item = (usize, Result<Value, String>)>,
    ) -> Result<Self, QuestionsError> {
        let mut number = 0;
        let read = |line: usize, row: &Value| {
            let row = object(row)?;
            if row.contains_key("basic") && row.contains_key("hallucination") {
                number += 1;
                return pair(row, line, number - 1);
            }
            Ok(vec![one(row, line)?])
        };
        let (predictions, rejected) = sorted(rows, read, |prediction| &prediction.id);
        any("prediction", &predictions, &rejected)?;
        Ok(Self { predictions, rejected })
    }
}

fn one(row: &Object, line: usize) -> Result<Prediction, String> {
    let id = text(row, &["id", "question_id", "video_name"])?;
    let query = text(row, &["query", "question", "Q"]).ok().map(|query| without_placeholders(&query));
    let text = match (row.get("model_prediction"), row.get("pred")) {
        (Some(Value::Object(made)), _) => {
            let message = made.get("message").and_then(Value::as_str);
            let message = message.ok_or("`model_prediction` has no `message`")?.to_owned();
            match made.get("status").and_then(Value::as_str) {
                Some("success") => Ok(message),
                Some(status) => Err(format!("its status is `{status}`: {message}")),
                None => return Err("`model_prediction` has no `status`".to_owned()),
            }
        }
        (_, Some(Value::String(pred))) => Ok(pred.clone()),
        _ => {
            return Err("it has neither `model_prediction`, as LLaVA-Hound's predictions, nor `pred`, as \
                        Video-ChatGPT's"
                .to_owned());
        }
    };
    Ok(Prediction { id, query, text, line })
}

fn pair(row: &Object, line: usize, number: usize) -> Result<Vec<Prediction>, String> {
    let part = |key: &str| {
        let part =
            row.get(key).and_then(Value::as_object).ok_or_else(|| format!("`{key}` is no object"))?;
        let predict = part.get("predict").and_then(Value::as_str);
        let predict = predict.ok_or_else(|| format!("{key}: `predict` is missing"))?;
        let query = text(part, &["question"]).ok().map(|query| without_placeholders(&query));
        let id = format!("{number}_{key}");
        Ok::<_, String>(Prediction { id, query, text: Ok(predict.to_owned()), line })
    };
    Ok(vec![part("basic")?, part("hallucination")?])
}
