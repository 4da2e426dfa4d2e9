//! TRL's figures of every loss type (`tests/golden/trl_losses.json`; `excerpt.py` made it).

use isr_api::{ObjectiveBatch, ObjectiveValue, PreferenceObjective, Requirements, View, ViewLogProbs};
use serde_json::Value;

use crate::config::build;
use crate::golden::{assert_all_close, assert_close, numbers};

const TRL: &str = include_str!("../golden/trl_losses.json");
const PAIRS: usize = 6;

fn golden() -> Value {
    serde_json::from_str(TRL).unwrap()
}

fn rows(golden: &Value, key: &str) -> Vec<Vec<f64>> {
    golden[key].as_array().unwrap().iter().map(numbers).collect()
}

/// The batch, or some pairs of it, as the objective wants it.
fn batch(golden: &Value, needs: &Requirements, pairs: std::ops::Range<usize>) -> ObjectiveBatch {
    let tokens = needs.granularity == isr_api::Granularity::PerToken;
    let (policy, reference) = (rows(golden, "policy"), rows(golden, "reference"));
    let view = |&view: &View| {
        let first = if view == View::Chosen { 0 } else { PAIRS };
        let range = first + pairs.start..first + pairs.end;
        let lay = |rows: &[Vec<f64>]| match tokens {
            true => rows.concat(),
            false => rows.iter().map(|row| row.iter().sum()).collect(),
        };
        ViewLogProbs {
            view,
            policy: lay(&policy[range.clone()]),
            reference: if needs.reference { lay(&reference[range.clone()]) } else { Vec::new() },
            lengths: policy[range].iter().map(Vec::len).collect(),
        }
    };
    ObjectiveBatch { views: needs.views.iter().map(view).collect() }
}

fn evaluate(
    golden: &Value,
    objective: &dyn PreferenceObjective,
    pairs: std::ops::Range<usize>,
) -> ObjectiveValue {
    objective.evaluate(&batch(golden, &objective.requirements(), pairs)).unwrap()
}

/// The objective and its settings in this project's words.
fn section(args: &Value) -> (String, String) {
    let loss = args["loss_types"][0].as_str().unwrap();
    let name = if loss == "sigmoid" { "dpo" } else { loss };
    let keys = [
        ("beta", "beta"),
        ("label_smoothing", "label_smoothing"),
        ("tau", "discopop_tau"),
        ("f_div", "f_divergence_type"),
        ("ld_alpha", "ld_alpha"),
    ];
    let lines =
        keys.iter().filter_map(|(theirs, ours)| args.get(*theirs).map(|it| format!("{ours} = {it}\n")));
    (name.to_owned(), lines.collect())
}

/// The loss in float64, or in float32 where TRL cannot compute it in float64.
fn loss(case: &Value) -> f64 {
    case.get("loss_mean_f64").unwrap_or(&case["loss_mean"]).as_f64().unwrap()
}

#[test]
fn every_loss_type_of_trl() {
    let golden = golden();
    let mut checked = 0;
    for (name, case) in golden["cases"].as_object().unwrap() {
        let special = ["dpo.sft", "dpo.sft_beta0.5", "dpo.sigmoid_wpo", "dpo.mpo_sigmoid0.8_bco0.2_sft1.0"];
        if !name.starts_with("dpo.") || special.contains(&name.as_str()) {
            continue;
        }
        let (objective, body) = section(&case["args"]);
        let value = evaluate(&golden, build(&objective, &body).as_ref(), 0..PAIRS);
        assert_close(value.loss, loss(case), 1e-6, name);
        let gradient = match case.get("grad") {
            Some(rows) => rows.as_array().unwrap().iter().flat_map(numbers).collect(),
            None => numbers(&case["grad_wrt_sums"]),
        };
        assert_all_close(&value.gradients.concat(), &gradient, 1e-5, name);
        for (index, single) in case.get("loss_per_example").map(numbers).iter().flatten().enumerate() {
            let value = evaluate(&golden, build(&objective, &body).as_ref(), index..index + 1);
            // Single examples are of the float32 run, where squares of differences lose digits.
            assert_close(value.loss, *single, 5e-6, name);
        }
        checked += 1;
    }
    assert_eq!(checked, 44);
}

/// TRL's weights have `log_sum_sq_probs` subtracted from the log-probs, which a policy does not hand over.
#[test]
fn wpo_is_that_of_trl_but_for_its_alignment() {
    let golden = golden();
    let case = &golden["cases"]["dpo.sigmoid_wpo"];
    let (losses, gradient) = (numbers(&case["loss_per_example"]), numbers(&case["grad_wrt_sums"]));
    let aligned = rows(&golden, "log_sum_sq_probs");
    let mean = |row: &[f64]| row.iter().sum::<f64>() / row.len() as f64;
    for pair in 0..PAIRS {
        let factor = (mean(&aligned[pair]) + mean(&aligned[pair + PAIRS])).exp();
        let value = evaluate(&golden, build("dpo", "wpo = true").as_ref(), pair..pair + 1);
        assert_close(value.loss, losses[pair] * factor, 1e-6, "loss");
        let expected = [gradient[pair], gradient[pair + PAIRS]].map(|slope| slope * factor * PAIRS as f64);
        assert_all_close(&value.gradients.concat(), &expected, 1e-5, "gradient");
    }
}

