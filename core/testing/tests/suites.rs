//! The suites find what is wrong, and nothing in what is right.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use isr_api::{
    Assessment, ComponentError, Evaluator, FeatureType, Fingerprint, Frames, FrozenPolicy, Judge,
    JudgeCase, LabelledSample, ObjectiveBatch, ObjectiveValue, Orders, PreferenceObjective, Prompt,
    Requirements, RetrospectionCase, Retrospector, Sample, Sampling, Verdict, VideoEncoder, View,
    VisualFeatures, Vote,
};
use isr_testing::{
    Failure, FakePolicy, JudgeRules, ObjectiveRules, encoder, evaluator, judge, objective, policy,
    retrospector,
};

/// A judge that is a function.
struct Says<F>(F);

#[async_trait]
impl<F: Fn(&JudgeCase) -> Result<Verdict, ComponentError> + Send + Sync> Judge for Says<F> {
    async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        (self.0)(case)
    }
}

/// The rules that a judge breaks.
async fn broken(
    says: impl Fn(&JudgeCase) -> Result<Verdict, ComponentError> + Send + Sync + 'static,
) -> Vec<&'static str> {
    rules(&judge(Arc::new(Says(says)), &JudgeRules::default()).await)
}

fn rules(failures: &[Failure]) -> Vec<&'static str> {
    failures.iter().map(|failure| failure.rule).collect()
}

fn plain(p_first: f64) -> Verdict {
    Verdict { p_first, votes: Vec::new(), consistent: true }
}

fn shorter(case: &JudgeCase) -> f64 {
    let (first, second) = (case.first.text.len(), case.second.text.len());
    if first == second { 0.5 } else { f64::from(u8::from(first < second)) }
}

#[tokio::test]
async fn a_judge_that_keeps_the_contract_passes() {
    assert!(broken(|case| Ok(plain(shorter(case)))).await.is_empty());
    // It says that it looks once, and so may lean to a place.
    let leaning = |_: &JudgeCase| {
        Ok(Verdict::from_votes(vec![Vote {
            first_shown_first: Orders::Given.first_shown_first()[0],
            p_first: 0.9,
        }]))
    };
    assert!(broken(leaning).await.is_empty());
    let choosy = |case: &JudgeCase| match case.first.text.is_empty() || case.second.text.is_empty() {
        true => Err(ComponentError::bad_input("an answer is empty")),
        false => Ok(plain(shorter(case))),
    };
    assert!(broken(choosy).await.is_empty());
}

#[tokio::test]
async fn a_judge_without_verdicts_says_why_there_are_none() {
    let refuses = |_: &JudgeCase| Err(ComponentError::bad_input("KeyError: 'answer' (judge.py, line 7)"));
    let found = judge(Arc::new(Says(refuses)), &JudgeRules::default()).await;
    assert_eq!(
        found[0].to_string(),
        "verdicts: 0 of 24 ordinary cases got a verdict; the first that did not: KeyError: 'answer' (judge.py, line 7)"
    );
}

#[tokio::test]
async fn each_way_to_break_the_contract_of_judges_is_found() {
    assert_eq!(broken(|_| Ok(plain(f64::NAN))).await[0], "probability");
    assert_eq!(broken(|_| Ok(plain(1.5))).await[0], "probability");
    assert_eq!(broken(|_| Ok(plain(0.9))).await, ["mirrored"]);
    assert_eq!(broken(|_| Err(ComponentError::bad_input("no"))).await, ["verdicts"]);
    assert_eq!(broken(|_| Err(ComponentError::failed("no"))).await, ["errors", "verdicts"]);
    assert_eq!(broken(|case| Ok(plain(shorter(&case.clone())))).await, [""; 0]);
    let calls = AtomicU64::new(0);
    let drifting =
        move |_: &JudgeCase| Ok(plain(1.0 / (2.0 + calls.fetch_add(1, Ordering::SeqCst) as f64)));
    assert!(broken(drifting).await.contains(&"deterministic"));
    let fragile = |case: &JudgeCase| {
        assert!(!case.first.text.contains('\0'), "a zero byte");
        Ok(plain(shorter(case)))
    };
    let found = judge(Arc::new(Says(fragile)), &JudgeRules::default()).await;
    assert_eq!(rules(&found), ["errors"]);
    assert!(found[0].found.contains("a zero byte as an answer panicked"), "{}", found[0]);
}

