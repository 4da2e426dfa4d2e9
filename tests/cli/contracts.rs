//! Every built-in component of a kind that has a contract keeps it: whatever is registered is checked, with the
//! settings of its example.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use isr_dpo::records::{Annotation, Choice, ResponseRecord};
use isr_dpo::registry::{
    EncoderConfig, Entry, JudgeConfig, ObjectiveConfig, PolicyConfig, RetrospectorConfig, entries,
};
use isr_dpo::store::Journal;
use isr_dpo::{BuildContext, Cause, Judge, Kind, Streams, View};
use isr_testing::{Failure, FakePolicy, JudgeRules, ObjectiveRules, fixtures};
use serde_json::{Value, json};

use crate::support::golden_model;

/// Judges that cannot judge the suite's cases here, and what checks them instead.
const ELSEWHERE: [(&str, &str); 2] = [
    ("http", "plugins/judges/tests/judges/contract.rs, which has a server for it"),
    (
        "reference",
        "plugins/world/src/reference.rs and reference_retrospector.rs, with cases about clips that they know",
    ),
];

/// The section of a config, as the example has it, with what an example cannot have.
fn section(entry: &Entry, folder: &Path) -> Value {
    let mut section: Value = toml::from_str(entry.example).unwrap();
    section["type"] = entry.name.into();
    match (entry.kind, entry.name) {
        (Kind::Policy, _) => {
            section["model"] = json!(golden_model());
            section["batch"] = 8.into();
            section["threads"] = 1.into();
        }
        (Kind::Encoder, _) => section["model"] = json!(golden_model()),
        (Kind::Judge, "human") => {
            section["annotations"] = json!(annotated(folder));
            // The example stops the run for a pair without a choice, as the suite has some.
            section["missing"] = "quarantine".into();
        }
        _ => {}
    }
    section
}

/// A run in which somebody chose the first answer of each case of the suite.
fn annotated(folder: &Path) -> std::path::PathBuf {
    let iteration = folder.join("iteration-01");
    fs::create_dir_all(&iteration).unwrap();
    let (mut responses, _) = Journal::open(&iteration.join("responses.jsonl")).unwrap();
    let annotations = folder.join("annotations.jsonl");
    let (mut choices, _) = Journal::open(&annotations).unwrap();
    for (index, case) in fixtures::cases().into_iter().enumerate() {
        let sample = serde_json::from_value::<isr_dpo::SampleId>(format!("{index}").into()).unwrap();
        let (video, instruction) = (case.scene.key(), case.instruction.clone());
        let both = vec![case.first.clone(), case.second.clone()];
        let record =
            ResponseRecord { sample: sample.clone(), video, instruction, seed: 0, responses: both };
        responses.append(&record).unwrap();
        let annotation = Annotation {
            iteration: 1,
            sample,
            choice: Choice::First,
            first_shown_first: true,
            annotator: "ann".to_owned(),
            seconds: 1.0,
        };
        choices.append(&annotation).unwrap();
    }
    annotations
}

/// A model that names an answer where it is to choose, and else gives points.
fn model() -> Arc<FakePolicy> {
    Arc::new(FakePolicy::replying(|request, drawn| {
        let text = request.prompt.transcript();
        let hash = Streams::new(drawn).seed(0, &text, "reply");
        match text.contains("Reply with A or B") {
            true => if hash % 2 == 0 { "A" } else { "B" }.to_owned(),
            false => (1 + hash % 5).to_string(),
        }
    }))
}

/// What a component breaks; none where nobody has written a contract for its kind.
async fn broken(entry: &Entry, folder: &Path) -> Result<Vec<Failure>, Cause> {
    let (section, cx) = (section(entry, folder), BuildContext::default());
    Ok(match entry.kind {
        Kind::Judge => {
            let judge: Arc<dyn Judge> =
                serde_json::from_value::<Box<dyn JudgeConfig>>(section)?.build(&cx)?;
            isr_testing::judge(judge, &JudgeRules { policy: model(), ..Default::default() }).await
        }
        Kind::Retrospector => {
            let config: Box<dyn RetrospectorConfig> = serde_json::from_value(section)?;
            isr_testing::retrospector(config.build(&cx)?, &Arc::default()).await
        }
        Kind::Encoder => {
            let config: Box<dyn EncoderConfig> = serde_json::from_value(section)?;
            isr_testing::encoder(config.build(&cx)?).await
        }
        Kind::Policy => {
            let config: Box<dyn PolicyConfig> = serde_json::from_value(section)?;
            isr_testing::policy(config.build(&cx)?).await
        }
        Kind::Objective => {
            let config: Box<dyn ObjectiveConfig> = serde_json::from_value(section)?;
            let objective = config.build(&cx)?;
            // Mismatched answers estimate a constant of the batch; `aot` compares its pairs.
            let estimates = objective.requirements().views.contains(&View::Mismatched);
            let splits = !(estimates || entry.name.starts_with("aot"));
            let rules = ObjectiveRules { splits, constant: vec![View::Mismatched], ..Default::default() };
            isr_testing::objective(objective, &rules)
        }
        _ => Vec::new(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_built_in_component_keeps_the_contract_of_its_kind() {
    let folder = tempfile::tempdir().unwrap();
    let mut checked = 0;
    // `obliging` is these tests' own (`swaps.rs`); the program does not have it.
    for entry in entries().into_iter().filter(|entry| entry.name != "obliging") {
        if matches!(entry.kind, Kind::Judge | Kind::Retrospector)
            && ELSEWHERE.iter().any(|(name, _)| *name == entry.name)
        {
            continue;
        }
        let found = broken(entry, folder.path()).await;
        let found =
            found.unwrap_or_else(|cause| panic!("{} {}: {cause}", entry.kind.section(), entry.name));
        assert_eq!(found, [], "{} {}", entry.kind.section(), entry.name);
        checked += 1;
    }
    assert!(checked > 40, "{checked}");
}
