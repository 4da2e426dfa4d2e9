//! The table of a paper: a row for each model, columns of accuracy and score for each set, in-domain sets first.

pub use isr_analysis::text_table::TableForm;
use isr_analysis::text_table::{latex_escaped, markdown_row};

use crate::figures::Figure;
use crate::result::{Difference, Domain, Results, SetResult};

/// Columns of one domain.
struct Group<'r> {
    title: &'static str,
    sets: Vec<&'r str>,
}

/// Names in the order of their first appearance.
fn distinct<'r>(names: impl Iterator<Item = &'r str>) -> Vec<&'r str> {
    let mut found: Vec<&str> = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

fn groups(results: &Results) -> Vec<Group<'_>> {
    let domains = [(Some(Domain::In), "In-domain"), (Some(Domain::Out), "Out-of-domain"), (None, "")];
    let group = |(domain, title)| {
        let sets = results.results.iter().filter(move |result| result.domain == domain);
        Group { title, sets: distinct(sets.map(|result| result.set.as_str())) }
    };
    domains.into_iter().map(group).filter(|group| !group.sets.is_empty()).collect()
}

/// Accuracy in percent with the half of its interval, and the score.
fn cells(result: Option<&SetResult>, form: TableForm) -> [String; 2] {
    let none = || "-".to_owned();
    let accuracy = result.and_then(|result| result.accuracy.as_ref());
    let accuracy = accuracy.map_or_else(none, |figure| {
        let value = format!("{:.2}", figure.value * 100.0);
        match (figure.interval, form) {
            (Some([low, high]), TableForm::Markdown) => format!("{value} ± {:.2}", (high - low) * 50.0),
            (Some([low, high]), TableForm::Latex) => {
                format!("{value} {{\\scriptsize$\\pm${:.2}}}", (high - low) * 50.0)
            }
            (None, _) => value,
        }
    });
    let score = result.and_then(|result| result.score.as_ref());
    [accuracy, score.map_or_else(none, |figure| format!("{:.2}", figure.value))]
}

/// Mean of the sets' accuracies and scores, which the paper's columns `Avg.` are; of all sets or none.
fn averages(results: &Results, model: &str, sets: &[&str]) -> [String; 2] {
    let mean = |take: fn(&SetResult) -> Option<&Figure>, scale: f64| {
        let values: Option<Vec<f64>> =
            sets.iter().map(|set| Some(take(results.get(model, set)?)?.value)).collect();
        let mean = values.map(|values| scale * values.iter().sum::<f64>() / values.len() as f64);
        mean.map_or_else(|| "-".to_owned(), |mean| format!("{mean:.2}"))
    };
    [mean(|result| result.accuracy.as_ref(), 100.0), mean(|result| result.score.as_ref(), 1.0)]
}

/// The table with its notes: scorers, days, what was left out.
pub fn table(results: &Results, form: TableForm) -> String {
    let groups = groups(results);
    let models = distinct(results.results.iter().map(|result| result.model.as_str()));
    let row = |model: &str| {
        let mut cells_of_row = vec![model.to_owned()];
        for Group { sets, .. } in &groups {
            for set in sets {
                cells_of_row.extend(cells(results.get(model, set), form));
            }
            if sets.len() > 1 {
                cells_of_row.extend(averages(results, model, sets));
            }
        }
        cells_of_row
    };
    let rows: Vec<Vec<String>> = models.into_iter().map(row).collect();
    match form {
        TableForm::Markdown => markdown(results, &groups, &rows),
        TableForm::Latex => latex(results, &groups, &rows),
    }
}

/// Columns of a group: its sets, and their mean where there are several.
fn columns<'r>(group: &Group<'r>) -> Vec<&'r str> {
    let mean = (group.sets.len() > 1).then_some("Avg.");
    group.sets.iter().copied().chain(mean).collect()
}

