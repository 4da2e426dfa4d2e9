//! Judged pairs as the page shows them.

use isr_api::{Choice, FinishReason, Verdict, VisualContext};
use isr_run::store::CountedResponse;
use serde::Serialize;

use crate::report::error::ReportError;
use crate::report::filmstrip::Filmstrips;
use crate::report::format::counted;
use crate::report::judged_pairs::{JudgedPair, Outcome};
use crate::report::run::{Journals, Run};

/// The examples of one iteration.
#[derive(Serialize)]
pub(crate) struct IterationExamples {
    iteration: u32,
    complete: bool,
    /// Unfolded when the page opens.
    open: bool,
    cards: Vec<Example>,
}

#[derive(Serialize)]
struct Example {
    sample: String,
    video: String,
    film: Option<usize>,
    instruction: String,
    answers: Vec<AnswerView>,
    verdict: VerdictView,
    /// `kept`, `dropped` or `undecided`.
    outcome: &'static str,
    context: Option<ContextView>,
    parent: Option<ContextView>,
}

/// An answer with its length.
#[derive(Serialize)]
pub(crate) struct AnswerView {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) length: String,
    /// `chosen`, `rejected` or empty.
    pub(crate) mark: &'static str,
}

#[derive(Serialize)]
struct ContextView {
    iteration: u32,
    text: String,
}

#[derive(Serialize)]
struct VerdictView {
    consistent: bool,
    /// `A is better with p = 0.91`.
    sentence: String,
    rows: Vec<VoteView>,
}

#[derive(Serialize)]
struct VoteView {
    name: String,
    p: String,
    /// Position of the mark on a scale of 0 (B) to 100 (A).
    place: f64,
    mean: bool,
}

/// The examples of every iteration that has some; the last is unfolded if `unfold`.
pub(crate) fn views(
    run: &Run,
    films: &mut Filmstrips<'_>,
    unfold: bool,
) -> Result<Vec<IterationExamples>, ReportError> {
    let with_cases: Vec<&Journals> =
        run.journals.iter().filter(|journals| !journals.judged.shown.is_empty()).collect();
    let last = with_cases.last().map(|journals| journals.iteration);
    let view = |journals: &&Journals| {
        let card = |case| example(case, journals.iteration, films);
        let cards = journals.judged.shown.iter().map(card).collect::<Result<_, _>>()?;
        let open = unfold && Some(journals.iteration) == last;
        Ok(IterationExamples { iteration: journals.iteration, complete: journals.complete, open, cards })
    };
    with_cases.iter().map(view).collect()
}

/// The answer under a name.
pub(crate) fn answer(name: impl Into<String>, answer: &CountedResponse, mark: &'static str) -> AnswerView {
    let cut = match answer.finish_reason {
        FinishReason::Length if answer.is_unanswered() => ", cut at the limit while reasoning",
        FinishReason::Length => ", cut at the limit",
        FinishReason::Stop => "",
    };
    let reasoning = answer.reasoning.map_or_else(String::new, |reasoning| {
        format!(" behind {} of reasoning", counted(reasoning.tokens, "token"))
    });
    let length = format!("{}{reasoning}{cut}", counted(answer.answer_tokens(), "token"));
    AnswerView { name: name.into(), text: answer.text.clone(), length, mark }
}

fn example(case: &JudgedPair, iteration: u32, films: &mut Filmstrips<'_>) -> Result<Example, ReportError> {
    let outcome = match case.outcome {
        Outcome::Kept(_) => "kept",
        Outcome::Dropped => "dropped",
        Outcome::Undecided => "undecided",
    };
    Ok(Example {
        sample: case.sample.to_string(),
        video: case.video.clone(),
        film: films.strip(&case.video, Some(iteration))?,
        instruction: case.instruction.clone(),
        answers: answers(case),
        verdict: verdict(&case.verdict),
        outcome,
        context: case.context.as_ref().map(context),
        parent: case.parent.as_ref().map(context),
    })
}

fn answers(case: &JudgedPair) -> Vec<AnswerView> {
    let mark = |position: usize| match case.outcome {
        Outcome::Kept(chosen) if chosen == position => "chosen",
        Outcome::Kept(_) => "rejected",
        _ => "",
    };
    let view = |(position, (_, text)): (usize, &(usize, CountedResponse))| {
        answer(["A", "B"][position], text, mark(position))
    };
    case.answers.iter().enumerate().map(view).collect()
}

fn context(context: &VisualContext) -> ContextView {
    ContextView { iteration: context.iteration, text: context.text.clone() }
}

fn verdict(verdict: &Verdict) -> VerdictView {
    let row = |name: &str, p: f64, mean: bool| VoteView {
        name: name.to_owned(),
        p: format!("{p:.2}"),
        place: (p.clamp(0.0, 1.0) * 1000.0).round() / 10.0,
        mean,
    };
    let mut rows: Vec<VoteView> = verdict
        .votes
        .iter()
        .map(|vote| {
            row(if vote.first_shown_first { "A shown first" } else { "B shown first" }, vote.p_first, false)
        })
        .collect();
    rows.push(row("mean", verdict.p_first, true));
    let (better, p) = match verdict.choice() {
        Choice::First => ("A", verdict.p_first),
        Choice::Second => ("B", 1.0 - verdict.p_first),
        Choice::Tie => ("neither", 0.5),
    };
    VerdictView {
        consistent: verdict.consistent,
        sentence: format!("{better} is better, p = {p:.2}"),
        rows,
    }
}
