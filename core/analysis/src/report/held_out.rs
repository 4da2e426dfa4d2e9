//! Held-out answers of the starting model and of the last one, side by side.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use crate::report::error::ReportError;
use crate::report::examples::{self, AnswerView};
use crate::report::filmstrip::Filmstrips;
use crate::report::format::{Unit, words};
use crate::report::journal::HeldOutLine;
use crate::report::judged_pairs::shuffle_key;
use crate::report::run::Run;

/// Samples shown.
const SHOWN: usize = 6;
/// Of each kind (better, worse, as good as before), where there are so many.
const OF_EACH: usize = 2;

/// The answers before and after.
#[derive(Serialize)]
pub(crate) struct HeldOutView {
    iteration: u32,
    /// How many samples became better, worse, or neither, by the first figure; in words.
    counts: Option<String>,
    cards: Vec<Card>,
}

#[derive(Serialize)]
struct Card {
    sample: String,
    video: String,
    film: Option<usize>,
    instruction: String,
    answers: Vec<AnswerView>,
    /// `better`, `worse`, `same`, or empty where nothing was measured.
    change: &'static str,
    figures: Vec<Figure>,
}

#[derive(Serialize)]
struct Figure {
    name: String,
    base: String,
    last: String,
}

/// One sample with both answers.
type Couple<'a> = (Option<&'a HeldOutLine>, &'a HeldOutLine);

/// The view; `None` where no held-out answers are on disk.
pub(crate) fn view(run: &Run, films: &mut Filmstrips<'_>) -> Result<Option<HeldOutView>, ReportError> {
    let Some(held_out) = run.held_out.as_ref().filter(|held_out| !held_out.last.is_empty()) else {
        return Ok(None);
    };
    let base: HashMap<_, _> = held_out.base.iter().map(|line| (&line.sample, line)).collect();
    let mut couples: Vec<Couple<'_>> =
        held_out.last.iter().map(|line| (base.get(&line.sample).copied(), line)).collect();
    couples.sort_by_cached_key(|(_, line)| shuffle_key(&line.sample));
    let iteration = held_out.iteration;
    let cards = pick(&couples)
        .into_iter()
        .map(|couple| card(couple, iteration, films))
        .collect::<Result<_, _>>()?;
    Ok(Some(HeldOutView { iteration, counts: counts(&couples), cards }))
}

fn counts(couples: &[Couple<'_>]) -> Option<String> {
    let count = |kind: &str| couples.iter().filter(|couple| change(**couple) == kind).count();
    let (better, worse, same) = (count("better"), count("worse"), count("same"));
    (better + worse + same > 0)
        .then(|| format!("Greedy accuracy: {better} samples better, {worse} worse, {same} the same."))
}

fn pick<'a>(couples: &[Couple<'a>]) -> Vec<Couple<'a>> {
    let mut picked: Vec<usize> = Vec::new();
    for (kind, most) in [("better", OF_EACH), ("worse", OF_EACH), ("same", OF_EACH), ("", SHOWN)] {
        let room = most.min(SHOWN - picked.len());
        let next: Vec<usize> = (0..couples.len())
            .filter(|index| !picked.contains(index) && (kind.is_empty() || change(couples[*index]) == kind))
            .take(room)
            .collect();
        picked.extend(next);
    }
    picked.into_iter().map(|index| couples[index]).collect()
}

/// How accuracy changed.
fn change((base, last): Couple<'_>) -> &'static str {
    let accuracy = |line: &HeldOutLine| line.greedy_metrics.get("accuracy").copied().flatten();
    match base.and_then(accuracy).zip(accuracy(last)) {
        Some((base, last)) if last > base => "better",
        Some((base, last)) if last < base => "worse",
        Some(_) => "same",
        None => "",
    }
}

fn card(couple: Couple<'_>, iteration: u32, films: &mut Filmstrips<'_>) -> Result<Card, ReportError> {
    let (base, last) = couple;
    let mut answers: Vec<AnswerView> =
        base.iter().map(|line| examples::answer("Starting model", &line.greedy, "")).collect();
    answers.push(examples::answer(format!("After iteration {iteration}"), &last.greedy, ""));
    Ok(Card {
        sample: last.sample.to_string(),
        video: last.video.clone(),
        film: films.strip(&last.video, None)?,
        instruction: last.instruction.clone(),
        answers,
        change: change(couple),
        figures: figures(couple),
    })
}

fn figures((base, last): Couple<'_>) -> Vec<Figure> {
    let names: BTreeSet<&String> =
        base.iter().chain([&last]).flat_map(|line| line.greedy_metrics.keys()).collect();
    let shown = names.into_iter().filter(|name| Unit::of_metric(name) != Unit::Tokens);
    let value = |line: Option<&HeldOutLine>, name: &str| {
        let value = line.and_then(|line| line.greedy_metrics.get(name).copied().flatten());
        Unit::of_metric(name).format_option(value)
    };
    shown
        .map(|name| Figure { name: words(name), base: value(base, name), last: value(Some(last), name) })
        .collect()
}
