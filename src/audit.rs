//! Audits with the facts: lends `isr_analysis::audit` what the run's own data and evaluator know.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isr_analysis::audit::{AuditError, RunAudit};
use isr_api::{BuildContext, ComponentError, Evaluator, LabelledSample, SampleId};
use isr_config::registry::{DataConfig, EvaluatorConfig};
use serde::Serialize;
use serde_json::Value;
use tokio::runtime::Handle;

/// A run's judges, and why they were not measured by the facts, where they were not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audited {
    /// The figures.
    #[serde(flatten)]
    pub audit: RunAudit,
    /// Why no facts are known; null where they are.
    pub no_facts: Option<String>,
}

/// Audits the judges of a run; `others` are folders of verdicts on the same answers.
///
/// Blocks; call it outside of asynchronous code.
///
/// # Errors
/// See [`isr_analysis::audit::audit`].
pub fn audit_run(run: &Path, others: &[PathBuf], runtime: &Handle) -> Result<Audited, AuditError> {
    let (facts, no_facts) = match Facts::of_run(run, runtime) {
        Ok(facts) => (Some(facts), None),
        Err(reason) => (None, Some(reason)),
    };
    let quality = |sample: &SampleId, text: &str| facts.as_ref()?.quality(sample, text);
    Ok(Audited { audit: isr_analysis::audit::audit(run, others, &quality)?, no_facts })
}

/// What is true of a run's training samples. Measuring code alone receives it.
pub(crate) struct Facts {
    evaluator: Arc<dyn Evaluator>,
    samples: HashMap<SampleId, LabelledSample>,
}

impl Facts {
    /// Of the data and the evaluator that the run's config names, or why there are none. Its model need not
    /// be there.
    pub(crate) fn of_run(run: &Path, runtime: &Handle) -> Result<Self, String> {
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
        let samples: Result<Vec<LabelledSample>, ComponentError> = runtime.block_on(data.audit());
        let samples = part("data", samples)?;
        if samples.is_empty() {
            return Err("the run's data knows no facts of its training samples".to_owned());
        }
        let samples = samples.into_iter().map(|labelled| (labelled.sample.id.clone(), labelled)).collect();
        Ok(Self { evaluator, samples })
    }

    /// How good an answer is; `None` where that is not known.
    pub(crate) fn quality(&self, sample: &SampleId, answer: &str) -> Option<f64> {
        let assessment = self.evaluator.answer(self.samples.get(sample)?, answer)?;
        Some(assessment.quality).filter(|quality| quality.is_finite())
    }
}

fn part<T, E: ToString>(section: &str, outcome: Result<T, E>) -> Result<T, String> {
    outcome.map_err(|error| format!("the run's {section}: {}", error.to_string()))
}
