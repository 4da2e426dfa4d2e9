//! The parts of a run that are not plugins, as small as can be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    Candidate, ComponentError, Decision, FeatureType, Fingerprint, Frames, Judge, LabelledSample,
    PreferenceObjective, Sample, SampleId, SampleSource, Selection, VideoEncoder, VideoReader,
    VisualFeatures,
};
use isr_run::Components;
use isr_testing::FakePolicy;
use isr_testing::fixtures::frames;

/// A policy of letters; what a run needs beside it; the judge and the objective that are tested.
pub(crate) fn components(judge: Arc<dyn Judge>, objective: Arc<dyn PreferenceObjective>) -> Components {
    Components {
        data: Arc::new(Source),
        video: Arc::new(Reader),
        encoder: Some(Arc::new(Encoder)),
        policy: Arc::new(FakePolicy::default()),
        retrospector: None,
        judge,
        objective,
        selection: Arc::new(ByVerdict),
        evaluator: None,
    }
}

struct Source;

#[async_trait]
impl SampleSource for Source {
    async fn prepare(&self) -> Result<(), ComponentError> {
        Ok(())
    }
    async fn training(&self) -> Result<Vec<Sample>, ComponentError> {
        let sample = |n: usize| Sample {
            id: SampleId(format!("s{n}")),
            video: PathBuf::from(format!("clips/{n}.mp4")),
            instruction: format!("what colour is object {n}?"),
        };
        Ok((0..8).map(sample).collect())
    }
    async fn evaluation(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        Ok(Vec::new())
    }
    async fn audit(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        Ok(Vec::new())
    }
}

struct Reader;

#[async_trait]
impl VideoReader for Reader {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("reader")
    }
    async fn read(&self, _: &Path) -> Result<Frames, ComponentError> {
        Ok(frames(2, 4, 4))
    }
}

struct Encoder;

#[async_trait]
impl VideoEncoder for Encoder {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("encoder")
    }
    async fn encode(&self, frames: &Frames) -> Result<VisualFeatures, ComponentError> {
        let (shape, bytes) = ([frames.len(), 1, 1], vec![0; 4 * frames.len()]);
        Ok(VisualFeatures { dtype: FeatureType::F32, shape, bytes, encoder: self.fingerprint() })
    }
}

struct ByVerdict;

impl Selection for ByVerdict {
    fn select(&self, candidates: &[Candidate]) -> Vec<Decision> {
        let decide = |candidate: &Candidate| match candidate.verdict.prefers_first() {
            true => Decision::ChooseFirst,
            false => Decision::ChooseSecond,
        };
        candidates.iter().map(decide).collect()
    }
}

/// All files below a folder, by their paths.
pub(crate) fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => drop(files.insert(path.clone(), std::fs::read(path).unwrap())),
            }
        }
    }
    let below = |(path, bytes): (PathBuf, Vec<u8>)| (path.strip_prefix(folder).unwrap().to_owned(), bytes);
    files.into_iter().map(below).collect()
}
