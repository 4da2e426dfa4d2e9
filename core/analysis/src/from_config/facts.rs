//! Ground truth of a run's training samples, from its own data and evaluator.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use isr_api::{BuildContext, ComponentError, Evaluator, LabelledSample, SampleId};
use isr_config::registry::{DataConfig, EvaluatorConfig};
use serde_json::Value;
use tokio::runtime::Handle;

/// Ground truth of a run's training samples. Only code that measures receives it.
pub(super) struct Facts {
    evaluator: Arc<dyn Evaluator>,
    runtime: Handle,
    samples: HashMap<SampleId, LabelledSample>,
}

impl Facts {
    /// Facts from the data and the evaluator that the run's config names. The error is the reason why there are none.
    /// Blocks: call it from a thread outside the runtime.
    pub(super) fn of_run(run: &Path, runtime: &Handle) -> Result<Self, String> {
        let path = run.join("config.toml");
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let settings: Value =
            toml::from_str(&text).map_err(|error| format!("{} is damaged: {error}", path.display()))?;
        let section = |name: &str| settings.get(name).cloned();
        let evaluator = section("evaluator").ok_or("the run has no evaluator")?;
        let data = section("data").ok_or("the run's config has no data")?;
        let evaluator: Box<dyn EvaluatorConfig> = part("evaluator", serde_json::from_value(evaluator))?;
        let data: Box<dyn DataConfig> = part("data", serde_json::from_value(data))?;
        let cx = BuildContext { config: settings };
        let (evaluator, data) = (part("evaluator", evaluator.build(&cx))?, part("data", data.build(&cx))?);
        if evaluator.is_costly() {
            return Err("the run's evaluator asks a model, which a report does not do".to_owned());
        }
        let samples: Result<Vec<LabelledSample>, ComponentError> = runtime.block_on(data.audit());
        let samples = part("data", samples)?;
        if samples.is_empty() {
            return Err("the run's data knows no facts of its training samples".to_owned());
        }
        let samples = samples.into_iter().map(|labelled| (labelled.sample.id.clone(), labelled)).collect();
        Ok(Self { evaluator, runtime: runtime.clone(), samples })
    }

    /// Quality of an answer ([`isr_api::Assessment::quality`]); `None` where it is unknown or not finite. Blocks, as
    /// [`of_run`](Self::of_run).
    pub(super) fn quality(&self, sample: &SampleId, answer: &str) -> Option<f64> {
        let assessment = self.evaluator.answer(self.samples.get(sample)?, answer);
        let assessment = self.runtime.block_on(assessment).ok()??;
        Some(assessment.quality).filter(|quality| quality.is_finite())
    }
}

fn part<T, E: ToString>(section: &str, outcome: Result<T, E>) -> Result<T, String> {
    outcome.map_err(|error| format!("the run's {section}: {}", error.to_string()))
}
