//! A run's figures as a table, one row an iteration.

use isr_api::records::{EvaluationRecord, Summary};

use super::output::aligned;

/// Figures of the evaluation that have a column, where the evaluator has them.
const FIGURES: [&str; 4] = ["accuracy", "precision", "hallucination", "response_tokens"];

/// The table, or nothing where no iteration is complete. Evaluation columns: greedy answers.
pub(super) fn render(summary: &Summary) -> String {
    let evaluations =
        summary.base.iter().chain(summary.iterations.iter().filter_map(|it| it.evaluation.as_ref()));
    let known: Vec<_> = evaluations.collect();
    let figures: Vec<_> =
        FIGURES.into_iter().filter(|name| known.iter().any(|it| it.greedy.contains_key(*name))).collect();
    let fixed = ["iteration", "pairs", "loss", "agreement"];
    let mut rows = vec![fixed.into_iter().chain(figures.iter().copied()).map(str::to_owned).collect()];
    if let Some(base) = &summary.base {
        let start = ["start", "", "", ""].map(str::to_owned).into_iter();
        rows.push(start.chain(cells(Some(base), &figures)).collect());
    }
    for row in &summary.iterations {
        let agreement = row.judge.agreement.map(decimal).unwrap_or_default();
        let fixed = [
            row.iteration.to_string(),
            row.pairs.kept.to_string(),
            decimal(row.training.last_loss),
            agreement,
        ];
        rows.push(fixed.into_iter().chain(cells(row.evaluation.as_ref(), &figures)).collect());
    }
    let oracle = summary.iterations.iter().any(|row| row.judge.oracle);
    let note = if oracle { "the judge is an oracle: it knows what is true\n" } else { "" };
    aligned(&rows) + note
}

fn cells(evaluation: Option<&EvaluationRecord>, figures: &[&str]) -> Vec<String> {
    let value = |name: &&str| evaluation.and_then(|it| it.greedy.get(*name).copied());
    figures.iter().map(|name| value(name).map(decimal).unwrap_or_default()).collect()
}

fn decimal(value: f64) -> String {
    format!("{value:.3}")
}
