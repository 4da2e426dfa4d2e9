//! Every judge and every objective in the same run: a swap is one section, and the registry says which there
//! are, so that a new component is in this test, and its example has to run.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use isr_dpo::config::{Loader, RunConfig};
use isr_dpo::records::{Annotation, Choice, ResponseRecord, Summary};
use isr_dpo::registry::{Entry, entries};
use isr_dpo::store::{Journal, read_journal};
use isr_dpo::{
    BuildContext, CancellationToken, Cause, Component, Error, FfmpegConfig, FrozenPolicy, GenerateRequest,
    Kind, Policy, Run, Streams,
};
use isr_server::http::{Auth, ConnectionLimits, listen, serve};
use isr_server::openai::{ServeOptions, Served, router};
use isr_testing::FakePolicy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::support::playground;

/// A policy that judges when it is asked to, which no model of random weights does.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ObligingConfig {}

impl Component for ObligingConfig {
    type Built = Arc<dyn Policy>;

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(obliging()))
    }
}

isr_dpo::register!(Policy "obliging" => ObligingConfig, example = "");

/// What it says of any video; some of it is true.
const CLAIMS: [&str; 9] = [
    "count is one.",
    "count is two.",
    "count is three.",
    "background is dark.",
    "background is light.",
    "background is striped.",
    "background is checked.",
    "in the video the ring is red.",
    "bar moves left.",
];

fn obliging() -> FakePolicy {
    FakePolicy::replying(|request: &GenerateRequest, drawn| {
        let text = request.prompt.transcript();
        let hash = Streams::new(drawn).seed(0, &text, "reply");
        let asked = text.to_lowercase();
        if asked.contains("a or b") {
            ["A", "B"][(hash % 2) as usize].to_owned()
        } else if ["from 0", "from 1", "0 to 10", "1 to 5"].iter().any(|scale| asked.contains(scale)) {
            (1 + hash % 5).to_string()
        } else {
            let told = CLAIMS.iter().enumerate().filter(|(place, _)| hash >> (2 * place) & 3 == 0);
            let told: Vec<&str> = told.map(|(_, claim)| *claim).collect();
            if told.is_empty() { "nothing.".to_owned() } else { told.join(" ") }
        }
    })
}

/// The run of a playground, with one section replaced.
fn with_section(config: &str, section: &str, entry: &Entry, body: &str) -> String {
    let (before, rest) = config.split_once(&format!("[{section}]")).unwrap();
    let (_, after) = rest.split_once("\n[").unwrap();
    format!("{before}[{section}]\ntype = \"{}\"\n{body}\n[{after}", entry.name)
}

/// A run of one iteration in `folder/NAME`.
fn run(runtime: &Runtime, folder: &Path, name: &str, config: &str) -> Result<Summary, Error> {
    let path = |name: &str| folder.join(name).display().to_string();
    let mut overrides = vec![
        format!("data.dir={:?}", path("world")),
        format!("loop.feature_cache_dir={:?}", path("features")),
        "loop.iterations=1".to_owned(),
    ];
    if config.contains("type = \"torch\"") {
        overrides.push(format!("policy.model={:?}", path("model")));
    } else {
        overrides.push(format!("encoder.model={:?}", path("model")));
        // A token of its is a letter.
        overrides.push("loop.sampling.max_new_tokens=300".to_owned());
    }
    let loaded = Loader::new().text(name, config, folder).overrides(overrides).load::<RunConfig>()?;
    runtime.block_on(async { Run::builder(loaded).open(folder.join(name)).await?.run().await })
}

/// That pairs were judged and trained on.
#[track_caller]
fn assert_trained(name: &str, outcome: Result<Summary, Error>) {
    let summary = outcome.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    let [row] = summary.iterations.as_slice() else { panic!("{name}: {summary:?}") };
    assert!(row.pairs.kept > 1, "{name}: {:?}", row.pairs);
    assert!(row.training.steps > 0 && row.training.last_loss.is_finite(), "{name}: {:?}", row.training);
    assert!(row.training.grad_norm > 0.0, "{name}: {:?}", row.training);
    assert!(row.quarantined.is_empty(), "{name}: {:?}", row.quarantined);
}

