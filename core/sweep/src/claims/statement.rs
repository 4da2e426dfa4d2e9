//! `[[claims]]` of a sweep file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::SweepError;
use crate::expand::Arm;
use crate::file::SweepFile;
use crate::metrics::{JUDGE_METRICS, PAIR_METRICS};
use crate::plan::{Member, setting};

/// An entry of `[[claims]]`: a comparison of two arms, or of two iterations of an arm, over all bases and seeds.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The claim as a sentence: `"Retrospection raises accuracy"`.
    pub name: String,
    /// The arm that the claim is about.
    pub arm: String,
    /// Iteration of the arm; 0 is the starting model. Default: its last.
    pub iteration: Option<u32>,
    /// The arm that it is compared with; may be the same arm at another iteration.
    pub against: String,
    /// Iteration of `against`. Default: `iteration` if that is given, else its last.
    pub against_iteration: Option<u32>,
    /// Metric, named as in `sweep.json`: `greedy.accuracy`.
    pub metric: String,
    /// What is claimed of the metric's difference, `arm` minus `against`: `higher`, `lower`, or `differs`.
    pub direction: Direction,
    /// Smallest difference of interest, above 0, in the metric's unit (0.01 of an accuracy is a percentage point). A difference that is
    /// shown to be smaller makes the claim not hold. Default: none.
    pub margin: Option<f64>,
}

/// Direction of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// `arm` has the higher value.
    Higher,
    /// `arm` has the lower value.
    Lower,
    /// The values differ, in either direction.
    Differs,
}

/// A claim with its iterations resolved, as in `claims.json` and `sweep.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The claim as a sentence.
    pub name: String,
    /// The arm that the claim is about.
    pub arm: String,
    /// Iteration of the arm; 0 is the starting model.
    pub iteration: u32,
    /// The arm that it is compared with.
    pub against: String,
    /// Iteration of that arm.
    pub against_iteration: u32,
    /// The metric.
    pub metric: String,
    /// What is claimed of the difference `arm` minus `against`.
    pub direction: Direction,
    /// Smallest difference of interest; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
}

impl Comparison {
    /// The difference in words: `isr − random, greedy.accuracy after iteration 9`.
    pub fn difference(&self) -> String {
        let Self { arm, iteration, against, against_iteration, metric, .. } = self;
        if iteration == against_iteration {
            return format!("{arm} \u{2212} {against}, {metric} after iteration {iteration}");
        }
        format!(
            "{arm} after iteration {iteration} \u{2212} {against} after iteration {against_iteration}, {metric}"
        )
    }

    /// Whether both compare the same two values, in either order.
    fn is_of_the_same(&self, other: &Self) -> bool {
        let sides = |it: &Self| {
            let mut sides = [(it.arm.clone(), it.iteration), (it.against.clone(), it.against_iteration)];
            sides.sort();
            sides
        };
        self.metric == other.metric && sides(self) == sides(other)
    }
}

impl SweepFile {
    /// Why claims cannot be decided, as far as the sweep file alone tells.
    pub(crate) fn problem_of_claims(&self) -> Option<String> {
        for (index, Claim { name, margin, .. }) in self.claims.iter().enumerate() {
            if name.trim().is_empty() || name.chars().any(char::is_control) {
                return Some(format!(
                    "`name` of claim {} is {name:?}; write the claim as a sentence on one line",
                    index + 1
                ));
            }
            if self.claims[..index].iter().any(|other| other.name == *name) {
                return Some(format!("two claims are named {name:?}; reword or remove one"));
            }
            if let Some(margin) = margin.filter(|margin| !(margin.is_finite() && *margin > 0.0)) {
                return Some(format!(
                    "claim {name:?}: `margin` is {margin}; it must be above 0, or left out"
                ));
            }
        }
        let alone = self.seeds.len() < 2 && self.bases.len() < 2;
        (alone && !self.claims.is_empty()).then(|| {
            "`claims` need an interval, and of one seed there is none; name two `seeds` or more, five for a study"
                .to_owned()
        })
    }
}

