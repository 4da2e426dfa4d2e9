//! The [`PreferenceObjective`] trait: a loss on log-probs, without tensors.

use std::collections::BTreeMap;

use crate::error::ComponentError;

/// A completion of a training example whose log-probs an objective can request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum View {
    /// The chosen response y_w, or the demonstration in supervised fine-tuning.
    Chosen,
    /// The rejected response y_l.
    Rejected,
    /// The chosen response conditioned on a corrupted video (mDPO, arXiv 2406.11839, section 3.1): all frames
    /// are cropped to one random window of 1 to 20 % of the area, and scaled back to the frame size.
    ChosenCorrupted,
    /// A response of another pair conditioned on this pair's prompt, for KTO's estimate of the KL divergence
    /// (arXiv 2402.01306).
    Mismatched,
}

impl View {
    /// All views, in the order of the variants.
    pub const ALL: [Self; 4] = [Self::Chosen, Self::Rejected, Self::ChosenCorrupted, Self::Mismatched];

    /// Returns the snake-case name, which plugin protocols and error messages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chosen => "chosen",
            Self::Rejected => "rejected",
            Self::ChosenCorrupted => "chosen_corrupted",
            Self::Mismatched => "mismatched",
        }
    }

    /// Returns the view with this [`name`](Self::name).
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|view| view.name() == name)
    }
}

/// Whether an objective receives log-probs per completion or per token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// One number per pair: the sum of the log-probs of the completion's tokens.
    Summed,
    /// One number per token of the completion.
    PerToken,
}

/// The log-probs that an objective requests. The trainer computes exactly these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirements {
    /// Requested views, in the order of [`ObjectiveBatch::views`].
    pub views: Vec<View>,
    /// Sequence-level or token-level log-probs.
    pub granularity: Granularity,
    /// Whether log-probs under the reference policy are needed too.
    pub reference: bool,
    /// Whether the loss compares the pairs of a batch with each other, so that it is no mean of losses of parts: the
    /// trainer then evaluates the objective once, on the log-probs of the whole batch.
    pub across_batch: bool,
}

impl Requirements {
    /// Requests summed log-probs of these views under the policy, without the reference policy.
    ///
    /// ```
    /// use isr_api::{Requirements, View};
    ///
    /// let dpo = Requirements::new([View::Chosen, View::Rejected]).with_reference();
    /// let sft = Requirements::new([View::Chosen]).per_token();
    /// # assert!(dpo.reference && !sft.reference);
    /// ```
    pub fn new(views: impl IntoIterator<Item = View>) -> Self {
        Self {
            views: views.into_iter().collect(),
            granularity: Granularity::Summed,
            reference: false,
            across_batch: false,
        }
    }

    /// Requests one log-prob per token in place of the sum.
    #[must_use]
    pub fn per_token(mut self) -> Self {
        self.granularity = Granularity::PerToken;
        self
    }

    /// Requests log-probs under the reference policy too.
    #[must_use]
    pub fn with_reference(mut self) -> Self {
        self.reference = true;
        self
    }

    /// Requests the whole batch at once, for a loss that compares its pairs with each other.
    #[must_use]
    pub fn across_batch(mut self) -> Self {
        self.across_batch = true;
        self
    }
}

/// Log-probs (natural logarithm) of one view for a batch of n pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewLogProbs {
    /// The completion that was scored.
    pub view: View,
    /// Log-probs under the policy. With [`Granularity::Summed`] n numbers; with [`Granularity::PerToken`] the
    /// tokens of pair 0, then of pair 1, and so on: `lengths.iter().sum()` numbers.
    pub policy: Vec<f64>,
    /// Log-probs under the reference policy, laid out as `policy`; empty unless required.
    pub reference: Vec<f64>,
    /// Tokens of each pair's completion: n numbers.
    pub lengths: Vec<usize>,
}

/// The input of [`PreferenceObjective::evaluate`]: log-probs of a batch of pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectiveBatch {
    /// One entry per required view, in the order of [`Requirements::views`].
    pub views: Vec<ViewLogProbs>,
}

impl ObjectiveBatch {
    /// Returns the number of pairs n.
    pub fn pairs(&self) -> usize {
        self.views.first().map_or(0, |view| view.lengths.len())
    }

