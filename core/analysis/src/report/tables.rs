//! Tables of a run, with one row per iteration.

use std::collections::{BTreeMap, BTreeSet};

use isr_api::records::{EvaluationRecord, IterationSummary, QuarantineRecord};

use crate::report::audit;
use crate::report::format::{MISSING, Unit, count, number, words};
use crate::report::run::Run;
use crate::report::table::{Table, with_error};
use crate::report::timings;

/// Most columns side by side on a page.
const COLUMNS: usize = 10;

/// Different reasons quoted for each stage and iteration.
const REASONS: usize = 3;

/// All tables of a run that have a row.
pub(crate) fn tables(run: &Run) -> Vec<Table> {
    let rows = &run.summaries;
    let all = [
        held_out(run),
        judge(run),
        audit::table(run),
        pairs(rows),
        training(rows),
        contexts(rows),
        quarantined(run),
        unfinished(run),
        timings::table(&run.dir),
    ];
    let shown = all.into_iter().filter(|table| !table.rows.is_empty());
    shown.flat_map(|table| table.without_empty_columns().split(COLUMNS)).collect()
}

fn held_out(run: &Run) -> Table {
    let measured: Vec<(String, &EvaluationRecord)> = run
        .base
        .iter()
        .map(|base| ("0 (base)".to_owned(), base))
        .chain(
            run.summaries
                .iter()
                .filter_map(|row| Some((row.iteration.to_string(), row.evaluation.as_ref()?))),
        )
        .collect();
    let greedy = names(measured.iter().map(|(_, evaluation)| &evaluation.greedy));
    let sampled = names(measured.iter().map(|(_, evaluation)| &evaluation.sampled));
    let head = ["iteration", "n", "quarantined"].map(String::from).into_iter();
    let head = head
        .chain(greedy.iter().map(|name| format!("{}, greedy", words(name))))
        .chain(sampled.iter().map(|name| format!("{}, sampled", words(name))));
    let mut table = Table::new("Held-out samples. Rates with their binomial standard error.", head);
    for (label, evaluation) in measured {
        let cells = |names: &[String], of: &BTreeMap<String, f64>| -> Vec<String> {
            let cell = |name: &String| {
                with_error(Unit::of_metric(name), of.get(name).copied(), evaluation.samples)
            };
            names.iter().map(cell).collect()
        };
        let mut row = vec![label, count(evaluation.samples), count(evaluation.quarantined)];
        row.extend(cells(&greedy, &evaluation.greedy));
        row.extend(cells(&sampled, &evaluation.sampled));
        table.rows.push(row);
    }
    table
}

fn judge(run: &Run) -> Table {
    let head = [
        "iteration",
        "verdicts",
        "ties",
        "agrees with the facts",
        "of verdicts",
        "position consistent",
        "longer preferred",
        "mean margin",
    ];
    let caption = match run.knows_truth() {
        true => "The judge: an oracle, which knows what is true.",
        false => "The judge: the model at the start of the iteration.",
    };
    let mut table = Table::new(caption, head);
    // Iterations on pairs of data alone have no judge.
    for row in run.summaries.iter().filter(|row| row.judge.verdicts > 0) {
        let judge = &row.judge;
        table.rows.push(vec![
            row.iteration.to_string(),
            count(judge.verdicts),
            count(judge.ties),
            with_error(Unit::Rate, judge.agreement, judge.agreement_of),
            count(judge.agreement_of),
            with_error(Unit::Rate, Some(judge.position_consistency), judge.verdicts),
            with_error(Unit::Rate, judge.longer_preferred, judge.longer_preferred_of),
            number(judge.margin),
        ]);
    }
    table
}

fn pairs(rows: &[IterationSummary]) -> Table {
    let reasons: Vec<&String> =
        rows.iter().flat_map(|row| row.pairs.dropped.keys()).collect::<BTreeSet<_>>().into_iter().collect();
    let head =
        ["iteration", "samples", "verdicts", "pairs kept", "of data", "share kept"].map(String::from);
    let head = head.into_iter();
    let head = head.chain(reasons.iter().map(|reason| format!("dropped: {}", words(reason))));
    let mut table = Table::new("Preference pairs kept for training, and dropped by reason.", head);
    for row in rows {
        let judged = row.judge.verdicts;
        let of_data = row.pairs.from_data;
        let own = row.pairs.kept.saturating_sub(of_data);
        let share = (judged > 0).then(|| own as f64 / judged as f64);
        let mut cells = vec![
            row.iteration.to_string(),
            count(row.samples),
            count(judged),
            count(row.pairs.kept),
            if of_data > 0 { count(of_data) } else { MISSING.to_owned() },
            Unit::Rate.format_option(share),
        ];
        let dropped = |reason: &&String| count(row.pairs.dropped.get(*reason).copied().unwrap_or(0));
        cells.extend(reasons.iter().map(dropped));
        table.rows.push(cells);
    }
    table
}

