//! The data `mixture`: several sources with weights.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    BuildContext, Cause, Component, ComponentError, LabelledSample, Sample, SampleId, SampleSource, Streams,
};
use isr_config::bounds;
use isr_config::registry::DataConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::videos::Videos;

/// Several sources of samples, mixed by weight.
///
/// A source's share of the training split is its weight divided by the sum of weights. Of a source that has more samples
/// than its share, a random part is taken, which `seed` determines; no sample is taken twice. The sources are interleaved, so
/// that every part of the split has about the same shares. The held-out split is that of all sources together. Ids are
/// `NAME:ID`, with the name of the source.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixtureConfig {
    /// Sources, at least one: `{ name = "hound", weight = 1.0, data = { type = ... } }`. Required.
    pub sources: Vec<MixtureSource>,
    /// Number of training samples. Default: as many as the sources have in these shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// Seed of the draw; default 0.
    #[serde(default)]
    pub seed: u64,
}

/// A source of a [`MixtureConfig`].
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixtureSource {
    /// Name in ids, different from those of the others. Default: its number, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Weight, more than 0; default 1.
    #[serde(default = "one")]
    pub weight: f64,
    /// Data: a table of `type` and settings. Required.
    pub data: Box<dyn DataConfig>,
}

fn one() -> f64 {
    1.0
}

impl MixtureConfig {
    fn name(&self, index: usize) -> String {
        let named = self.sources.get(index).and_then(|source| source.name.clone());
        named.unwrap_or_else(|| (index + 1).to_string())
    }
}

impl Component for MixtureConfig {
    type Built = Arc<dyn SampleSource>;

    fn validate(&self) -> Result<(), String> {
        let mut names = HashSet::new();
        for (index, MixtureSource { weight, data, .. }) in self.sources.iter().enumerate() {
            bounds::positive(&format!("sources[{index}].weight"), *weight)?;
            let name = self.name(index);
            if name.trim().is_empty() || !names.insert(name.clone()) {
                return Err(format!(
                    "sources[{index}].name is {name:?}; give each source a name of its own"
                ));
            }
            let nested = data.validate();
            nested.map_err(|reason| format!("sources[{index}].data ({}): {reason}", data.name()))?;
        }
        match (self.sources.is_empty(), self.samples) {
            (true, _) => Err("sources is empty; name at least one".to_owned()),
            (_, Some(0)) => Err("samples must be at least 1".to_owned()),
            _ => Ok(()),
        }
    }

    fn build(&self, cx: &BuildContext) -> Result<Arc<dyn SampleSource>, Cause> {
        let part = |(index, source): (usize, &MixtureSource)| {
            Ok(Part { name: self.name(index), weight: source.weight, source: source.data.build(cx)? })
        };
        let parts = self.sources.iter().enumerate().map(part).collect::<Result<_, Cause>>()?;
        Ok(Arc::new(Mixture { parts, samples: self.samples, streams: Streams::new(self.seed) }))
    }
}

