//! Policies and encoders that die, hang, or return what cannot be used: each ends in an error that names plugin, call and
//! cause.

use std::fs;

use isr_api::{ComponentError, Continuation, GenerateRequest, Target, TrainExample};
use isr_testing::fixtures::frames;
use tokio::sync::mpsc::unbounded_channel;

use crate::hostile::assert_quarantines;
use crate::models::{Margin, POLICY, built, encoder, file, request, step, train};
use crate::support::File;

#[track_caller]
fn assert_stops(error: &ComponentError, parts: &[&str]) {
    assert!(matches!(error, ComponentError::Failed(_)), "{error:?}");
    let said = error.to_string();
    assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} in {said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_dies_while_it_answers_is_started_again_until_it_was_trained() {
    let dying = "def generate(self, request):\n    \
                     open(__file__ + '.log', 'a').write('x')\n    \
                     if request.seed == 7: os._exit(7)\n    \
                     return super().generate(request)";
    let file = file("", dying);
    let policy = built(&file).unwrap();
    let seven = || GenerateRequest { seed: 7, ..request(1) };
    let died = policy.generate(seven()).await.unwrap_err();
    assert_quarantines(&died, &["plugin `it`, generate: the process ended (with status 7)"]);
    assert_eq!(fs::read_to_string(file.beside("plugin.py.log")).unwrap(), "xx", "tried twice");
    policy.generate(request(1)).await.unwrap();
    train(&policy, 0).await.unwrap();
    policy.generate(request(1)).await.unwrap();
    let lost = policy.generate(seven()).await.unwrap_err();
    let parts = [
        "plugin `it`, generate: the process ended (with status 7)",
        "its weights were those of a training and are gone with it: start the command again",
    ];
    assert_stops(&lost, &parts);
    assert_eq!(fs::read_to_string(file.beside("plugin.py.log")).unwrap(), "xxxxx", "not tried again");
    assert_stops(&policy.generate(request(1)).await.unwrap_err(), &parts);
    assert_stops(&train(&policy, 1).await.unwrap_err(), &["plugin `it`, forward", parts[1]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_training_step_are_not_sent_again() {
    let file = file(
        "",
        "def backward(self, gradients):\n    \
             open(__file__ + '.log', 'a').write('x')\n    \
             os._exit(7)",
    );
    let policy = built(&file).unwrap();
    let died = train(&policy, 0).await.unwrap_err();
    let parts =
        ["plugin `it`, backward: the process ended (with status 7)", "the training step is given up"];
    assert_stops(&died, &parts);
    assert_eq!(fs::read_to_string(file.beside("plugin.py.log")).unwrap(), "x");
    policy.generate(request(1)).await.unwrap();

    let applying = self::file("", "def apply(self, step, learning_rate, max_grad_norm): os._exit(7)");
    let policy = built(&applying).unwrap();
    let died = train(&policy, 0).await.unwrap_err();
    assert_stops(
        &died,
        &["plugin `it`, apply: the process ended (with status 7)", "start the command again"],
    );
    let unknown = ["plugin `it`, fingerprint: its weights are unknown"];
    assert_stops(&policy.try_fingerprint().unwrap_err(), &unknown);
    assert_stops(&policy.generate(request(1)).await.unwrap_err(), &["its weights are unknown"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exception_in_training_stops_the_run_with_its_place() {
    let policy = file("", "def forward(self, sequences, step, seed): return {}['loss']");
    let failed = train(&built(&policy).unwrap(), 0).await.unwrap_err();
    assert_stops(&failed, &["plugin `it`, forward: KeyError: 'loss' (plugin.py, line", "in forward)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_hangs_is_ended_at_its_limit() {
    let hanging = file("", "def generate(self, request): time.sleep(60)");
    let hanging = hanging.with(|options| options.call_s = Some(0.5));
    let hung = built(&hanging).unwrap().generate(request(1)).await.unwrap_err();
    assert_quarantines(&hung, &["plugin `it`, generate: no answer within 0.5 s; the process was ended"]);
    let hanging = file("", "def backward(self, gradients): time.sleep(60)");
    let hanging = hanging.with(|options| options.call_s = Some(0.5));
    let hung = train(&built(&hanging).unwrap(), 0).await.unwrap_err();
    assert_stops(
        &hung,
        &["plugin `it`, backward: no answer within 0.5 s", "the training step is given up"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_returns_is_checked_where_it_is_made_and_where_it_arrives() {
    for (before, methods, says) in [
        (
            "",
            "def generate(self, request): return [Response('a', [1], [float('nan')], 'stop')]",
            "generate: ValueError: generate returned the log-prob nan",
        ),
        (
            "",
            "def generate(self, request): return [Response('a', [1], [-1, -2], 'stop')]",
            "generate: ValueError: generate returned 2 log-probs for 1 tokens",
        ),
        (
            "",
            "def generate(self, request): return [Response('a', [-1], [-1], 'stop')]",
            "generate: ValueError: generate returned the token id -1",
        ),
        (
            "",
            "def generate(self, request): return [Response('\\udc80', [1], [-1], 'stop')]",
            "generate: ValueError: generate returned a text that is no Unicode",
        ),
        (
            "",
            "def generate(self, request): return 'a'",
            "generate: ValueError: generate returned 'a' (str), not a list of Response",
        ),
        (
            "",
            "def generate(self, request):\n    self.weights += 1\n    return super().generate(request)",
            "generate: its answer cannot be used: it was computed with the weights `w1`, and the plugin last told that it \
          has `w0`; weights change by `apply` and `load` alone",
        ),
        (
            "answering('generate', lambda call: {'policy': 'w0', 'responses': [{'text': 'a', 'token_ids': [1], \
          'logprobs': [None], 'finish_reason': 'stop'}]})",
            "pass",
            "generate: its answer cannot be used: invalid type: null, expected f32",
        ),
        (
            "answering('generate', lambda call: {'policy': 'w0', 'answers': []})",
            "pass",
            "generate: its answer cannot be used: unknown field `answers`",
        ),
        (
            "answering('generate', lambda call: {'policy': '', 'responses': []})",
            "pass",
            "its fingerprint has 0 characters; it must have 1 to 200",
        ),
    ] {
        let file = file(before, methods);
        let wrong = built(&file).unwrap().generate(request(1)).await.unwrap_err();
        assert_stops(&wrong, &["plugin `it`, generate: ", says]);
    }
    for (before, methods, says) in [
        (
            "answering('forward', lambda call: {'scores': [{'token_ids': [1], 'logprobs': [0.5]}] * 4})",
            "pass",
            "forward: its answer cannot be used: sequence 0 has the log-prob 0.5",
        ),
        (
            "answering('forward', lambda call: {'scores': [{'token_ids': [1, 2], 'logprobs': [-0.5]}] * 4})",
            "pass",
            "forward: its answer cannot be used: sequence 0 has 1 log-probs for 2 tokens",
        ),
        (
            "answering('forward', lambda call: {'scores': []})",
            "pass",
            "forward: its answer cannot be used: it has 0 scores for 4 sequences",
        ),
        (
            "answering('apply', lambda call: {'grad_norm': 'much', 'fingerprint': 'w1'})",
            "pass",
            "apply: its answer cannot be used: invalid type: string \"much\"",
        ),
        (
            "",
            "def apply(self, step, learning_rate, max_grad_norm): return None",
            "apply: ValueError: apply returned None (NoneType), not the norm of the gradients",
        ),
    ] {
        let file = file(before, methods);
        let wrong = train(&built(&file).unwrap(), 0).await.unwrap_err();
        assert_stops(&wrong, &[says]);
    }
    // Tokens are scored as they were given.
    let other = file("", "def scored(self, continuation): return Scored([9], [-0.5])");
    let given = Target { continuation: Continuation::Tokens(vec![1]), reference: None };
    let example = TrainExample::new(request(1).prompt, given.clone(), Some(given));
    let policy = built(&other).unwrap();
    let wrong = policy.train_step(step(vec![example], 0), Margin::plain()).await.unwrap_err();
    assert_stops(&wrong, &["sequence 0 has 1 tokens that differ from the 1 given, first at 0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_that_is_no_beginning_of_the_answer_is_refused() {
    for (told, says) in [
        ("request.progress(0, 'c')", "the progress of answer 0, \"c\", is no beginning of its text"),
        ("request.progress(1, 'a')", "it told progress of answer 1 of 1"),
        ("for _ in range(9): request.progress(0, 'a')", "it told progress more often than once a token"),
    ] {
        let methods =
            format!("def generate(self, request):\n    {told}\n    return super().generate(request)");
        let policy = built(&file("", &methods)).unwrap();
        policy.generate(request(1)).await.unwrap();
        let (progress, _told) = unbounded_channel();
        let wrong = policy.generate_streaming(request(1), progress).await.unwrap_err();
        assert_stops(&wrong, &["plugin `it`, generate: its answer cannot be used", says]);
    }
}

#[test]
fn policies_that_cannot_be_used_are_refused_when_they_are_built() {
    for (methods, says) in [
        ("micro_batch = 0", "its micro_batch is 0; it must be 1 to 65536"),
        ("def fingerprint(self): return 7", "ValueError: fingerprint returned 7 (int), not a text"),
        (
            "def fingerprint(self): return ''",
            "fingerprint returned '' (str), not a text of 1 to 200 characters",
        ),
        ("def setup(self): raise ValueError('no GPU')", "ValueError: no GPU"),
    ] {
        let refused = built(&file("", methods)).err().unwrap();
        assert!(refused.contains(says), "{methods}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_an_encoder_are_plain_files_of_its_own_with_the_size_of_their_shape() {
    for (value, says) in [
        ("{'file': '../x', 'shape': [1, 1, 3], 'dtype': 'f32'}", "\"../x\" is no plain name of a file"),
        ("{'file': '/etc/passwd', 'shape': [1, 1, 3], 'dtype': 'f32'}", "\"/etc/passwd\" is no plain name"),
        ("{'file': link(), 'shape': [1, 1, 3], 'dtype': 'f32'}", "the file `link` is a link"),
        ("{'file': written(11), 'shape': [1, 1, 3], 'dtype': 'f32'}", "has 11 bytes, and its shape 12"),
        ("{'file': written(12), 'shape': [1, 1, 1 << 40], 'dtype': 'f32'}", "at most 1073741824 are read"),
        (
            "{'file': written(12), 'shape': [9, 1, 3], 'dtype': 'f32'}",
            "features of shape [9, 1, 3] for 2 frames",
        ),
        (
            "{'file': call['params']['frames']['file'], 'shape': [2, 1, 12], 'dtype': 'f32'}",
            "is a file of isr's",
        ),
        ("{'file': written(12), 'shape': [1, 3], 'dtype': 'f32'}", "invalid length 2"),
        ("{'file': written(12), 'shape': [1, 1, 3], 'dtype': 'f8'}", "unknown variant `f8`"),
        ("{'file': 'none', 'shape': [1, 1, 3], 'dtype': 'f32'}", "the file `none` cannot be read"),
    ] {
        let file = File::new(&format!(
            "{POLICY}\nclass It(Encoder):\n    def fingerprint(self): return 'w'\n    \
             def setup(self):\n        \
                 def call(self, call):\n            \
                     if call['method'] != 'encode': return _call(self, call)\n            \
                     at = lambda name: os.path.join(self.folder, name)\n            \
                     def written(size):\n                \
                         open(at('own'), 'wb').write(bytes(size))\n                \
                         return 'own'\n            \
                     def link():\n                \
                         os.symlink('/etc/passwd', at('link'))\n                \
                         return 'link'\n            \
                     return {value}\n        \
                 _models.Models.call = call"
        ));
        let encoder = encoder(&*file.load().unwrap(), "it").unwrap();
        let wrong = encoder.encode(&frames(2, 4, 4)).await.unwrap_err();
        assert_stops(&wrong, &["plugin `it`, encode: its answer cannot be used", says]);
    }
}