fn training(rows: &[IterationSummary]) -> Table {
    let metrics = names(rows.iter().map(|row| &row.training.metrics));
    let head = ["iteration", "answer tokens", "steps", "first loss", "last loss", "gradient norm"];
    let head = head.map(String::from).into_iter().chain(metrics.iter().map(|name| words(name)));
    let caption = "Training. Last loss and the objective's figures are means over the last epoch; answer tokens \
                   are those of the sampled answers that were judged.";
    let mut table = Table::new(caption, head);
    for row in rows {
        let training = &row.training;
        let mut cells = vec![
            row.iteration.to_string(),
            Unit::Tokens.format(row.response_tokens),
            count(usize::try_from(training.steps).unwrap_or(usize::MAX)),
            number(training.first_loss),
            number(training.last_loss),
            number(training.grad_norm),
        ];
        cells.extend(metrics.iter().map(|name| metric(name, &training.metrics)));
        table.rows.push(cells);
    }
    table
}

fn contexts(rows: &[IterationSummary]) -> Table {
    let metrics = names(rows.iter().map(|row| &row.contexts));
    let head = std::iter::once("iteration".to_owned()).chain(metrics.iter().map(|name| words(name)));
    let mut table = Table::new("Visual contexts, measured against the facts.", head);
    for row in rows.iter().filter(|row| !row.contexts.is_empty()) {
        let cells = metrics.iter().map(|name| metric(name, &row.contexts));
        table.rows.push(std::iter::once(row.iteration.to_string()).chain(cells).collect());
    }
    table
}

fn quarantined(run: &Run) -> Table {
    let head = ["iteration", "quarantined", "stage", "reasons"];
    let mut table = Table::new("Samples and videos that could not be processed.", head);
    table.prose = Some(2);
    for journals in &run.journals {
        let mut stages: BTreeMap<&str, Vec<&QuarantineRecord>> = BTreeMap::new();
        for record in &journals.quarantine {
            stages.entry(&record.stage).or_default().push(record);
        }
        let iteration = journals.iteration.to_string();
        let row = |(stage, records): (&str, Vec<&QuarantineRecord>)| {
            vec![iteration.clone(), count(records.len()), stage.to_owned(), reasons(&records)]
        };
        table.rows.extend(stages.into_iter().map(row));
    }
    table
}

/// The first few reasons, each once with how often it occurred, and a subject.
fn reasons(records: &[&QuarantineRecord]) -> String {
    let mut distinct: Vec<(&QuarantineRecord, usize)> = Vec::new();
    for &record in records {
        match distinct.iter().position(|(known, _)| known.reason == record.reason) {
            Some(index) => distinct[index].1 += 1,
            None if distinct.len() < REASONS => distinct.push((record, 1)),
            None => {}
        }
    }
    let line = |(record, times): &(&QuarantineRecord, usize)| match times {
        1 => format!("{}: {}", record.subject, record.reason),
        _ => format!("{} and {} more: {}", record.subject, count(times - 1), record.reason),
    };
    let mut lines: Vec<String> = distinct.iter().map(line).collect();
    let told: usize = distinct.iter().map(|(_, times)| times).sum();
    if told < records.len() {
        lines.push(format!("{} for other reasons", count(records.len() - told)));
    }
    lines.join("\n")
}

fn unfinished(run: &Run) -> Table {
    let head = ["iteration", "contexts", "samples answered", "verdicts", "pairs kept", "optimiser steps"];
    let mut table = Table::new("Not complete yet: what the journals hold so far.", head);
    for journals in run.journals.iter().filter(|journals| !journals.complete) {
        let judged = &journals.judged;
        let counts =
            [judged.contexts, judged.responses, judged.verdicts, judged.pairs, journals.steps.len()];
        table.rows.push(std::iter::once(journals.iteration.to_string()).chain(counts.map(count)).collect());
    }
    table
}

fn metric(name: &str, of: &BTreeMap<String, f64>) -> String {
    of.get(name).map_or_else(|| MISSING.to_owned(), |&value| Unit::of_metric(name).format(value))
}

/// The figures' names, those that readers look for first.
fn names<'a>(of: impl Iterator<Item = &'a BTreeMap<String, f64>>) -> Vec<String> {
    let names: BTreeSet<&String> = of.flat_map(BTreeMap::keys).collect();
    let mut names: Vec<String> = names.into_iter().cloned().collect();
    let first = ["accuracy", "hallucination", "response_tokens"];
    names.sort_by_key(|name| first.iter().position(|known| known == name).unwrap_or(first.len()));
    names
}
