//! Batches, requirements and values of objectives.

use std::collections::BTreeMap;

use isr_api::{Granularity, ObjectiveBatch, ObjectiveValue, Requirements, View, ViewLogProbs};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum GranularityForm {
    Summed,
    PerToken,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequirementsForm {
    views: Vec<String>,
    granularity: GranularityForm,
    reference: bool,
}

/// Reads `{"views": ["chosen", "rejected"], "granularity": "summed", "reference": true}`.
pub(crate) fn requirements(value: Value) -> Result<Requirements, String> {
    let form: RequirementsForm = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let known = || View::ALL.map(|view| format!("`{}`", view.name())).join(", ");
    let named = |name: &String| {
        View::named(name).ok_or_else(|| format!("there is no view `{name}`; there are {}", known()))
    };
    let views: Vec<View> = form.views.iter().map(named).collect::<Result<_, _>>()?;
    let twice = (1..views.len()).any(|index| views[..index].contains(&views[index]));
    if views.is_empty() || twice {
        return Err(format!("`views` must name one or more of {}, each once", known()));
    }
    let granularity = match form.granularity {
        GranularityForm::Summed => Granularity::Summed,
        GranularityForm::PerToken => Granularity::PerToken,
    };
    Ok(Requirements { views, granularity, reference: form.reference })
}

/// Writes a batch.
///
/// # Errors
/// A number that JSON does not have.
pub(crate) fn batch(batch: &ObjectiveBatch) -> Result<Value, String> {
    let views: Result<Vec<_>, _> = batch.views.iter().map(view).collect();
    Ok(json!({ "views": views? }))
}

fn view(of: &ViewLogProbs) -> Result<Value, String> {
    let ViewLogProbs { view, policy, reference, lengths } = of;
    match policy.iter().chain(reference).find(|number| !number.is_finite()) {
        Some(number) => Err(format!("the log-probs of {view:?} have the number {number}")),
        None => {
            Ok(json!({ "view": view.name(), "policy": policy, "reference": reference, "lengths": lengths }))
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ValueForm {
    loss: f64,
    gradients: Vec<Vec<f64>>,
    #[serde(default)]
    metrics: BTreeMap<String, f64>,
}

/// Reads an objective's value; its lengths must be the batch's.
pub(crate) fn value(value: Value, batch: &ObjectiveBatch) -> Result<ObjectiveValue, String> {
    let ValueForm { loss, gradients, metrics } =
        serde_json::from_value(value).map_err(|error| error.to_string())?;
    let lengths = |of: &Vec<f64>| of.len();
    let wanted: Vec<_> = batch.views.iter().map(|view| view.policy.len()).collect();
    let got: Vec<_> = gradients.iter().map(lengths).collect();
    if got != wanted {
        return Err(format!("its gradients have {got:?} numbers for {wanted:?} log-probs"));
    }
    Ok(ObjectiveValue { loss, gradients, metrics })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs() -> ObjectiveBatch {
        let of =
            |view| ViewLogProbs { view, policy: vec![-1.5, -2.0], reference: vec![], lengths: vec![2, 3] };
        ObjectiveBatch { views: vec![of(View::Chosen), of(View::Rejected)] }
    }

    #[test]
    fn a_batch_is_written_view_by_view() {
        let written = batch(&pairs()).unwrap();
        let view = |name| json!({"view": name, "policy": [-1.5, -2.0], "reference": [], "lengths": [2, 3]});
        assert_eq!(written, json!({"views": [view("chosen"), view("rejected")]}));
        let mut broken = pairs();
        broken.views[0].policy[1] = f64::NAN;
        assert_eq!(batch(&broken).unwrap_err(), "the log-probs of Chosen have the number NaN");
    }

    #[test]
    fn a_value_has_the_lengths_of_the_batch() {
        let read = |gradients: Value| value(json!({"loss": 1.0, "gradients": gradients}), &pairs());
        assert!(read(json!([[0, 0.5], [1, 2]])).is_ok());
        assert_eq!(
            read(json!([[0, 0.5], [1]])).unwrap_err(),
            "its gradients have [2, 1] numbers for [2, 2] log-probs"
        );
        assert!(read(json!([[0, 0.5]])).is_err());
        assert!(read(json!([[0, null], [1, 2]])).is_err());
    }

    #[test]
    fn requirements_name_each_view_once() {
        let read = |views: Value| {
            requirements(json!({"views": views, "granularity": "per_token", "reference": false}))
        };
        assert_eq!(read(json!(["rejected", "chosen"])).unwrap().views, [View::Rejected, View::Chosen]);
        let all = View::ALL.map(View::name);
        assert_eq!(read(json!(all)).unwrap().views, View::ALL);
        assert!(read(json!([])).is_err());
        assert!(read(json!(["chosen", "chosen"])).is_err());
        assert!(read(json!(["best"])).unwrap_err().contains("best"));
    }
}