fn markdown(results: &Results, groups: &[Group<'_>], rows: &[Vec<String>]) -> String {
    let mut head = vec!["Model".to_owned()];
    for group in groups {
        for column in columns(group) {
            let title = if group.title.is_empty() { String::new() } else { format!("{}: ", group.title) };
            head.push(format!("{title}{column} Acc."));
            head.push("Score".to_owned());
        }
    }
    let mut text = markdown_row(&head);
    text.push_str(&format!("|---|{}\n", "--:|".repeat(head.len() - 1)));
    rows.iter().for_each(|row| text.push_str(&markdown_row(row)));
    for note in notes(results) {
        text.push_str(&format!("\n- {note}"));
    }
    text.push('\n');
    text
}

fn latex(results: &Results, groups: &[Group<'_>], rows: &[Vec<String>]) -> String {
    let count: usize = groups.iter().map(|group| 2 * columns(group).len()).sum();
    let mut text = format!(
        "% needs \\usepackage{{booktabs}}\n\\begin{{tabular}}{{l{}}}\n\\toprule\n",
        "c".repeat(count)
    );
    let spans =
        |name: &str, width: usize| format!(" & \\multicolumn{{{width}}}{{c}}{{{}}}", latex_escaped(name));
    if groups.iter().any(|group| !group.title.is_empty()) {
        groups.iter().for_each(|group| text.push_str(&spans(group.title, 2 * columns(group).len())));
        text.push_str(" \\\\\n");
    }
    let names = groups.iter().flat_map(columns);
    text.push_str(&names.map(|column| spans(column, 2)).collect::<String>());
    text.push_str(" \\\\\nModel");
    text.push_str(&" & Acc. & Score".repeat(count / 2));
    text.push_str(" \\\\\n\\midrule\n");
    for row in rows {
        let (model, cells) =
            row.split_first().map_or(("", &[][..]), |(model, cells)| (model.as_str(), cells));
        text.push_str(&latex_escaped(model));
        cells.iter().for_each(|cell| text.push_str(&format!(" & {cell}")));
        text.push_str(" \\\\\n");
    }
    text.push_str("\\bottomrule\n\\end{tabular}\n");
    notes(results).iter().for_each(|note| text.push_str(&format!("% {note}\n")));
    text
}

/// Scorer, days of its replies, and digest of its settings.
fn scored_by(result: &SetResult) -> String {
    let days = match &result.dates {
        Some([first, last]) if first == last => format!(", {first}"),
        Some([first, last]) => format!(", {first} to {last}"),
        None => String::new(),
    };
    format!("{}{days}, settings {}", result.scorer, &result.scorer_fingerprint.as_str()[..8])
}

/// What must stand below a table: who scored when, and what was left out.
fn notes(results: &Results) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    let mut note = |text: String| {
        if !notes.contains(&text) {
            notes.push(text);
        }
    };
    let mut scorers: Vec<(String, Vec<&str>)> = Vec::new();
    for result in &results.results {
        let scorer = scored_by(result);
        match scorers.iter_mut().find(|(other, _)| *other == scorer) {
            Some((_, sets)) if sets.contains(&result.set.as_str()) => {}
            Some((_, sets)) => sets.push(&result.set),
            None => scorers.push((scorer, vec![&result.set])),
        }
    }
    for (scorer, sets) in scorers {
        note(format!("Scorer of {}: {scorer}", sets.join(", ")));
    }
    note("± is half of the 95% interval, clustered by video".to_owned());
    for result in &results.results {
        let SetResult { model, set, questions, missing, quarantined, unparsed, stated, .. } = result;
        let on = format!("{model} on {set}");
        if *unparsed > 0 {
            let percent = |figure: &Option<Figure>| {
                figure
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), |figure| format!("{:.2}", 100.0 * figure.value))
            };
            let example = result.unparsed_examples.first().map_or("", String::as_str).replace('`', "'");
            note(format!(
                "{on}: {unparsed} unparsed, such as `{example}`; accuracy {} without them",
                percent(&stated.accuracy)
            ));
        }
        if *missing > 0 {
            note(format!("{on}: {missing} of {questions} questions have no prediction"));
        }
        if *quarantined > 0 {
            note(format!("{on}: {quarantined} rows in quarantine"));
        }
        for (part, accuracy) in &result.parts {
            note(format!("{on}: accuracy {:.2} of {part} questions", 100.0 * accuracy));
        }
    }
    for Difference { set, first, second, accuracy, .. } in &results.differences {
        if let Some(Figure { value, interval: Some([low, high]), n, .. }) = accuracy {
            let [value, low, high] = [value, low, high].map(|figure| 100.0 * figure);
            note(format!(
                "{second} - {first} on {set}: {value:+.2} [{low:+.2}, {high:+.2}] of {n} in both"
            ));
        }
    }
    notes
}