fn all(kind: Kind) -> impl Iterator<Item = &'static Entry> {
    entries().into_iter().filter(move |entry| entry.kind == kind)
}

#[test]
fn every_objective_trains_the_model_by_a_change_of_one_section() {
    let (folder, runtime) = (playground(), Runtime::new().unwrap());
    let config = fs::read_to_string(folder.path().join("run.toml")).unwrap();
    let random = all(Kind::Judge).find(|entry| entry.name == "random").unwrap();
    let config = with_section(&config, "judge", random, random.example);
    let mut count = 0;
    for entry in all(Kind::Objective) {
        let config = with_section(&config, "objective", entry, entry.example);
        assert_trained(entry.name, run(&runtime, folder.path(), entry.name, &config));
        count += 1;
    }
    assert!(count > 25, "{count}");
}

#[test]
fn every_judge_judges_a_run_by_a_change_of_one_section() {
    let (folder, runtime) = (playground(), Runtime::new().unwrap());
    let path = folder.path();
    let config = fs::read_to_string(path.join("run.toml")).unwrap();
    let policy = Entry { name: "obliging", ..*all(Kind::Policy).find(|it| it.name == "obliging").unwrap() };
    let config = with_section(&config, "policy", &policy, "");
    let (address, stop) = serving(&runtime);
    let mut count = 0;
    for entry in all(Kind::Judge) {
        // What an example cannot know: where the server listens, and which run is annotated.
        let body = match entry.name {
            "http" => replaced(entry.example, "127.0.0.1:8000", &address),
            "human" => replaced(entry.example, "runs/first", &path.join("human").display().to_string()),
            _ => entry.example.to_owned(),
        };
        let config = with_section(&config, "judge", entry, &body);
        let go = || run(&runtime, path, entry.name, &config);
        if entry.name == "human" {
            let error = go().unwrap_err();
            assert!(format!("{error:?}").contains("has no choice"), "{error:?}");
            annotate(&path.join("human"));
        }
        assert_trained(entry.name, go());
        count += 1;
    }
    stop.cancel();
    assert!(count > 15, "{count}");
}

fn replaced(example: &str, from: &str, to: &str) -> String {
    assert!(example.contains(from), "{example}");
    example.replace(from, to)
}

/// The policy behind a server of this process, until the token is cancelled.
fn serving(runtime: &Runtime) -> (String, CancellationToken) {
    let reader = || {
        let config = json!({ "sampling": { "rule": "uniform", "frames": 1 }, "min_frames": 1 });
        let config: FfmpegConfig = serde_json::from_value(config).unwrap();
        config.build(&BuildContext::default()).unwrap()
    };
    let served = Served {
        name: "Qwen/Qwen2.5-VL-7B-Instruct".to_owned(),
        policy: FrozenPolicy::new(Arc::new(obliging())),
        videos: reader(),
        images: reader(),
        encoder: None,
        system: None,
    };
    let router = router(served, ServeOptions::default()).unwrap();
    let listener = runtime.block_on(listen(Ipv4Addr::LOCALHOST.into(), 0, &Auth::Loopback)).unwrap();
    let (address, stop) = (listener.local_addr().unwrap().to_string(), CancellationToken::new());
    runtime.spawn(serve(
        listener,
        router,
        ConnectionLimits::default(),
        stop.clone(),
        Duration::from_secs(1),
    ));
    (address, stop)
}

/// Chooses, for a person, among the answers of the run's first iteration: the longer one.
fn annotate(run: &Path) {
    let path = run.join("iteration-01/responses.jsonl");
    let responses: Vec<ResponseRecord> = read_journal(&path).unwrap();
    let (mut journal, _) = Journal::open(&run.join("annotations.jsonl")).unwrap();
    for record in responses {
        let [first, second] = [0, 1].map(|index| record.responses[index].text.len());
        let line = json!({
            "iteration": 1, "sample": record.sample, "annotator": "ann", "seconds": 2.5,
            "choice": if first < second { Choice::Second } else { Choice::First },
            "first_shown_first": true,
        });
        journal.append(&serde_json::from_value::<Annotation>(line).unwrap()).unwrap();
    }
    journal.sync().unwrap();
}
