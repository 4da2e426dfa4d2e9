//! The fifth trait: a loss on log-probs, without tensors.

use std::collections::BTreeMap;

use crate::error::ComponentError;

/// A continuation whose log-probs an objective can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum View {
    /// The preferred answer (or the demonstration).
    Chosen,
    /// The answer that lost.
    Rejected,
    /// The preferred answer again, after the same prompt with a corrupted video (mDPO, arXiv 2406.11839): every
    /// frame is cropped to one random window of 1 to 20 % of the area, scaled up to the frame's size.
    ChosenCorrupted,
    /// An answer of another pair, after this pair's prompt (KTO's estimate of the divergence, arXiv 2402.01306).
    Mismatched,
}

impl View {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Chosen, Self::Rejected, Self::ChosenCorrupted, Self::Mismatched];

    /// The name by which plugins in other languages and processes know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chosen => "chosen",
            Self::Rejected => "rejected",
            Self::ChosenCorrupted => "chosen_corrupted",
            Self::Mismatched => "mismatched",
        }
    }

    /// The view of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|view| view.name() == name)
    }
}

/// How finely log-probs are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// One number a pair: the sum over the answer's tokens.
    Summed,
    /// One number a token.
    PerToken,
}

/// What an objective needs; the trainer computes that and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirements {
    /// The views, in the order in which they are handed over.
    pub views: Vec<View>,
    /// Sums or tokens.
    pub granularity: Granularity,
    /// Whether the reference's log-probs are needed.
    pub reference: bool,
}

/// Log-probs of one view for a batch of pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewLogProbs {
    /// Which answer.
    pub view: View,
    /// Under the policy: one number a pair if [`Granularity::Summed`], else all tokens of pair 0,
    /// then of pair 1, and so on.
    pub policy: Vec<f64>,
    /// Under the reference, laid out like `policy`; empty where not required.
    pub reference: Vec<f64>,
    /// Tokens of each pair's answer; one entry a pair.
    pub lengths: Vec<usize>,
}

/// A batch of pairs: one [`ViewLogProbs`] a required view, in the required order.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectiveBatch {
    /// The views.
    pub views: Vec<ViewLogProbs>,
}

impl ObjectiveBatch {
    /// Number of pairs.
    pub fn pairs(&self) -> usize {
        self.views.first().map_or(0, |view| view.lengths.len())
    }

    /// Says what is wrong with a batch for an objective that requires this: for objectives that cannot check
    /// it themselves.
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

    /// The log-probs of a view.
    ///
    /// # Errors
    /// Where the trainer did not hand it over: a bug in the trainer, or a view that the objective
    /// did not require.
    pub fn view(&self, view: View) -> Result<&ViewLogProbs, ComponentError> {
        let found = self.views.iter().find(|candidate| candidate.view == view);
        found.ok_or_else(|| ComponentError::failed(format!("log-probs of {view:?} are missing")))
    }
}

/// An objective's value and gradient on a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectiveValue {
    /// The loss: a mean over pairs.
    pub loss: f64,
    /// d loss / d policy log-prob: one vector a view, laid out like that view's `policy`.
    pub gradients: Vec<Vec<f64>>,
    /// Figures for the training log, means over pairs (`reward_margin`, `accuracy`, ...).
    pub metrics: BTreeMap<String, f64>,
}

/// A preference objective: log-probs in, loss and exact gradient out.
///
/// # Contract
/// - Pure: the same batch gives the same value.
/// - `loss` is a mean over pairs, so the trainer may split a batch and weigh the parts by their
///   number of pairs.
/// - `gradients[v][k]` is the derivative of `loss` by `batch.views[v].policy[k]`; the contract tests
///   compare it with finite differences.
/// - Finite for every finite input, log-ratios of +-1e4 included.
///
/// # Errors
/// A view or reference that it needs is missing, or lengths disagree.
pub trait PreferenceObjective: Send + Sync {
    /// What must be handed to [`evaluate`](Self::evaluate).
    fn requirements(&self) -> Requirements;

    /// Loss and gradient of a batch.
    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError>;
}