#[tokio::test]
async fn state_that_calls_share_is_found() {
    /// Remembers a seed across an await.
    struct Shared(AtomicU64);
    #[async_trait]
    impl Judge for Shared {
        async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
            self.0.store(case.seed % 7, Ordering::SeqCst);
            tokio::task::yield_now().await;
            let seed = self.0.load(Ordering::SeqCst);
            Ok(plain(if shorter(case) == 0.5 {
                0.5
            } else {
                0.5 + 0.05 * seed as f64 * (shorter(case) - 0.5)
            }))
        }
    }
    let found = judge(Arc::new(Shared(AtomicU64::new(0))), &JudgeRules::default()).await;
    assert_eq!(rules(&found), ["concurrent"]);
}

struct Describer(&'static str);

#[async_trait]
impl Retrospector for Describer {
    async fn describe(
        &self,
        case: &RetrospectionCase,
        policy: &FrozenPolicy,
    ) -> Result<String, ComponentError> {
        let before = case.previous.as_ref().map_or("", |context| context.text.as_str());
        match self.0 {
            "good" => {
                let prompt = Prompt::about(&case.scene, format!("describe it. before: {before}"));
                Ok(policy.answer(prompt, Sampling::default(), case.seed).await?.text)
            }
            "empty" => Ok(String::new()),
            _ => Ok(before.split_whitespace().nth(1).map(str::to_owned).unwrap_or_else(|| {
                assert!(case.previous.is_none(), "no second word");
                "a bar".to_owned()
            })),
        }
    }
}

#[tokio::test]
async fn retrospectors_are_checked() {
    let check = async |which| rules(&retrospector(Arc::new(Describer(which)), &Arc::default()).await);
    assert_eq!(check("good").await, [""; 0]);
    assert_eq!(check("empty").await, ["description"]);
    assert_eq!(check("fragile").await, ["errors"]);
}

/// Mean of rejected less chosen log-probs, in several states of health.
struct Difference(&'static str);

impl PreferenceObjective for Difference {
    fn requirements(&self) -> Requirements {
        Requirements::new([View::Chosen, View::Rejected])
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let (chosen, rejected) = match self.0 {
            "careless" => (&batch.views[0], &batch.views[1]),
            _ => (batch.view(View::Chosen)?, batch.view(View::Rejected)?),
        };
        let pairs = chosen.lengths.len();
        if self.0 != "careless" && (chosen.policy.len() != pairs || rejected.policy.len() != pairs) {
            return Err(ComponentError::failed("lengths disagree"));
        }
        let count = if self.0 == "sum" { 1.0 } else { pairs as f64 };
        let differences = (0..pairs).map(|pair| rejected.policy[pair] - chosen.policy[pair]);
        let curved = |it: f64| if self.0 == "overflow" { it.exp() } else { it };
        let loss = differences.map(curved).sum::<f64>() / count;
        let slope = if self.0 == "steep" { 2.0 } else { 1.0 } / count;
        let gradients = vec![vec![-slope; pairs], vec![slope; pairs - usize::from(self.0 == "short")]];
        Ok(ObjectiveValue { loss, gradients, metrics: Default::default() })
    }
}

#[test]
fn objectives_are_checked() {
    let check = |which| rules(&objective(Arc::new(Difference(which)), &ObjectiveRules::default()));
    assert_eq!(check("good"), [""; 0]);
    assert_eq!(check("steep"), ["gradient"]);
    assert_eq!(check("sum"), ["mean"]);
    assert_eq!(check("short"), ["layout"]);
    assert_eq!(check("careless"), ["errors"]);
    assert!(check("overflow").contains(&"finite"));
}

struct Mean(&'static str, AtomicU64);

#[async_trait]
impl VideoEncoder for Mean {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("mean")
    }

    async fn encode(&self, frames: &Frames) -> Result<VisualFeatures, ComponentError> {
        let means = (0..frames.len()).map(|index| {
            let frame = frames.frame(index).filter(|frame| !frame.is_empty());
            let frame = frame.ok_or_else(|| ComponentError::bad_input("a frame is not whole"))?;
            Ok(frame.iter().map(|&it| f32::from(it)).sum::<f32>() / frame.len() as f32)
        });
        let means: Vec<f32> = means.collect::<Result<_, ComponentError>>()?;
        let calls = self.1.fetch_add(1, Ordering::SeqCst) as f32;
        let shift = if self.0 == "drifting" { calls } else { 0.0 };
        let bytes: Vec<u8> = means.iter().flat_map(|mean| (mean + shift).to_le_bytes()).collect();
        let shape = [frames.len(), 1, if self.0 == "long" { 2 } else { 1 }];
        Ok(VisualFeatures { dtype: FeatureType::F32, shape, bytes, encoder: self.fingerprint() })
    }
}

#[tokio::test]
async fn encoders_are_checked() {
    let check = async |which| rules(&encoder(Arc::new(Mean(which, AtomicU64::new(0)))).await);
    assert_eq!(check("good").await, [""; 0]);
    assert_eq!(check("long").await, ["layout"]);
    assert_eq!(check("drifting").await, ["pure", "concurrent"]);
}

#[tokio::test]
async fn the_fake_policy_keeps_the_contract_of_policies() {
    assert_eq!(policy(Arc::new(FakePolicy::default())).await, []);
}

#[tokio::test]
async fn policies_that_draw_from_elsewhere_are_found() {
    let calls = AtomicU64::new(0);
    let fake = FakePolicy::replying(move |_, _| format!("call {}", calls.fetch_add(1, Ordering::SeqCst)));
    let found = rules(&policy(Arc::new(fake)).await);
    assert!(found.contains(&"deterministic"), "{found:?}");
}

/// An evaluator that is a function.
struct Assesses<F>(F);

#[async_trait]
impl<F: Fn(&str) -> Result<Option<f64>, ComponentError> + Send + Sync> Evaluator for Assesses<F> {
    async fn answer(&self, _: &LabelledSample, answer: &str) -> Result<Option<Assessment>, ComponentError> {
        let quality = (self.0)(answer)?;
        Ok(quality.map(|quality| Assessment { quality, ..Assessment::default() }))
    }
}

#[tokio::test]
async fn what_is_wrong_with_an_evaluator_is_found() {
    async fn broken(
        assesses: impl Fn(&str) -> Result<Option<f64>, ComponentError> + Send + Sync + 'static,
    ) -> Vec<&'static str> {
        let sample = Sample { id: "a".into(), video: "a.mp4".into(), instruction: "what?".to_owned() };
        let labelled =
            LabelledSample { sample, reference: "a dog".to_owned(), facts: serde_json::Value::Null };
        rules(&evaluator(Arc::new(Assesses(assesses)), &labelled, "a dog").await)
    }
    let length = |text: &str| Ok(Some(text.len() as f64));
    assert!(broken(length).await.is_empty());
    let choosy = move |text: &str| {
        if text.is_empty() { Err(ComponentError::bad_input("empty")) } else { length(text) }
    };
    assert!(broken(choosy).await.is_empty());
    assert_eq!(broken(|_| Ok(None)).await, ["assessment"]);
    assert_eq!(broken(|text| Ok(Some(1.0 / text.len() as f64))).await, ["finite"]);
    assert_eq!(broken(|text| Ok(Some(f64::from(text.as_bytes()[0])))).await, ["errors"]);
    assert_eq!(broken(|_| Err(ComponentError::failed("down"))).await, ["errors"]);
    let calls = AtomicU64::new(0);
    let counting = move |_: &str| Ok(Some(calls.fetch_add(1, Ordering::Relaxed) as f64));
    assert_eq!(broken(counting).await, ["deterministic", "concurrent"]);
}
