//! `isr_plugin` has the fields and names of `isr_api::messages`.

use std::path::Path;
use std::process::Command;

use isr_api::messages::{
    AnswerMessage, AppliedMessage, AssessmentMessage, DemonstrationMessage, DescribeMessage,
    EncoderProperties, FeaturesFile, FingerprintMessage, ForwardedMessage, FrameMessage, GenerateMessage,
    GeneratedMessage, GranularityMessage, JudgeMessage, PageMessage, PolicyProperties, PreferenceMessage,
    RequirementsMessage, SampleMessage, ScoreMessage, ScoredMessage, ValueMessage, VideoInfo, ViewMessage,
    VoteMessage, names,
};
use isr_api::{
    Continuation, FinishReason, Reasoning, Response, Role, Sampling, TokenLogProbs, View, VisualContext,
};
use serde_json::{Value, json};

/// Prints what the package reads and writes: fields of its dataclasses, keys of its messages, its names.
const SCRIPT: &str = r#"
import dataclasses, json, tempfile
import isr_plugin
from isr_plugin import _server, _wire

def fields(cls):
    return [field.name for field in dataclasses.fields(cls) if not field.name.startswith("_")]

asked = {}

def ask(method, params):
    asked[method] = list(params)
    return "" if method == "frame" else []

class Margin(isr_plugin.Objective):
    across_batch = True

    def evaluate(self, *views):
        return 0.0, [[0.0]], {"margin": 1.0}

scene = isr_plugin.Scene("a", 1, 1, [0.0], ask)
response = isr_plugin.Response("a", [], [], "stop")
case = isr_plugin.JudgeCase(scene, "?", None, response, response, 1)
case.generate("?")
case.score("?", ["a"])
scene.frame(0)
server = _server.Server.__new__(_server.Server)
server.component = Margin()
class Empty(isr_plugin.Preferences):
    def rows(self):
        return []

datasets = _server.Server.__new__(_server.Server)
datasets.component = Empty()
datasets.pages = _server.Pages(datasets.component)
class Model(isr_plugin.Policy):
    def fingerprint(self): return "w"
    reasoning = isr_plugin.ReasoningFormat()
    def generate(self, request): return [isr_plugin.Response("a", [], [], "stop", reasoning=isr_plugin.Reasoning("b", 0))]
    def score(self, request): return [isr_plugin.Scored([], [])]
    def forward(self, sequences, step, seed): return [isr_plugin.Scored([], [])]
    def apply(self, step, learning_rate, max_grad_norm): return 1.0
    def zero(self): pass
    def load(self, dir, what): pass

class Tower(isr_plugin.Encoder):
    def fingerprint(self): return "w"
    def encode(self, video): return (1, 1, 1), "f32", bytes(4)

models, tower = (_server.Server.__new__(_server.Server) for _ in range(2))
models.component, tower.component = Model(), Tower()
with tempfile.TemporaryDirectory() as folder:
    models.models = _server.Models(models.component, folder, set())
    tower.models = _server.Models(tower.component, folder, set())
    ask_model = lambda method, params: models.call({"id": 1, "method": method, "params": params})
    video = {"video": "a", "frames": {"file": "a.rgb", "shape": [1, 1, 1, 3]}, "timestamps": [0.0], "duration": 0.0}
    turns = [{"role": "user", "parts": [{"video": {**video, "features": None}}, {"text": "?"}]}]
    sampling = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 1, "stop": []}
    generated = ask_model("generate", {"prompt": turns, "sampling": sampling, "n": 1, "seed": 0, "stream": False})
    scored = ask_model("score", {"prompt": turns, "continuations": [{"tokens": [1]}]})
    sequence = {"prompt": turns, "continuation": {"answer": "a"}}
    replies = {
        "model": list(ask_model("properties", None)), "generated": list(generated),
        "answer": list(generated["responses"][0]), "scored": list(scored),
        "forward": list(ask_model("forward", {"step": 0, "seed": 0, "begin": True, "sequences": [sequence]})),
        "apply": list(ask_model("apply", {"step": 0, "learning_rate": 0.1, "max_grad_norm": None})),
        "load": list(ask_model("load", {"dir": "x", "what": "model"})),
        "tower": list(tower.call({"id": 1, "method": "properties", "params": None})),
        "encode": list(tower.call({"id": 1, "method": "encode", "params": video})),
    }

