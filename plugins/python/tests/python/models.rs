//! Policies and encoders: the contract suites, training, videos and modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isr_api::{
    BuildContext, ComponentError, Continuation, GenerateRequest, ObjectiveBatch, ObjectiveValue, Policy,
    PreferenceObjective, Progress, Prompt, Requirements, Sampling, ScoreRequest, StepReport, Target,
    TokenLogProbs, TrainExample, TrainStep, VideoEncoder, View,
};
use isr_config::plugin::{Plugin, PluginFile, PluginSettings};
use isr_testing::fixtures::{frames, scene};
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;

use crate::hostile::assert_quarantines;
use crate::support::{File, load};

/// A policy `it` with a token of log-prob -0.5 a word, whose weights are a number, and its faults.
pub(crate) const POLICY: &str = r#"
from isr_plugin import _models

_call = _models.Models.call

def answering(method, value):
    "Answers a method past the checks of the package."
    def call(self, call):
        return value(call) if call["method"] == method else _call(self, call)
    _models.Models.call = call

class _Base(Policy):
    micro_batch = 2
    weights = 0

    def fingerprint(self):
        return f"w{self.weights}"

    def generate(self, request):
        return [Response("a b", [1, 2], [-0.5, -0.25], "stop") for _ in range(request.n)]

    def scored(self, continuation):
        tokens = continuation.token_ids or [len(word) for word in (continuation.text or "").split()]
        return Scored(tokens, [-0.5] * len(tokens))

    def score(self, request):
        return [self.scored(it) for it in request.continuations]

    def forward(self, sequences, step, seed):
        return [self.scored(it.continuation) for it in sequences]

    def backward(self, gradients):
        pass

    def apply(self, step, learning_rate, max_grad_norm):
        self.weights += 1
        return 1.0

    def zero(self):
        pass

    def save(self, dir, what):
        open(os.path.join(dir, "weights"), "w").write(str(self.weights))

    def load(self, dir, what):
        self.weights = int(open(os.path.join(dir, "weights")).read())

"#;

pub(crate) fn built(file: &File) -> Result<Arc<dyn Policy>, String> {
    policy(&*file.load()?, "it", &json!({}))
}

fn policy(plugin: &dyn Plugin, name: &str, settings: &Value) -> Result<Arc<dyn Policy>, String> {
    let (settings, cx) = (settings.as_object().unwrap(), &BuildContext::default());
    plugin.policy(name, &PluginSettings { settings, cx }).map_err(|error| error.to_string())
}

pub(crate) fn encoder(plugin: &dyn Plugin, name: &str) -> Result<Arc<dyn VideoEncoder>, String> {
    let (settings, cx) = (&serde_json::Map::new(), &BuildContext::default());
    plugin.encoder(name, &PluginSettings { settings, cx }).map_err(|error| error.to_string())
}

/// A policy with other methods, written at the margin, behind other statements.
pub(crate) fn file(before: &str, methods: &str) -> File {
    let methods: String = methods.lines().map(|line| format!("    {line}\n")).collect();
    File::new(&format!("{POLICY}\n{before}\nclass It(_Base):\n    'A policy.'\n{methods}"))
}

fn example(kind: &str, name: &str) -> Arc<dyn Plugin> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/plugins");
    load(&root.join(format!("{kind}-python/{name}.py")), &PluginFile::default()).unwrap()
}

pub(crate) fn request(n: usize) -> GenerateRequest {
    let sampling = Sampling { max_new_tokens: 4, ..Sampling::default() };
    GenerateRequest { prompt: Prompt::about(&scene(), "what colour is the bar?"), sampling, n, seed: 3 }
}

fn pair(chosen: &str, rejected: &str) -> TrainExample {
    let target =
        |text: &str| Target { continuation: Continuation::Answer(text.to_owned()), reference: None };
    TrainExample::new(request(1).prompt, target(chosen), Some(target(rejected)))
}

pub(crate) fn step(examples: Vec<TrainExample>, step: u64) -> TrainStep {
    TrainStep { examples, step, learning_rate: 0.5, max_grad_norm: Some(1.0), seed: 9 }
}

