//! Template context and rendering of the page.

use minijinja::{Environment, HtmlEscape, UndefinedBehavior, Value, context};
use serde::Serialize;
use serde_json::Value as Json;

use crate::report::chart::{self, ChartView, KeyView};
use crate::report::error::ReportError;
use crate::report::examples::{self, IterationExamples};
use crate::report::filmstrip::{Filmstrip, Filmstrips};
use crate::report::held_out::{self, HeldOutView};
use crate::report::run::Run;
use crate::report::summary::{self, Card};
use crate::report::table::Table;
use crate::report::tables;
use crate::report::{FrameSource, figures, outcome, timings, training};

const TEMPLATES: [(&str, &str); 4] = [
    ("run.html", include_str!("templates/run.html")),
    ("chart.html", include_str!("templates/chart.html")),
    ("parts.html", include_str!("templates/parts.html")),
    ("style.css", include_str!("templates/style.css")),
];

/// The whole page.
#[derive(Serialize)]
struct Page {
    title: String,
    version: &'static str,
    single: bool,
    /// What came of each run.
    outcomes: Vec<Outcome>,
    /// Headline of a single run.
    cards: Vec<Card>,
    /// Headline of several runs.
    comparison: Vec<Table>,
    charts: Vec<ChartView>,
    /// Charts for which no run has a value.
    unmeasured: Vec<String>,
    runs: Vec<RunView>,
    strips: Vec<Filmstrip>,
}

/// What came of a run.
#[derive(Serialize)]
struct Outcome {
    run: String,
    sentence: String,
}

/// What is shown of each run.
#[derive(Serialize)]
struct RunView {
    name: String,
    dir: String,
    fingerprint: Option<String>,
    key: KeyView,
    iterations: usize,
    duration: Option<String>,
    /// Whether the judge knew what is true.
    oracle: bool,
    last_evaluated: Option<u32>,
    tables: Vec<Table>,
    examples: Vec<IterationExamples>,
    held_out: Option<HeldOutView>,
    config: Option<String>,
    provenance: Option<String>,
    command: String,
}

/// Renders the page.
pub(crate) fn render(runs: &[Run], frames: &dyn FrameSource) -> Result<String, ReportError> {
    let page = page(runs, frames)?;
    render_page(("report.html", include_str!("templates/report.html")), &page)
}

/// Renders another page in the report's style, from a template name and its source. The template may include `style.css` and
/// `chart.html` (for a variable `chart`, a [`ChartView`]) and import from `parts.html`; its context is the variable `page`.
///
/// # Errors
/// [`ReportError::Template`] for an invalid template.
pub fn render_page((name, source): (&str, &str), page: &impl Serialize) -> Result<String, ReportError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.add_filter("breaks", breaks);
    for (name, source) in TEMPLATES {
        environment.add_template(name, source)?;
    }
    environment.add_template(name, source)?;
    Ok(environment.get_template(name)?.render(context! { page })?)
}

/// A name as HTML that may break behind its separators, but not inside a number.
fn breaks(name: &str) -> Value {
    let mut html = String::new();
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        html.push_str(&HtmlEscape(letter.encode_utf8(&mut [0; 4])).to_string());
        let next = letters.peek();
        let dot = letter == '.' && next.is_some_and(|next| !next.is_ascii_digit());
        if next.is_some() && (matches!(letter, ',' | ';' | '=' | '/' | '_') || dot) {
            html.push_str("<wbr>");
        }
    }
    Value::from_safe_string(html)
}

fn page(runs: &[Run], frames: &dyn FrameSource) -> Result<Page, ReportError> {
    let mut films = Filmstrips::new(frames);
    let single = runs.len() == 1;
    let plots = figures::plots(runs).into_iter().chain(training::plots(runs));
    let (empty, drawn): (Vec<_>, Vec<_>) = plots.partition(|plot| plot.is_empty());
    let views = runs
        .iter()
        .enumerate()
        .map(|(series, run)| run_view(run, series, single, &mut films))
        .collect::<Result<_, _>>()?;
    Ok(Page {
        title: title(runs),
        version: env!("CARGO_PKG_VERSION"),
        single,
        cards: if single { summary::cards(&runs[0]) } else { Vec::new() },
        comparison: match single {
            true => Vec::new(),
            false => summary::comparison(runs).without_empty_columns().split(9),
        },
        outcomes: runs
            .iter()
            .map(|run| Outcome { run: run.name.clone(), sentence: outcome::sentence(run) })
            .collect(),
        charts: drawn.into_iter().map(chart::Plot::view).collect(),
        unmeasured: empty.into_iter().map(|plot| plot.title.to_lowercase()).collect(),
        runs: views,
        strips: films.into_strips(),
    })
}

fn title(runs: &[Run]) -> String {
    match runs {
        [run] => run.name.clone(),
        _ => runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", "),
    }
}

fn run_view(
    run: &Run,
    series: usize,
    single: bool,
    films: &mut Filmstrips<'_>,
) -> Result<RunView, ReportError> {
    films.look_in(&run.dir);
    Ok(RunView {
        name: run.name.clone(),
        dir: run.dir.display().to_string(),
        fingerprint: run.fingerprint.clone(),
        key: chart::key(series),
        iterations: run.summaries.len(),
        duration: timings::duration_of(&run.dir),
        oracle: run.knows_truth(),
        last_evaluated: run.last_evaluation().map(|(iteration, _)| iteration),
        tables: tables::tables(run),
        examples: examples::views(run, films, single)?,
        held_out: held_out::view(run, films)?,
        config: run.config.clone(),
        provenance: run.provenance.as_ref().map(|value| format!("{value:#}")),
        command: command(run),
    })
}

/// The command that made the run, as its provenance has it, or else the one that repeats its config.
fn command(run: &Run) -> String {
    let recorded = run.provenance.as_ref().and_then(|provenance| provenance.get("command"));
    match recorded {
        Some(Json::String(command)) => command.clone(),
        Some(Json::Array(words)) => {
            words.iter().filter_map(Json::as_str).map(quoted).collect::<Vec<_>>().join(" ")
        }
        _ => format!("isr run {}", quoted(&run.dir.join("config.toml").display().to_string())),
    }
}

/// A word as a POSIX shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:,+@%".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_break_behind_separators_and_not_inside_numbers() {
        let html = breaks("isr,train.learning_rate=0.00005<b>").to_string();
        assert_eq!(html, "isr,<wbr>train.<wbr>learning_<wbr>rate=<wbr>0.00005&lt;b&gt;");
    }

    #[test]
    fn commands_are_quoted_for_a_shell() {
        assert_eq!(quoted("-s"), "-s");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }
}