page = {"id": 1, "method": "rows", "params": {"set": "rows", "start": 0, "count": 9}}
call = lambda method, params: list(server.call({"id": 1, "method": method, "params": params}))
newer = {"text": "a", "token_ids": [], "logprobs": [], "finish_reason": "stop", "policy": "", "of_tomorrow": 1}
assert _wire.read(isr_plugin.Response, newer).text == "a"
assert _wire.read(isr_plugin.Response, {**newer, "reasoning": {"text": "b", "tokens": 1}}).reasoning.text == "b"
print(json.dumps({
    **{it.__name__: fields(it) for it in (
        isr_plugin.Scene, isr_plugin.Response, isr_plugin.Context, isr_plugin.JudgeCase,
        isr_plugin.RetrospectionCase, isr_plugin.Vote, isr_plugin.View, isr_plugin.Sample, isr_plugin.Assessment,
        isr_plugin.Preference, isr_plugin.Demonstration, isr_plugin.Sampling, isr_plugin.Scored,
        isr_plugin.Reasoning, isr_plugin.ReasoningFormat)},
    **{name: getattr(_wire, name) for name in (
        "VIEWS", "GRANULARITIES", "FINISH_REASONS", "ROLES", "CONTINUATIONS", "SAMPLING")},
    **asked, **replies, "requirements": call("requirements", None), "evaluate": call("evaluate", {"views": []}),
    "rows": list(datasets.call(page)),
}))
"#;

fn said() -> Value {
    let python = std::env::var_os("ISR_PYTHON").unwrap_or_else(|| "python3".into());
    let mut command = Command::new(python);
    command.arg("-c").arg(SCRIPT).env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")));
    let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_package_has_the_names_of_the_messages() {
    let said = said();
    let sorted = |names: &[&str]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        json!(names)
    };
    let requirements: Vec<&str> =
        names::<RequirementsMessage>().iter().copied().filter(|name| *name != "per_token").collect();
    for (python, names) in [
        ("Scene", names::<VideoInfo>()),
        ("Response", names::<Response>()),
        ("Context", names::<VisualContext>()),
        ("JudgeCase", names::<JudgeMessage<VideoInfo>>()),
        ("RetrospectionCase", names::<DescribeMessage<VideoInfo>>()),
        ("Vote", names::<VoteMessage>()),
        ("View", names::<ViewMessage<Vec<f64>>>()),
        ("Sample", names::<SampleMessage>()),
        ("Assessment", names::<AssessmentMessage>()),
        ("Preference", names::<PreferenceMessage>()),
        ("Demonstration", names::<DemonstrationMessage>()),
        ("rows", names::<PageMessage>()),
        ("Sampling", names::<Sampling>()),
        ("Scored", names::<TokenLogProbs>()),
        ("Reasoning", names::<Reasoning>()),
        ("ReasoningFormat", &["open", "close", "opened"]),
        // The others are optional, and hosts of libraries tell them.
        ("model", &names::<PolicyProperties>()[..4]),
        ("generated", names::<GeneratedMessage>()),
        ("answer", names::<AnswerMessage>()),
        ("scored", names::<ScoredMessage>()),
        ("forward", names::<ForwardedMessage>()),
        ("apply", names::<AppliedMessage>()),
        ("load", names::<FingerprintMessage>()),
        ("tower", names::<EncoderProperties>()),
        // Whose fingerprint it is, isr knows.
        ("encode", &names::<FeaturesFile>()[..3]),
        ("generate", names::<GenerateMessage<bool>>()),
        ("score", names::<ScoreMessage<bool>>()),
        ("frame", names::<FrameMessage>()),
        ("requirements", requirements.as_slice()),
        ("evaluate", names::<ValueMessage>()),
        ("VIEWS", &View::ALL.map(View::name)),
        ("GRANULARITIES", names::<GranularityMessage>()),
        ("FINISH_REASONS", names::<FinishReason>()),
        ("ROLES", names::<Role>()),
        ("CONTINUATIONS", names::<Continuation>()),
        ("SAMPLING", names::<Sampling>()),
    ] {
        let found: Vec<&str> = said[python].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(sorted(&found), sorted(names), "{python}");
    }
}
