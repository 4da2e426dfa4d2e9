//! Samples and their assessments, and pages of a dataset's rows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{MessageError, Number};
use crate::preferences::{Preference, UnusableRow};
use crate::prompt::Turn;
use crate::sample::{LabelledSample, Sample, SampleId};
use crate::source::{Assessment, Demonstration};

/// A sample: the subject of `answer` and `context`, and a row of `training`, `evaluation` and `audit`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleMessage {
    /// [`Sample::id`].
    pub id: String,
    /// Path of a video file or of a folder of frames.
    pub video: String,
    /// The instruction about the video.
    pub instruction: String,
    /// The reference answer; null in `training`, where one that is given is not read.
    #[serde(default)]
    pub reference: Option<String>,
    /// [`LabelledSample::facts`].
    #[serde(default)]
    pub facts: Value,
}

impl From<&LabelledSample> for SampleMessage {
    fn from(labelled: &LabelledSample) -> Self {
        let LabelledSample { sample: Sample { id, video, instruction }, reference, facts } =
            labelled.clone();
        let video = video.to_string_lossy().into_owned();
        Self { id: id.0, video, instruction, reference: Some(reference), facts }
    }
}

impl From<SampleMessage> for Sample {
    /// The part that training may see.
    fn from(message: SampleMessage) -> Self {
        let SampleMessage { id, video, instruction, .. } = message;
        Self { id: SampleId(id), video: video.into(), instruction }
    }
}

impl TryFrom<SampleMessage> for LabelledSample {
    type Error = MessageError;

    fn try_from(mut message: SampleMessage) -> Result<Self, MessageError> {
        let Some(reference) = message.reference.take() else {
            return Err(MessageError::new(
                "`reference` is missing, the answer that the others are measured by",
            ));
        };
        let facts = std::mem::take(&mut message.facts);
        Ok(Self { sample: message.into(), reference, facts })
    }
}

/// Parameters of `answer` and of `context`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AssessMessage {
    /// The sample with its ground truth.
    pub sample: SampleMessage,
    /// The response to its instruction, or the description of its video.
    pub text: String,
}

/// Value of `answer` and of `context`; null where the sample's facts do not suffice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AssessmentMessage {
    /// [`Assessment::quality`].
    pub quality: Number,
    /// [`Assessment::metrics`].
    #[serde(default)]
    pub metrics: BTreeMap<String, Number>,
}

impl TryFrom<AssessmentMessage> for Assessment {
    type Error = MessageError;

    fn try_from(AssessmentMessage { quality, metrics }: AssessmentMessage) -> Result<Self, MessageError> {
        let all = metrics.iter().map(|(name, number)| (format!("metric `{name}`"), number.0));
        match all.chain([("quality".to_owned(), quality.0)]).find(|(_, number)| !number.is_finite()) {
            Some((what, number)) => Err(MessageError::new(format!("its {what} is {number}"))),
            None => Ok(Self {
                quality: quality.0,
                metrics: metrics.into_iter().map(|(name, number)| (name, number.0)).collect(),
            }),
        }
    }
}

/// Parameters of `rows`: a page of a set of rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowsMessage {
    /// `training`, `evaluation` or `audit` of data; `rows` of preferences and demonstrations.
    pub set: String,
    /// Number of rows before the page.
    pub start: u64,
    /// Most rows of the page.
    pub count: u64,
}

/// Value of `rows`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageMessage {
    /// The next rows, as many as the plugin likes, at least one unless it is the last page.
    pub rows: Vec<Value>,
    /// Whether there are no more.
    pub end: bool,
}

/// A row of preferences that can be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreferenceMessage {
    /// [`Preference::id`]; by default the origin.
    #[serde(default)]
    pub id: Option<String>,
    /// [`Preference::origin`]; by default the plugin's name and the number of the row, from 1.
    #[serde(default)]
    pub origin: Option<String>,
    /// [`Preference::video`].
    #[serde(default)]
    pub video: Option<PathBuf>,
    /// [`Preference::turns`].
    #[serde(default)]
    pub turns: Vec<Turn>,
    /// [`Preference::prompt`].
    pub prompt: String,
    /// [`Preference::chosen`].
    pub chosen: String,
    /// [`Preference::rejected`].
    pub rejected: String,
    /// [`Preference::p_chosen`].
    #[serde(default)]
    pub p_chosen: Option<Number>,
}

impl PreferenceMessage {
    /// The pair, with the origin of one that names none.
    pub fn into_preference(self, origin: String) -> Preference {
        let Self { id, origin: named, video, turns, prompt, chosen, rejected, p_chosen } = self;
        let origin = named.unwrap_or(origin);
        let id = id.unwrap_or_else(|| origin.clone());
        let p_chosen = p_chosen.map(|number| number.0);
        Preference { id, origin, video, turns, prompt, chosen, rejected, p_chosen }
    }
}

/// A row of demonstrations that can be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DemonstrationMessage {
    /// [`Demonstration::id`]; by default the plugin's name and the number of the row, from 1.
    #[serde(default)]
    pub id: Option<String>,
    /// [`Demonstration::video`].
    #[serde(default)]
    pub video: Option<PathBuf>,
    /// [`Demonstration::turns`].
    #[serde(default)]
    pub turns: Vec<Turn>,
    /// [`Demonstration::prompt`].
    pub prompt: String,
    /// [`Demonstration::answer`].
    pub answer: String,
}

impl DemonstrationMessage {
    /// The demonstration, with the id of one that names none.
    pub fn into_demonstration(self, id: String) -> Demonstration {
        let Self { id: named, video, turns, prompt, answer } = self;
        Demonstration { id: named.unwrap_or(id), video, turns, prompt, answer }
    }
}

/// A row of preferences or demonstrations that cannot be used: a row with a `reason`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnusableMessage {
    /// [`UnusableRow::origin`]; by default the plugin's name and the number of the row, from 1.
    #[serde(default)]
    pub origin: Option<String>,
    /// [`UnusableRow::reason`].
    pub reason: String,
}

impl UnusableMessage {
    /// The row, with the origin of one that names none.
    pub fn into_row(self, origin: String) -> UnusableRow {
        UnusableRow { origin: self.origin.unwrap_or(origin), reason: self.reason }
    }
}