/// TRL's `sft` is a mean over the batch's tokens: it is subtracted.
#[test]
fn a_mix_is_that_of_trl() {
    let golden = golden();
    let case = &golden["cases"]["dpo.mpo_sigmoid0.8_bco0.2_sft1.0"];
    let sft = &golden["cases"]["dpo.sft"];
    let parts = "parts = [{ weight = 0.8, type = 'dpo' }, { weight = 0.2, type = 'bco_pair', beta = 0.1 }]";
    let value = evaluate(&golden, build("mix", parts).as_ref(), 0..PAIRS);
    assert_close(value.loss, loss(case) - loss(sft), 1e-6, "loss");
    let both = numbers(&case["grad_wrt_sums"]).into_iter().zip(numbers(&sft["grad_wrt_sums"]));
    let expected: Vec<f64> = both.map(|(all, sft)| all - sft).collect();
    assert_all_close(&value.gradients.concat(), &expected, 1e-5, "gradient");
    let with_sft = evaluate(&golden, build("mix", "").as_ref(), 0..PAIRS);
    let ours = evaluate(&golden, build("sft", "").as_ref(), 0..PAIRS);
    assert_close(with_sft.loss, value.loss + ours.loss, 1e-12, "with sft");
}

/// Sums, or means as answers of one token.
fn without_reference(case: &Value) -> ObjectiveBatch {
    let view = |view, key: &str| {
        let policy = numbers(&case[key]);
        ViewLogProbs { view, lengths: vec![1; policy.len()], policy, reference: Vec::new() }
    };
    ObjectiveBatch { views: vec![view(View::Chosen, "chosen_in"), view(View::Rejected, "rejected_in")] }
}

#[test]
fn cpo_simpo_and_alphapo_are_those_of_trl() {
    let golden = golden();
    let mut checked = 0;
    for (name, case) in
        golden["cases"].as_object().unwrap().iter().filter(|(name, _)| name.starts_with("cpo."))
    {
        let args = &case["args"];
        let shared = format!(
            "beta = {}\nlabel_smoothing = {}\ncpo_alpha = 0.0\n",
            args["beta"], args["label_smoothing"]
        );
        let objective = match args["loss_type"].as_str().unwrap() {
            "simpo" => build(
                "simpo",
                &format!("{shared}simpo_gamma = {}\nalpha = {}", args["simpo_gamma"], args["alpha"]),
            ),
            loss => build("cpo", &format!("{shared}loss_type = '{loss}'")),
        };
        let value = objective.evaluate(&without_reference(case)).unwrap();
        assert_close(value.loss, loss(case), 1e-6, name);
        assert_all_close(&value.gradients[0], &numbers(&case["grad_wrt_chosen_in"]), 1e-5, name);
        assert_all_close(&value.gradients[1], &numbers(&case["grad_wrt_rejected_in"]), 1e-5, name);
        checked += 1;
    }
    assert_eq!(checked, 7);
}

#[test]
fn orpo_is_the_likelihood_and_the_odds_ratio_of_trl() {
    let golden = golden();
    let case = &golden["cases"]["orpo.odds_ratio"];
    let value = build("orpo", "beta = 0.1").evaluate(&without_reference(case)).unwrap();
    let chosen = numbers(&case["chosen_in"]);
    let pairs = chosen.len() as f64;
    let likelihood = -chosen.iter().sum::<f64>() / pairs;
    assert_close(value.loss - likelihood, case["minus_mean"].as_f64().unwrap(), 1e-6, "loss");
    let by_chosen: Vec<f64> = value.gradients[0].iter().map(|slope| slope + 1.0 / pairs).collect();
    assert_all_close(&by_chosen, &numbers(&case["grad_of_minus_mean_wrt_chosen_in"]), 1e-5, "chosen");
    let rejected = numbers(&case["grad_of_minus_mean_wrt_rejected_in"]);
    assert_all_close(&value.gradients[1], &rejected, 1e-5, "rejected");
}

/// The pairs with some rows of the file as a further view.
fn with_view(golden: &Value, view: View, policy: &[f64], reference: &[f64]) -> ObjectiveBatch {
    let needs = build("dpo", "").requirements();
    let mut batch = batch(golden, &needs, 0..PAIRS);
    let (policy, reference) = (policy.to_vec(), reference.to_vec());
    batch.views.push(ViewLogProbs { view, policy, reference, lengths: vec![3; PAIRS] });
    batch
}