/// Resolves the claims of a file. `members` are all runs, arm by arm.
///
/// # Errors
/// [`SweepError::Unusable`] for arms, iterations and metrics that the sweep does not have, and for comparisons that are made twice.
pub(crate) fn comparisons(
    file: &SweepFile,
    arms: &[Arm],
    members: &[Member],
) -> Result<Vec<Comparison>, SweepError> {
    let mut all: Vec<Comparison> = Vec::new();
    for claim in &file.claims {
        let refused = |problem| SweepError::Unusable(format!("claim {:?}: {problem}", claim.name));
        let found = comparison(claim, arms, members).map_err(refused)?;
        if let Some(other) = all.iter().find(|other| other.is_of_the_same(&found)) {
            let text = format!("it compares what {:?} compares; keep one of them", other.name);
            return Err(refused(text));
        }
        all.push(found);
    }
    Ok(all)
}

fn comparison(claim: &Claim, arms: &[Arm], members: &[Member]) -> Result<Comparison, String> {
    let runs = |key: &str, name: &str| -> Result<Vec<&Member>, String> {
        let index = arms.iter().position(|arm| arm.name == name).ok_or_else(|| {
            let names: Vec<_> = arms.iter().map(|arm| arm.name.as_str()).take(20).collect();
            format!("`{key}` is `{name}`, which is no arm; arms: {}", names.join("; "))
        })?;
        Ok(members.iter().filter(|member| member.arm == index).collect())
    };
    let (of_arm, of_against) = (runs("arm", &claim.arm)?, runs("against", &claim.against)?);
    let last = |runs: &[&Member]| runs.iter().map(|run| run.iterations()).min().unwrap_or(0);
    let iteration = claim.iteration.unwrap_or_else(|| last(&of_arm));
    let against_iteration =
        claim.against_iteration.or(claim.iteration).unwrap_or_else(|| last(&of_against));
    if claim.arm == claim.against && iteration == against_iteration {
        return Err(format!(
            "it compares iteration {iteration} of `{}` with itself; name another arm, or an `against_iteration`",
            claim.arm
        ));
    }
    for (runs, key, iteration) in
        [(of_arm, "iteration", iteration), (of_against, "against_iteration", against_iteration)]
    {
        let most = last(&runs);
        if iteration > most {
            return Err(format!("`{key}` is {iteration}, of {most} iterations; choose one up to {most}"));
        }
        if let Some(problem) = runs.iter().find_map(|run| problem_of_metric(&claim.metric, iteration, run))
        {
            return Err(problem);
        }
    }
    Ok(Comparison {
        name: claim.name.clone(),
        arm: claim.arm.clone(),
        iteration,
        against: claim.against.clone(),
        against_iteration,
        metric: claim.metric.clone(),
        direction: claim.direction,
        margin: claim.margin,
    })
}

/// Why a run will not have a metric, as far as its config tells: which metrics an evaluator or an objective has, only they know.
fn problem_of_metric(metric: &str, iteration: u32, run: &Member) -> Option<String> {
    let has = |path: &str| setting(&run.config.settings, path).is_some_and(|section| !section.is_null());
    let (group, name) = metric.split_once('.').unwrap_or(("", metric));
    let is_evaluated = matches!(group, "greedy" | "sampled");
    let is_known = match group {
        "" => ["samples", "quarantined"].contains(&name),
        "judge" => JUDGE_METRICS.contains(&name),
        "pairs" => PAIR_METRICS.contains(&name),
        "responses" => name == "tokens",
        "greedy" | "sampled" | "contexts" | "training" => !name.is_empty(),
        _ => false,
    };
    if !is_known {
        return Some(format!(
            "`{metric}` is no metric; there are greedy.*, sampled.*, contexts.*, training.*, judge.{{{}}}, pairs.{{{}}}, \
             responses.tokens, samples and quarantined (sweep.json names those of earlier runs)",
            JUDGE_METRICS.join(","),
            PAIR_METRICS.join(",")
        ));
    }
    let arm = &run.config.value.name;
    if (is_evaluated || group == "contexts") && !has("evaluator") {
        return Some(format!(
            "`{metric}` is the evaluator's, and run `{arm}` has none; name an `evaluator`"
        ));
    }
    if group == "contexts" && !has("retrospector") {
        return Some(format!("`{metric}` is of visual contexts, and run `{arm}` has no `retrospector`"));
    }
    if iteration == 0 && !is_evaluated {
        return Some(format!(
            "iteration 0 is the starting model, which has greedy.* and sampled.* alone, no `{metric}`"
        ));
    }
    (iteration == 0 && !run.config.value.evaluation.base).then(|| {
        format!("run `{arm}` does not evaluate its starting model, iteration 0; set `evaluation.base`")
    })
}
