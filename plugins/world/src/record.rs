//! Lines of the lists that the world writes, for people and other programs: LLaVA-Hound's keys `id`,
//! `video` and `prompt`, as the data source `jsonl` reads them, with `answer` and `facts` for measuring.

use std::path::Path;

use isr_api::{LabelledSample, Sample, SampleId};
use serde::Serialize;
use serde_json::Value;

/// A line as the world writes it.
#[derive(Serialize)]
pub(crate) struct Record<'a> {
    id: &'a SampleId,
    video: String,
    prompt: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<&'a Value>,
}

impl<'a> Record<'a> {
    /// A line without the answer; the video is named relative to `root`.
    pub(crate) fn unlabelled(sample: &'a Sample, root: &Path) -> Self {
        let video = isr_api::video_key(sample.video.strip_prefix(root).unwrap_or(&sample.video));
        Self { id: &sample.id, video, prompt: &sample.instruction, answer: None, facts: None }
    }

    /// A line with answer and facts.
    pub(crate) fn labelled(sample: &'a LabelledSample, root: &Path) -> Self {
        let blind = Self::unlabelled(&sample.sample, root);
        Self { answer: Some(&sample.reference), facts: Some(&sample.facts), ..blind }
    }
}

/// The records, one a line.
pub(crate) fn to_jsonl<'a>(records: impl Iterator<Item = Record<'a>>) -> String {
    // A record holds text and a JSON value only, so it always has a JSON form.
    records.map(|record| serde_json::to_string(&record).unwrap_or_default() + "\n").collect()
}