fn row_sums(golden: &Value, key: &str) -> Vec<f64> {
    rows(golden, key).iter().map(|row| row.iter().sum()).collect()
}

/// TRL has a mismatched answer for each answer; here a pair has one, so it stands for the mean of two.
#[test]
fn kto_is_that_of_trl() {
    let golden = golden();
    let halves = |key: &str| -> Vec<f64> {
        let sums = row_sums(&golden, key);
        (0..PAIRS).map(|pair| (sums[pair] + sums[pair + PAIRS]) / 2.0).collect()
    };
    for name in ["kto_klpos", "kto_klneg", "kto_weights", "apo_zero_unpaired"] {
        let case = &golden["cases"][format!("kto.{name}")];
        let args = &case["args"];
        let body = format!(
            "beta = {}\nloss_type = {}\ndesirable_weight = {}\nundesirable_weight = {}",
            args["beta"], args["loss_type"], args["desirable_weight"], args["undesirable_weight"]
        );
        let reference = if name == "kto_klneg" { "kl_klneg" } else { "kl_klpos" };
        let mut batch = with_view(&golden, View::Mismatched, &halves("kl_policy"), &halves(reference));
        if name == "apo_zero_unpaired" {
            batch.views.pop();
        } else {
            let value = build("kto", &body).evaluate(&batch).unwrap();
            assert_close(value.metrics["kl"], case["kl"].as_f64().unwrap(), 2e-6, name);
            assert_all_close(&value.gradients[2], &[0.0; PAIRS], 0.0, name);
        }
        let value = build("kto", &body).evaluate(&batch).unwrap();
        assert_close(value.loss, loss(case), 1e-6, name);
        assert_all_close(&value.gradients[..2].concat(), &numbers(&case["grad_wrt_sums"]), 1e-5, name);
    }
}

/// Figures by the authors' own functions (`tests/golden/papers.json`; `papers.py` made it).
#[test]
fn mdpo_is_that_of_its_authors() {
    let golden = golden();
    let papers: Value = serde_json::from_str(include_str!("../golden/papers.json")).unwrap();
    let (policy, reference) = (row_sums(&golden, "kl_policy"), row_sums(&golden, "kl_klpos"));
    let batch = with_view(&golden, View::ChosenCorrupted, &policy[..PAIRS], &reference[..PAIRS]);
    for case in papers["mdpo"].as_array().unwrap() {
        let value = build("mdpo", &format!("beta = {}", case["beta"])).evaluate(&batch).unwrap();
        assert_close(value.loss, case["loss"].as_f64().unwrap(), 1e-12, "loss");
        for (gradient, key) in value.gradients.iter().zip(["chosen", "rejected", "corrupted"]) {
            assert_all_close(gradient, &numbers(&case["gradients"][key]), 1e-12, key);
        }
        let parts = ["loss.1_dpo", "loss.2_copo", "loss.3_anchor"].map(|key| value.metrics[key]);
        assert_close(parts.iter().sum(), value.loss, 1e-12, "parts");
        assert!(value.metrics["reward_margin"] != value.metrics["conditional_margin"]);
    }
}

/// The authors count tokens from 1, so their beta is this project's divided by gamma.
#[test]
fn d2po_is_that_of_its_authors() {
    let papers: Value = serde_json::from_str(include_str!("../golden/papers.json")).unwrap();
    for case in papers["d2po"].as_array().unwrap() {
        let (policy, reference) = (rows(case, "policy"), rows(case, "reference"));
        let half = policy.len() / 2;
        let view = |view, range: std::ops::Range<usize>| ViewLogProbs {
            view,
            policy: policy[range.clone()].concat(),
            reference: reference[range.clone()].concat(),
            lengths: policy[range].iter().map(Vec::len).collect(),
        };
        let views = vec![view(View::Chosen, 0..half), view(View::Rejected, half..2 * half)];
        let (beta, gamma) = (case["beta"].as_f64().unwrap(), case["gamma"].as_f64().unwrap());
        let body = format!("beta = {:?}\ngamma = {gamma:?}", beta * gamma);
        let value = build("d2po", &body).evaluate(&ObjectiveBatch { views }).unwrap();
        assert_close(value.loss, case["loss"].as_f64().unwrap(), 1e-12, "loss");
        for (row, gradient) in policy[..half].iter().zip(0..) {
            let start: usize = policy[..gradient].iter().map(Vec::len).sum();
            let slopes = &value.gradients[0][start..start + row.len()];
            assert!(slopes.windows(2).all(|two| (two[1] - gamma * two[0]).abs() < 1e-15));
        }
    }
}
