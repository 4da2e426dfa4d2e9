//! Files that die, hang and refuse: each ends in an error that names plugin, call and cause, within its
//! time limit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use isr_api::ComponentError;
use isr_config::plugin::PluginFile;
use isr_testing::FakePolicy;
use isr_testing::fixtures::case;

use crate::support::{File, load};

/// What a judge says to one case.
pub(crate) async fn judged(file: &File) -> ComponentError {
    let policy = Arc::new(FakePolicy::default()).frozen();
    file.judge().unwrap().judge(&case("one", "two"), &policy).await.unwrap_err()
}

#[track_caller]
pub(crate) fn assert_quarantines(error: &ComponentError, parts: &[&str]) {
    assert!(matches!(error, ComponentError::BadInput(_)), "{error:?}");
    assert_says(error, parts);
}

#[track_caller]
fn assert_says(error: &ComponentError, parts: &[&str]) {
    let said = error.to_string();
    assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} in {said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_is_tried_twice_and_quotes_its_stderr() {
    let file = File::judging("print('so long')\nopen(__file__ + '.log', 'a').write('x')\nos._exit(7)");
    let died = judged(&file).await;
    let parts =
        ["plugin `it`, judge: the process ended (with status 7); its last lines on stderr: so long"];
    assert_quarantines(&died, &parts);
    assert_eq!(std::fs::read_to_string(file.beside("plugin.py.log")).unwrap(), "xx");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_says_by_which_signal() {
    let file = File::judging("os.kill(os.getpid(), 9)");
    assert_quarantines(&judged(&file).await, &["plugin `it`, judge: the process ended (by signal 9)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_hangs_is_ended_at_its_limit() {
    let file = File::judging("while True: pass").with(|options| options.call_s = Some(0.5));
    let (start, hung) = (Instant::now(), judged(&file).await);
    assert_quarantines(&hung, &["plugin `it`, judge: no answer within 0.5 s; the process was ended"]);
    assert!(start.elapsed() < Duration::from_secs(300), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn exceptions_say_where_and_stop_the_run_but_for_bad_input() {
    let failed = judged(&File::judging("return {}['key']")).await;
    assert!(matches!(failed, ComponentError::Failed(_)));
    assert_says(&failed, &["plugin `it`, judge: KeyError: 'key' (plugin.py, line 8, in judge)"]);
    let refused = judged(&File::judging("raise BadInput('no words')")).await;
    assert_quarantines(&refused, &["plugin `it`, judge: no words"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_too_many_restarts_the_run_stops() {
    let file = File::judging("os._exit(3)").with(|options| options.restarts = Some(0));
    let stopped = judged(&file).await;
    assert!(matches!(stopped, ComponentError::Failed(_)), "{stopped:?}");
    assert_says(
        &stopped,
        &[
            "plugin `it`, judge: the process has been started again 0 times without an answer",
            "with status 3",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_cannot_be_configured_again_stops_the_run() {
    let file = File::new(
        "class It(Judge):\n    def setup(self):\n        here = __file__ + '.once'\n        \
         if os.path.exists(here): os._exit(5)\n        open(here, 'w')\n    \
         def judge(self, case): os._exit(4)",
    );
    let stopped = judged(&file).await;
    assert!(matches!(stopped, ComponentError::Failed(_)), "{stopped:?}");
    assert_says(
        &stopped,
        &["the process has been started again 3 times without an answer", "with status 5"],
    );
}

#[test]
fn files_that_cannot_be_loaded_say_why() {
    let refused = |body: &str| File::new(body).load().err().unwrap();
    let broken = refused("class Broken(:");
    assert!(
        broken.starts_with("the file cannot be loaded: SyntaxError: invalid syntax (plugin.py, line 4"),
        "{broken}"
    );
    let missing = "the file cannot be loaded: ModuleNotFoundError: No module named 'no_such_module' (plugin.py, line 4)";
    assert_eq!(refused("import no_such_module"), missing);
    let deep = refused("import json\ndef of(x): return json.loads(x)\nof('{')");
    assert!(deep.starts_with("the file cannot be loaded: JSONDecodeError: "), "{deep}");
    assert!(
        deep.contains("(decoder.py, line ") && deep.ends_with("from plugin.py, line 5, in of)"),
        "{deep}"
    );
    assert_eq!(
        refused("sys.exit('no GPU')"),
        "the file cannot be loaded: SystemExit: no GPU (plugin.py, line 4)"
    );
    let undeclared = refused("class It(Judge):\n    defaults = 3");
    assert!(
        undeclared.starts_with("AttributeError: 'int' object has no attribute 'items'"),
        "{undeclared}"
    );
    let slow =
        File::new("time.sleep(60)").with(|options| options.start_s = Some(0.5)).load().err().unwrap();
    assert_eq!(slow, "no answer within 0.5 s to the hello; the process was ended");
    let nobody =
        File::new("").with(|options| options.python = Some("/no/such/python".into())).load().err().unwrap();
    assert!(nobody.starts_with("cannot start `/no/such/python`: No such file"), "{nobody}");
    let absent = load("/no/such/file.py".as_ref(), &PluginFile::default()).err().unwrap();
    assert!(absent.contains("No such file"), "{absent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_wrong_type_says_what_it_is_and_where() {
    let parts = ["plugin `it`, judge: its answer cannot be used: judge returned ", "(plugin.py, line 7)"];
    for (value, says) in [
        ("'first'", "'first' (str), not a probability or a list of votes"),
        ("None", "None (NoneType)"),
        ("True", "True (bool)"),
        ("[0.5]", "[0.5] (list)"),
        ("case", "(JudgeCase)"),
    ] {
        let said = judged(&File::judging(&format!("return {value}"))).await;
        assert_quarantines(&said, &[&parts[..], &[says]].concat());
    }
}

/// Whether a process exists and is no zombie.
fn lives(id: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{id}/stat"));
    state.is_ok_and(|text| !text.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

/// Waits until no process lives that the file named in `pids`.
fn assert_all_end(file: &File) {
    let pids = std::fs::read_to_string(file.beside("pids")).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while let Some(id) = pids.split_whitespace().find(|id| lives(id)) {
        assert!(Instant::now() < until, "{id} of {pids} lives");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!pids.is_empty());
}

/// Starts a child that outlives its parent, with all pipes in its hands.
const CHILD: &str = "import subprocess\n\
                     child = subprocess.Popen(['sleep', '1000'])\n\
                     open(os.path.dirname(__file__) + '/pids', 'a').write(f'{child.pid} ')\n";

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_starts_ends_with_it() {
    let of =
        |body: &str| File::new(&format!("{CHILD}\nclass It(Judge):\n    def judge(self, case): {body}"));
    let policy = Arc::new(FakePolicy::default()).frozen();
    let file = of("return 0.5");
    let judge = file.judge().unwrap();
    judge.judge(&case("one", "two"), &policy).await.unwrap();
    drop(judge);
    assert_all_end(&file);
    // It dies, and isr kills what is left.
    let file = of("os._exit(3)");
    assert_quarantines(&judged(&file).await, &["with status 3"]);
    assert_all_end(&file);
    let file = of("return 0.5");
    std::fs::write(file.path(), format!("import os\n{CHILD}\nos._exit(3)")).unwrap();
    assert!(file.load().err().unwrap().starts_with("the process ended (with status 3)"));
    assert_all_end(&file);
}

#[test]
fn a_flood_before_the_hello_ends_at_once() {
    let flood = |line: &str| {
        let file = File::new(&format!("while True: os.write(1, b'{line}' * 10000)"));
        file.with(|options| options.start_s = Some(600.0)).load().err().unwrap()
    };
    for line in ["x", "x\\n"] {
        let said = flood(line);
        assert!(said.starts_with("it wrote more than 16777216 bytes before its hello"), "{said:.300}");
    }
}

#[test]
fn an_objective_of_wrong_length_or_with_nan_is_refused() {
    let objective = |value: &str| {
        let body =
            format!("class It(Objective):\n    def evaluate(self, chosen, rejected): return {value}");
        File::new(&body).objective().unwrap()
    };
    let batch = || {
        let view = |view| isr_api::ViewLogProbs {
            view,
            policy: vec![-1.0, -2.0],
            reference: vec![-1.0, -2.0],
            lengths: vec![1, 1],
        };
        isr_api::ObjectiveBatch { views: vec![view(isr_api::View::Chosen), view(isr_api::View::Rejected)] }
    };
    let said = |value: &str| objective(value).evaluate(&batch()).unwrap_err().to_string();
    let short = said("0.0, [[0.0, 0.0], [0.0]], {}");
    assert_eq!(
        short,
        "plugin `it`, evaluate: its answer cannot be used: its gradients have [2, 1] numbers for [2, 2] log-probs"
    );
    let nan = said("float('nan'), [[0.0, 0.0], [0.0, 0.0]], {}");
    assert!(nan.starts_with("plugin `it`, evaluate: Out of range float values"), "{nan}");
}