isr_config::register!(Data "mixture" => MixtureConfig, example = "\
sources = [
    { name = \"hound\", weight = 3.0, data = { type = \"jsonl\", training = \"data/hound.jsonl\" } },
    { name = \"own\", weight = 1.0, data = { type = \"folder\", path = \"data/videos\" } },
]
");

struct Part {
    name: String,
    weight: f64,
    source: Arc<dyn SampleSource>,
}

impl Part {
    fn id(&self, id: &SampleId) -> SampleId {
        SampleId(format!("{}:{id}", self.name))
    }

    fn labelled(&self, sample: LabelledSample) -> LabelledSample {
        let id = self.id(&sample.sample.id);
        LabelledSample { sample: Sample { id, ..sample.sample }, ..sample }
    }
}

struct Mixture {
    parts: Vec<Part>,
    samples: Option<usize>,
    streams: Streams,
}

#[async_trait]
impl SampleSource for Mixture {
    async fn prepare(&self) -> Result<(), ComponentError> {
        for part in &self.parts {
            part.source.prepare().await?;
        }
        let training = self.training().await?;
        let trained_on = Videos::new(training.iter().map(|sample| sample.video.as_path()));
        match self.evaluation().await?.into_iter().find(|held_out| trained_on.has(&held_out.sample.video)) {
            None => Ok(()),
            Some(LabelledSample { sample, .. }) => Err(DataError::Config(format!(
                "the held-out sample `{}` is about {}, which training samples of the mixture are about; evaluation must be \
                 on videos that are not trained on",
                sample.id,
                sample.video.display()
            ))
            .into()),
        }
    }

    async fn training(&self) -> Result<Vec<Sample>, ComponentError> {
        let mut all = Vec::new();
        for part in &self.parts {
            all.push(part.source.training().await?);
        }
        let sizes: Vec<usize> = all.iter().map(Vec::len).collect();
        let counts = self.counts(&sizes)?;
        let mut mixed = Vec::new();
        for ((part, samples), count) in self.parts.iter().zip(all).zip(counts) {
            let chosen = self.drawn(part, samples, count);
            // The middle of the sample's place among those of its source, as a share of the split.
            let place = |index: usize| (index as f64 + 0.5) / count as f64;
            mixed.extend(chosen.into_iter().enumerate().map(|(index, sample)| (place(index), sample)));
        }
        mixed.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(mixed.into_iter().map(|(_, sample)| sample).collect())
    }

    async fn evaluation(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        let mut all = Vec::new();
        for part in &self.parts {
            all.extend(part.source.evaluation().await?.into_iter().map(|sample| part.labelled(sample)));
        }
        Ok(all)
    }

    async fn audit(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        let chosen: HashSet<SampleId> =
            self.training().await?.into_iter().map(|sample| sample.id).collect();
        let mut all = Vec::new();
        for part in &self.parts {
            let labelled = part.source.audit().await?.into_iter().map(|sample| part.labelled(sample));
            all.extend(labelled.filter(|sample| chosen.contains(&sample.sample.id)));
        }
        Ok(all)
    }
}

impl Mixture {
    /// Number of samples of each source, by largest remainder.
    fn counts(&self, sizes: &[usize]) -> Result<Vec<usize>, DataError> {
        let sum: f64 = self.parts.iter().map(|part| part.weight).sum();
        let shares: Vec<f64> = self.parts.iter().map(|part| part.weight / sum).collect();
        let most = || {
            let each = sizes.iter().zip(&shares).map(|(size, share)| *size as f64 / share);
            // Sizes in exactly these shares are taken whole, whatever their quotients round to.
            (each.fold(f64::INFINITY, f64::min) + 1e-6).floor() as usize
        };
        let total = self.samples.unwrap_or_else(most);
        let exact: Vec<f64> = shares.iter().map(|share| share * total as f64).collect();
        let mut counts: Vec<usize> = exact.iter().map(|count| count.floor() as usize).collect();
        let mut order: Vec<usize> = (0..counts.len()).collect();
        order.sort_by(|a, b| exact[*b].fract().total_cmp(&exact[*a].fract()));
        let left = total.saturating_sub(counts.iter().sum());
        order.into_iter().take(left).for_each(|index| counts[index] += 1);
        for ((part, size), count) in self.parts.iter().zip(sizes).zip(&mut counts) {
            if *count > *size && self.samples.is_some() {
                return Err(DataError::Config(format!(
                    "source `{}` of the mixture has {size} samples, and {count} are its share of samples = {total}; \
                     lower `samples` or its weight",
                    part.name
                )));
            }
            *count = (*count).min(*size);
        }
        if counts.iter().all(|count| *count == 0) {
            return Err(DataError::Config("a source of the mixture has no sample; remove it".to_owned()));
        }
        Ok(counts)
    }

    /// `count` random samples in the order of the source.
    fn drawn(&self, part: &Part, samples: Vec<Sample>, count: usize) -> Vec<Sample> {
        let named = samples.into_iter().map(|sample| Sample { id: part.id(&sample.id), ..sample });
        let mut drawn: Vec<(u64, usize, Sample)> = named
            .enumerate()
            .map(|(index, sample)| (self.streams.seed(0, "mixture", sample.id.as_str()), index, sample))
            .collect();
        drawn.sort_by_key(|(draw, index, _)| (*draw, *index));
        drawn.truncate(count);
        drawn.sort_by_key(|(_, index, _)| *index);
        drawn.into_iter().map(|(.., sample)| sample).collect()
    }
}
