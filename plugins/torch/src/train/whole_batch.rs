//! Evaluation of an objective on a whole batch: the log-probs of all micro-batches of all processes.

use isr_api::{
    ComponentError, Granularity, ObjectiveBatch, ObjectiveValue, PreferenceObjective, Requirements,
    ViewLogProbs,
};

use super::parallel::{Processes, misread};
use crate::error::{Result, TorchError};

/// Log-probs of a whole batch, by view; in a view by process, then micro-batch.
pub(super) struct WholeBatch {
    batch: ObjectiveBatch,
    /// Numbers of each view of the processes before this one.
    before: Vec<usize>,
    /// Numbers of each view of each of this process's micro-batches.
    own: Vec<Vec<usize>>,
}

impl WholeBatch {
    /// Gathers the log-probs of this process's micro-batches and those of the others.
    pub(super) fn gather(
        processes: &Processes,
        needs: &Requirements,
        micro_batches: Result<Vec<Vec<ViewLogProbs>>>,
    ) -> Result<Self> {
        let numbers =
            |views: &Vec<ViewLogProbs>| views.iter().map(|view| view.policy.len()).collect::<Vec<_>>();
        let own =
            micro_batches.as_ref().map_or_else(|_| Vec::new(), |all| all.iter().map(numbers).collect());
        let told = micro_batches.map(|all| to_bytes(&joined(needs, all)));
        let mut parts = Vec::new();
        for (rank, told) in processes.agree(told)?.iter().enumerate() {
            parts.push(from_bytes(needs, told).ok_or_else(|| misread(rank))?);
        }
        let before = (0..needs.views.len())
            .map(|view| parts[..processes.rank()].iter().map(|part| part[view].policy.len()).sum())
            .collect();
        Ok(Self { batch: ObjectiveBatch { views: joined(needs, parts) }, before, own })
    }

    /// Evaluates an objective. Returns its value, and for each of this process's micro-batches the gradient by view.
    ///
    /// # Errors
    /// A gradient of another size than the batch.
    pub(super) fn evaluate(
        self,
        objective: &dyn PreferenceObjective,
    ) -> Result<(ObjectiveValue, Vec<Vec<Vec<f64>>>)> {
        let value = objective.evaluate(&self.batch).map_err(failed)?;
        let expected: Vec<usize> = self.batch.views.iter().map(|view| view.policy.len()).collect();
        let found: Vec<usize> = value.gradients.iter().map(Vec::len).collect();
        if found != expected {
            let text =
                format!("the objective's gradients have {found:?} numbers by view (expected {expected:?})");
            return Err(TorchError::Objective(text));
        }
        let mut starts = self.before;
        let slice = |numbers: Vec<usize>| {
            let of_view = |(view, count): (usize, usize)| {
                let start = starts[view];
                starts[view] += count;
                value.gradients[view][start..start + count].to_vec()
            };
            numbers.into_iter().enumerate().map(of_view).collect::<Vec<_>>()
        };
        let slices = self.own.into_iter().map(slice).collect();
        Ok((value, slices))
    }
}

/// Wraps an objective's error.
pub(super) fn failed(error: ComponentError) -> TorchError {
    TorchError::Objective(format!("the objective failed: {error}"))
}

/// Appends the views of parts of a batch, each to the one before it.
fn joined(needs: &Requirements, parts: Vec<Vec<ViewLogProbs>>) -> Vec<ViewLogProbs> {
    let empty =
        |view| ViewLogProbs { view, policy: Vec::new(), reference: Vec::new(), lengths: Vec::new() };
    let mut all: Vec<ViewLogProbs> = needs.views.iter().copied().map(empty).collect();
    for part in parts {
        for (view, mut next) in all.iter_mut().zip(part) {
            view.policy.append(&mut next.policy);
            view.reference.append(&mut next.reference);
            view.lengths.append(&mut next.lengths);
        }
    }
    all
}

/// Returns the number of pairs, and of each view lengths, log-probs and log-probs of the reference, as 8-byte numbers.
fn to_bytes(views: &[ViewLogProbs]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let pairs = views.first().map_or(0, |view| view.lengths.len());
    bytes.extend((pairs as u64).to_le_bytes());
    for view in views {
        bytes.extend(view.lengths.iter().flat_map(|&length| (length as u64).to_le_bytes()));
        bytes.extend(view.policy.iter().chain(&view.reference).flat_map(|value| value.to_le_bytes()));
    }
    bytes
}

/// Reads what [`to_bytes`] has written; `None` if it is of another form.
fn from_bytes(needs: &Requirements, bytes: &[u8]) -> Option<Vec<ViewLogProbs>> {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut words = words.iter();
    let mut take = |count: usize| {
        let (taken, behind) = words.as_slice().split_at_checked(count)?;
        words = behind.iter();
        Some(taken.to_vec())
    };
    let whole =
        |words: Vec<[u8; 8]>| words.into_iter().map(|word| u64::from_le_bytes(word) as usize).collect();
    let real = |words: Vec<[u8; 8]>| words.into_iter().map(f64::from_le_bytes).collect();
    let counts: Vec<usize> = whole(take(1)?);
    let mut views = Vec::new();
    for view in &needs.views {
        let lengths: Vec<usize> = whole(take(counts[0])?);
        let numbers = match needs.granularity {
            Granularity::Summed => lengths.len(),
            Granularity::PerToken => lengths.iter().sum(),
        };
        let policy = real(take(numbers)?);
        let reference = real(take(if needs.reference { numbers } else { 0 })?);
        views.push(ViewLogProbs { view: *view, policy, reference, lengths });
    }
    (rest.is_empty() && take(1).is_none()).then_some(views)
}

#[cfg(test)]
mod tests {
    use isr_api::View;

    use super::*;

    #[test]
    fn log_probs_cross_to_the_bit_and_messages_of_another_form_are_refused() {
        let plain = Requirements::new([View::Chosen, View::Rejected]);
        for needs in [plain.clone(), plain.clone().with_reference(), plain.with_reference().per_token()] {
            let numbers = |count: usize| (0..count).map(|at| -1.0 / (at as f64 + 3.0)).collect::<Vec<_>>();
            let lengths = vec![2, 3];
            let count = if needs.granularity == Granularity::PerToken { 5 } else { 2 };
            let view = |view: &View| ViewLogProbs {
                view: *view,
                policy: numbers(count),
                reference: if needs.reference { numbers(count) } else { Vec::new() },
                lengths: lengths.clone(),
            };
            let views: Vec<ViewLogProbs> = needs.views.iter().map(view).collect();
            let bytes = to_bytes(&views);
            assert_eq!(from_bytes(&needs, &bytes).unwrap(), views);
            assert_eq!(from_bytes(&needs, &bytes[8..]), None);
            assert_eq!(from_bytes(&needs, &bytes[..bytes.len() - 8]), None);
            assert_eq!(from_bytes(&needs, &[bytes.as_slice(), &[0]].concat()), None);
            let none = joined(&needs, Vec::new());
            assert_eq!(from_bytes(&needs, &to_bytes(&none)).unwrap(), none);
        }
    }
}