/// Mean over pairs of `-margin`, by token where `requirements` say so; across the batch, the square of the mean margin.
pub(crate) struct Margin(Requirements);

impl Margin {
    pub(crate) fn plain() -> Arc<Self> {
        Arc::new(Self(Requirements::new([View::Chosen, View::Rejected])))
    }
}

impl PreferenceObjective for Margin {
    fn requirements(&self) -> Requirements {
        self.0.clone()
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        batch.check(&self.0).map_err(ComponentError::failed)?;
        let sum = |view| -> Result<f64, ComponentError> {
            let view = batch.view(view)?;
            Ok(view.policy.iter().sum::<f64>() - view.reference.iter().sum::<f64>())
        };
        let count = batch.pairs() as f64;
        let margin = (sum(View::Chosen)? - sum(View::Rejected)?) / count;
        let (loss, slope) = match self.0.across_batch {
            true => ((margin - 3.0).powi(2), 2.0 * (margin - 3.0) / count),
            false => (-margin, -1.0 / count),
        };
        let signs = [slope, -slope];
        let both = batch.views.iter().zip(signs).map(|(view, slope)| vec![slope; view.policy.len()]);
        Ok(ObjectiveValue::new(loss, both.collect()).with_metric("margin", margin))
    }
}

pub(crate) async fn train(policy: &Arc<dyn Policy>, number: u64) -> Result<StepReport, ComponentError> {
    let examples = vec![pair("a b", "c"), pair("d", "e f"), pair("g", "h")];
    policy.train_step(step(examples, number), Margin::plain()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_a_policy_keeps_the_contract_of_policies() {
    let policy = policy(&*example("policy", "colour_words"), "colour_words", &json!({})).unwrap();
    assert!(policy.reads_frames() && policy.encoder().is_none());
    let found = isr_testing::policy(policy).await;
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_an_encoder_keeps_the_contract_of_encoders() {
    let encoder = encoder(&*example("encoder", "mean_colour"), "mean_colour").unwrap();
    let clip = frames(2, 4, 4);
    let features = encoder.encode(&clip).await.unwrap();
    assert_eq!((features.shape, &features.encoder), ([2, 4, 3], &encoder.fingerprint()));
    let mean = clip.rgb.chunks(3).enumerate().filter(|(at, _)| at % 4 < 2 && at / 4 < 2);
    let mean: f64 = mean.map(|(_, pixel)| f64::from(pixel[0])).sum::<f64>() / 4.0 / 255.0;
    let first = f32::from_le_bytes(features.bytes[..4].try_into().unwrap());
    assert!((f64::from(first) - mean).abs() < 1e-6, "{first} {mean}");
    let found = isr_testing::encoder(encoder).await;
    assert!(found.is_empty(), "{found:#?}");
}

/// What two steps do to the scores of two texts, with micro-batches of this size.
async fn trained(micro_batch: usize, needs: &Requirements) -> (Vec<StepReport>, Vec<TokenLogProbs>) {
    let plugin = example("policy", "colour_words");
    let policy = policy(&*plugin, "colour_words", &json!({"micro_batch": micro_batch})).unwrap();
    let mut examples = vec![
        pair("the bar is red", "no"),
        pair("it is blue", "the bar moves up"),
        pair("yes", "it is still"),
        pair("red", "blue and green"),
        pair("a red bar", "a square"),
    ];
    let mut reports = Vec::new();
    for number in 0..2 {
        for example in &mut examples {
            let prompt = example.prompt.clone();
            for target in [Some(&mut example.chosen), example.rejected.as_mut()].into_iter().flatten() {
                let continuations = vec![target.continuation.clone()];
                let asked = ScoreRequest { prompt: prompt.clone(), continuations };
                let scored = policy.score(asked).await.unwrap().remove(0);
                target.continuation = Continuation::Tokens(scored.token_ids);
                target.reference.get_or_insert(scored.logprobs);
            }
        }
        let taken = policy.train_step(step(examples.clone(), number), Arc::new(Margin(needs.clone())));
        reports.push(taken.await.unwrap());
    }
    let continuations = ["the bar is red", "it moves"].map(|text| Continuation::Answer(text.to_owned()));
    let asked = ScoreRequest { prompt: request(1).prompt, continuations: continuations.into() };
    (reports, policy.score(asked).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn micro_batches_of_any_size_take_the_same_step() {
    let views = || Requirements::new([View::Chosen, View::Rejected]);
    for needs in [views().with_reference(), views().per_token(), views().with_reference().across_batch()] {
        let (reports, scores) = trained(16, &needs).await;
        for micro_batch in [1, 2] {
            let (others, other_scores) = trained(micro_batch, &needs).await;
            for (report, other) in reports.iter().zip(&others) {
                assert!((report.loss - other.loss).abs() < 1e-5, "{needs:?}: {report:?} {other:?}");
                assert!(
                    (report.grad_norm - other.grad_norm).abs() < 1e-5,
                    "{needs:?}: {report:?} {other:?}"
                );
                assert!((report.metrics["margin"] - other.metrics["margin"]).abs() < 1e-5);
                assert_eq!(report.tokens, other.tokens);
            }
            let logprobs = |scores: &[TokenLogProbs]| {
                scores.iter().flat_map(|score| score.logprobs.clone()).collect::<Vec<_>>()
            };
            let close =
                logprobs(&scores).iter().zip(logprobs(&other_scores)).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(close, "{needs:?}: {scores:?} {other_scores:?}");
        }
        // 4 + 3 + 1 + 1 + 3 words chosen, 1 + 4 + 3 + 3 + 2 rejected, and the end of each.
        assert_eq!(reports[0].tokens, 25 + 10);
        if needs.reference {
            assert_eq!(reports[0].metrics["sampling_score_drift_max"], 0.0, "it is its own reference");
            assert!(!reports[1].metrics.contains_key("sampling_score_drift"));
            assert_eq!(reports[0].metrics["margin"], 0.0);
            assert!(reports[1].metrics["margin"] > 0.0, "{:?}", reports[1]);
        }
        assert!(reports[1].loss < reports[0].loss, "{reports:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gradients_reach_the_policy_weighted_by_the_share_of_their_micro_batch() {
    let file = file(
        "log = open(__file__ + '.log', 'a')",
        "def forward(self, sequences, step, seed):\n    \
             print('forward', step, len(sequences), [it.continuation.text for it in sequences], file=log)\n    \
             return super().forward(sequences, step, seed)\n\
         def backward(self, gradients): print('backward', gradients, file=log, flush=True)\n\
         def zero(self): print('zero', file=log)\n\
         def apply(self, step, learning_rate, max_grad_norm):\n    \
             print('apply', step, learning_rate, max_grad_norm, file=log, flush=True)\n    \
             return super().apply(step, learning_rate, max_grad_norm)",
    );
    let policy = built(&file).unwrap();
    let before = policy.fingerprint();
    let report = train(&policy, 4).await.unwrap();
    assert_ne!(policy.fingerprint(), before);
    assert_eq!((report.grad_norm, report.tokens), (1.0, 8));
    let third = 1.0 / 3.0;
    let of_two = 0.5 * (2.0 / 3.0);
    let log = fs::read_to_string(file.beside("plugin.py.log")).unwrap();
    let expected = format!(
        "zero\nforward 4 4 ['a b', 'd', 'c', 'e f']\n\
         backward [[-{of_two}, -{of_two}], [-{of_two}], [{of_two}], [{of_two}, {of_two}]]\n\
         forward 4 2 ['g', 'h']\nbackward [[-{third}], [{third}]]\napply 4 0.5 1.0\n"
    );
    assert_eq!(log, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_are_worked_on_together_and_pieces_of_answers_are_passed_on() {
    let file = file(
        "",
        "def generate_batch(self, requests):\n    \
             open(__file__ + '.sizes', 'a').write(f'{len(requests)}\\n')\n    \
             time.sleep(0.05)\n    \
             return [BadInput('odd') if it.seed == 7 else self.generate(it) for it in requests]\n\
         def generate(self, request):\n    \
             request.prompt_tokens(11)\n    \
             request.progress(0, 'a ')\n    \
             request.progress(0, 'b')\n    \
             return super().generate(request)",
    );
    let policy = built(&file).unwrap();
    let all = (0..40).map(async |seed: u64| policy.generate(GenerateRequest { seed, ..request(2) }).await);
    for (seed, outcome) in futures::future::join_all(all).await.into_iter().enumerate() {
        match seed {
            7 => assert_quarantines(&outcome.unwrap_err(), &["plugin `it`, generate: odd"]),
            _ => assert_eq!(outcome.unwrap()[1].token_ids, [1, 2]),
        }
    }
    let sizes = fs::read_to_string(file.beside("plugin.py.sizes")).unwrap();
    assert!(sizes.lines().count() <= 6, "{sizes}");
    let (progress, mut told) = unbounded_channel();
    policy.generate_streaming(request(1), progress).await.unwrap();
    let text = |text: &str| Progress::Text { answer: 0, text: text.to_owned() };
    for expected in [Progress::Prompt { tokens: 11 }, text("a "), text("b")] {
        assert_eq!(told.try_recv().unwrap(), expected);
    }
    assert!(told.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn videos_are_files_named_by_their_content_which_go_with_the_policy() {
    let file = file(
        "",
        "def generate(self, request):\n    \
             video = request.prompt[0].parts[0]\n    \
             pixels = memoryview(video.pixels()).cast('B')\n    \
             assert video.shape == (2, 4, 4, 3) and pixels[5] == 185 and len(pixels) == 96, video\n    \
             assert video.features is None and video.duration == 2.0 and video.video == 'clips/7.mp4'\n    \
             open(__file__ + '.videos', 'a').write(video.file + '\\n')\n    \
             return super().generate(request)",
    );
    let policy = built(&file).unwrap();
    for _ in 0..2 {
        policy.generate(request(1)).await.unwrap();
    }
    let seen = fs::read_to_string(file.beside("plugin.py.videos")).unwrap();
    let paths: Vec<PathBuf> = seen.lines().map(PathBuf::from).collect();
    assert!(paths.len() == 2 && paths[0] == paths[1] && paths[0].exists(), "{paths:?}");
    let folder = paths[0].parent().unwrap();
    drop(policy);
    assert!(!folder.exists(), "{}", folder.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installed_module_is_served_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("isr_own_models");
    fs::create_dir(&package).unwrap();
    fs::write(
        package.join("__init__.py"),
        "from .colours import MeanColour\nfrom isr_plugin import Judge\n",
    )
    .unwrap();
    let text = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/plugins/encoder-python/mean_colour.py"),
    );
    fs::write(package.join("colours.py"), text.unwrap()).unwrap();
    // An interpreter that finds the package, as one of a virtual environment does.
    let python = folder.path().join("python");
    let own = std::env::var("ISR_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let path = folder.path().display();
    fs::write(&python, format!("#!/bin/sh\nPYTHONPATH=$PYTHONPATH:{path} exec {own} \"$@\"\n")).unwrap();
    #[cfg(unix)]
    fs::set_permissions(&python, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let entry = |module: &str| PluginFile { python: Some(python.clone()), ..PluginFile::of_module(module) };
    let load = |module: &str| isr_config::plugin::Plugins::load(&[entry(module)], &[]);
    let plugins = load("isr_own_models").unwrap();
    let [loaded] = plugins.files() else { panic!("one") };
    let [manifest] = loaded.plugin.manifests() else { panic!("one component") };
    assert_eq!(
        (manifest.name.as_str(), loaded.path.as_path()),
        ("mean_colour", Path::new("isr_own_models"))
    );
    let features = encoder(&*loaded.plugin, "mean_colour").unwrap().encode(&frames(1, 4, 4)).await.unwrap();
    assert_eq!(features.shape, [1, 4, 3]);
    let refused = |module: &str| load(module).unwrap_err().to_string();
    let missing = refused("isr_no_such_module");
    assert!(
        missing.contains(
            "cannot load plugin isr_no_such_module: the module cannot be loaded: ModuleNotFoundError: No module named \
             'isr_no_such_module'"
        ),
        "{missing}"
    );
    assert!(refused("-c").contains("no name of a Python module"));
}