    /// Checks views and lengths against the requirements, for objectives that cannot check them themselves.
    ///
    /// # Errors
    /// A message with the lengths found and expected.
    pub fn check(&self, required: &Requirements) -> Result<(), String> {
        let views: Vec<View> = self.views.iter().map(|view| view.view).collect();
        if views != required.views || self.pairs() == 0 {
            let (pairs, wanted) = (self.pairs(), &required.views);
            return Err(format!(
                "the batch has {pairs} pairs of {views:?}; it needs one or more of {wanted:?}"
            ));
        }
        let pairs = self.pairs();
        for ViewLogProbs { view, policy, reference, lengths } in &self.views {
            let numbers = match required.granularity {
                Granularity::Summed => pairs,
                Granularity::PerToken => lengths.iter().sum(),
            };
            let references = if required.reference { numbers } else { reference.len() };
            let found = [lengths.len(), policy.len(), reference.len()];
            if found != [pairs, numbers, references] {
                return Err(format!(
                    "{view:?} has {found:?} lengths, log-probs and log-probs of the reference; \
                     {:?} are expected",
                    [pairs, numbers, references]
                ));
            }
        }
        Ok(())
    }

    /// Returns the log-probs of a view.
    ///
    /// # Errors
    /// [`ComponentError::Failed`] if the batch lacks the view: the objective did not require it, or the trainer
    /// has a bug.
    pub fn view(&self, view: View) -> Result<&ViewLogProbs, ComponentError> {
        let found = self.views.iter().find(|candidate| candidate.view == view);
        found.ok_or_else(|| ComponentError::failed(format!("log-probs of {view:?} are missing")))
    }
}

/// Loss, gradient and metrics of an objective on a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectiveValue {
    /// The loss, a mean over pairs.
    pub loss: f64,
    /// Derivatives of `loss` by the policy's log-probs: one vector per view, laid out as
    /// [`ViewLogProbs::policy`].
    pub gradients: Vec<Vec<f64>>,
    /// Metrics for the training log, means over pairs: `reward_margin`, `accuracy`, ...
    pub metrics: BTreeMap<String, f64>,
}

impl ObjectiveValue {
    /// Creates a value without metrics. `gradients` has one vector per required view.
    pub fn new(loss: f64, gradients: Vec<Vec<f64>>) -> Self {
        Self { loss, gradients, metrics: BTreeMap::new() }
    }

    /// Adds a metric, a mean over pairs.
    #[must_use]
    pub fn with_metric(mut self, name: impl Into<String>, value: f64) -> Self {
        self.metrics.insert(name.into(), value);
        self
    }
}

/// A preference objective: maps log-probs to a loss and its exact gradient.
///
/// The trainer backpropagates the gradient through the model, so an objective needs no tensor library.
///
/// # Contract
/// - Deterministic: equal batches give equal values.
/// - `loss` is a mean over pairs, so that the trainer may split a batch and weight the parts by their number of
///   pairs. A loss that is no such mean says so by [`Requirements::across_batch`], and is given the whole batch: all
///   micro-batches of all processes.
/// - `gradients[v][k]` is the derivative of `loss` by `batch.views[v].policy[k]`. The contract tests compare it
///   with finite differences.
/// - Finite for every finite input, including log-ratios of +-1e4.
///
/// # Errors
/// [`ComponentError::Failed`] if a required view or reference is missing, or lengths disagree.
pub trait PreferenceObjective: Send + Sync {
    /// Returns the log-probs that [`evaluate`](Self::evaluate) needs. Constant.
    fn requirements(&self) -> Requirements;

    /// Computes loss and gradient of a batch.
    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_built_step_by_step() {
        let views = vec![View::Chosen, View::Rejected];
        let built = Requirements::new([View::Chosen, View::Rejected]).per_token().with_reference();
        let granularity = Granularity::PerToken;
        let expected = Requirements { views, granularity, reference: true, across_batch: false };
        assert_eq!(built, expected);
        assert_eq!(built.across_batch(), Requirements { across_batch: true, ..expected });
    }

    #[test]
    fn a_value_gathers_metrics() {
        let value = ObjectiveValue::new(0.5, vec![vec![1.0]]).with_metric("accuracy", 1.0);
        assert_eq!((value.loss, value.metrics["accuracy"]), (0.5, 1.0));
    }
}
