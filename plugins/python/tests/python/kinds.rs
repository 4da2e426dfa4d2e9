//! Evaluators, observers and datasets: what they give, and what becomes of those that misbehave.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use isr_api::{
    BuildContext, ComponentError, Demonstrations, Evaluator, Event, LabelledSample, Observer, Preferences,
    Sample, SampleSource, Stage,
};
use isr_config::plugin::PluginSettings;
use isr_testing::fixtures::labelled_sample;
use serde_json::{Map, Value, json};

use crate::hostile::assert_quarantines;
use crate::support::File;

/// Builds the component `it` of a file by one of the plugin's constructors.
macro_rules! built {
    ($file:expr, $constructor:ident) => {{
        let plugin = $file.load().unwrap();
        let (settings, cx) = (&Map::new(), &BuildContext::default());
        plugin.$constructor("it", &PluginSettings { settings, cx }).map_err(|error| error.to_string())
    }};
}

fn evaluator(body: &str) -> (File, Arc<dyn Evaluator>) {
    let file = File::new(&format!("class It(Evaluator):\n    'Evaluates.'\n{}", indented(body)));
    let evaluator = built!(file, evaluator).unwrap();
    (file, evaluator)
}

fn indented(body: &str) -> String {
    body.lines().map(|line| format!("    {line}\n")).collect()
}

async fn refused(body: &str) -> ComponentError {
    let (_file, evaluator) = evaluator(&format!("def answer(self, sample, text):\n{}", indented(body)));
    evaluator.answer(&labelled_sample(), "red").await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluator_gets_sample_and_text_and_says_what_they_are_worth() {
    let (_file, costly) = evaluator(
        "costly = True\n\
         def answer(self, sample, text):\n    \
             if text == 'nothing': return None\n    \
             return Assessment(len(text), {'right': text in sample.reference, 'facts': sample.facts['n']})\n\
         def context(self, sample, text):\n    \
             return Assessment(0.5) if sample.id == 's7' else None",
    );
    assert!(costly.is_costly());
    let mut sample = labelled_sample();
    sample.facts = json!({"n": 7});
    let assessment = costly.answer(&sample, "red").await.unwrap().unwrap();
    assert_eq!(
        (assessment.quality, assessment.metrics["right"], assessment.metrics["facts"]),
        (3.0, 1.0, 7.0)
    );
    assert_eq!(costly.answer(&sample, "nothing").await.unwrap(), None);
    assert_eq!(costly.context(&sample, "a clip").await.unwrap().unwrap().quality, 0.5);
    let (_file, plain) = evaluator("def answer(self, sample, text): return Assessment(1)");
    assert!(!plain.is_costly());
    assert_eq!(plain.context(&sample, "a clip").await.unwrap(), None);
    assert_eq!(isr_testing::evaluator(plain, &sample, "red").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_wait_are_evaluated_together_where_the_author_says_how() {
    let (file, evaluator) = evaluator(
        "def answer_batch(self, answers):\n    \
             open(__file__ + '.sizes', 'a').write(f'{len(answers)}\\n')\n    \
             time.sleep(0.05)\n    \
             return [BadInput('dark') if text == '7' else Assessment(int(text)) for sample, text in answers]",
    );
    let sample = &labelled_sample();
    let all = (0..40).map(async |n: i32| evaluator.answer(sample, &n.to_string()).await);
    for (n, outcome) in futures::future::join_all(all).await.into_iter().enumerate() {
        match n {
            7 => assert_quarantines(&outcome.unwrap_err(), &["plugin `it`, answer: dark"]),
            n => assert_eq!(outcome.unwrap().unwrap().quality, n as f64),
        }
    }
    let sizes = fs::read_to_string(file.beside("plugin.py.sizes")).unwrap();
    assert!(sizes.lines().count() <= 6, "{sizes}");
    let (_file, short) = self::evaluator("def answer_batch(self, answers): return None");
    let said = short.answer(sample, "a").await.unwrap_err().to_string();
    assert!(said.contains("answer_batch returned None for 1 cases"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_that_are_none_are_refused_by_name() {
    for (body, says) in [
        ("return Assessment(float('nan'))", "`quality` is nan; leave out a metric without a value"),
        ("return Assessment(1, {'a': float('inf')})", "`a` is inf"),
        ("return Assessment(1, {'a': None})", "`a` is None (NoneType), not a number"),
        ("return Assessment(1, [1])", "`metrics` is a list, not a dict of numbers by name"),
        ("return 0.5", "answer returned 0.5 (float), not None or an Assessment (plugin.py, line 6)"),
        ("return {'metrics': {}}", "missing field `quality`"),
        ("return {'quality': 1, 'score': 2}", "unknown field `score`"),
        ("return {'quality': float('nan')}", "Out of range float values"),
        ("raise BadInput('no such word')", "no such word"),
        ("os._exit(3)", "status 3"),
    ] {
        assert_quarantines(&refused(body).await, &["plugin `it`, answer: ", says]);
    }
    let failed = refused("return sample.facts['n']").await;
    assert!(matches!(failed, ComponentError::Failed(_)), "{failed:?}");
    assert!(failed.to_string().contains("TypeError: 'NoneType' object is not subscriptable"), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluator_that_hangs_is_ended_at_its_limit() {
    let file =
        File::new("class It(Evaluator):\n    'Hangs.'\n    def answer(self, sample, text): time.sleep(60)")
            .with(|options| options.call_s = Some(1.0));
    let evaluator = built!(file, evaluator).unwrap();
    let said = evaluator.answer(&labelled_sample(), "red").await.unwrap_err();
    assert_quarantines(&said, &["plugin `it`, answer: no answer within 1 s; the process was ended"]);
}

/// An observer whose method has this body, and what is told to it.
fn observer(body: &str) -> (File, Arc<dyn Observer>) {
    let file = File::new(&format!(
        "import json\nclass It(Observer):\n    'Sees.'\n    def observe(self, event):\n{}",
        indented(&indented(body))
    ));
    let observer = built!(file, observer).unwrap();
    (file, observer)
}

fn tell(observer: &dyn Observer, items: usize) {
    let dir = Path::new("runs/it");
    observer.observe(&Event::RunStarted { run: "it", dir, iteration: 1, iterations: 2 });
    (0..items).for_each(|_| observer.observe(&Event::ItemDone { stage: Stage::Judge }));
    observer.observe(&Event::Quarantined { stage: Stage::Judge, subject: "a", reason: "dark" });
    observer.observe(&Event::RunFinished);
}

const KEEPS: &str = "open(__file__ + '.seen', 'a').write(json.dumps(event) + '\\n')";

fn seen(file: &File) -> Vec<Value> {
    let text = fs::read_to_string(file.beside("plugin.py.seen")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_observer_gets_each_event_in_order() {
    let (file, observer) = observer(KEEPS);
    tell(&*observer, 100);
    observer.flush().unwrap();
    let seen = seen(&file);
    assert_eq!(seen.len(), 103);
    assert_eq!(seen[0]["event"], "run_started");
    assert_eq!((&seen[0]["dir"], &seen[0]["iterations"]), (&json!("runs/it"), &json!(2)));
    assert!(seen[0]["time"].as_f64().unwrap() > 1.6e9);
    assert_eq!(
        (&seen[50]["event"], &seen[50]["stage"], &seen[50]["count"]),
        (&json!("item_done"), &json!("judge"), &json!(1))
    );
    assert_eq!(seen[101]["reason"], "dark");
    assert_eq!(seen[102]["event"], "run_finished");
    assert!(seen.windows(2).all(|pair| pair[0]["time"].as_f64() <= pair[1]["time"].as_f64()));
}

#[test]
fn a_slow_observer_stalls_nothing_and_its_items_are_counted_together() {
    let (file, observer) = observer(&format!("if event['event'] == 'run_started': time.sleep(2)\n{KEEPS}"));
    let start = Instant::now();
    tell(&*observer, 20_000);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    observer.flush().unwrap();
    let seen = seen(&file);
    let items: u64 = seen.iter().filter_map(|event| event["count"].as_u64()).sum();
    assert_eq!(items, 20_000);
    assert!(seen.len() < 5000, "{}", seen.len());
    assert_eq!(seen.last().unwrap()["event"], "run_finished");
}

#[test]
fn an_observer_that_raises_or_dies_gets_no_more_events_and_is_not_started_again() {
    for (body, says) in [
        (
            "raise KeyError('loss')",
            "plugin `it`, observe: KeyError: 'loss' (plugin.py, line 9, in observe)",
        ),
        ("os._exit(3)", "plugin `it`, observe: the process ended (with status 3"),
        (
            "sys.stdout = None; os.kill(os.getpid(), 9)",
            "plugin `it`, observe: the process ended (by signal 9",
        ),
    ] {
        let counted = format!("open(__file__ + '.seen', 'a').write('1\\n')\n{body}");
        let (file, observer) = observer(&counted);
        tell(&*observer, 10);
        let said = observer.flush().unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
        tell(&*observer, 10);
        assert!(observer.flush().is_err());
        assert_eq!(seen(&file).len(), 1, "{body}");
    }
}

#[test]
fn an_observer_that_hangs_is_waited_for_no_longer_than_its_limit() {
    let file = File::new("class It(Observer):\n    'Hangs.'\n    def observe(self, event): time.sleep(60)")
        .with(|options| options.call_s = Some(1.0));
    let observer = built!(file, observer).unwrap();
    let start = Instant::now();
    tell(&*observer, 10);
    let said = observer.flush().unwrap_err().to_string();
    assert!(said.contains("no answer within 1 s"), "{said}");
    let (file, slow) = self::observer("time.sleep(5)");
    tell(&*slow, 10);
    let said = slow.flush().unwrap_err().to_string();
    assert!(said.contains("events were not handled within 10 s"), "{said}");
    drop((file, slow));
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
}

fn data(body: &str) -> (File, Arc<dyn SampleSource>) {
    let file = File::new(&format!("class It(Data):\n    'Gives.'\n{}", indented(body)));
    let data = built!(file, data).unwrap();
    (file, data)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_samples_come_in_pages() {
    let (_file, data) = data(
        "def training(self):\n    \
             for n in range(100_000): yield Sample(f's{n}', f'{n}.mp4', 'what is it?', 'hidden', {'n': n})\n\
         def evaluation(self): return [Sample('e', 'e.mp4', 'what?', 'a dog', {'n': 1})]",
    );
    let training = data.training().await.unwrap();
    assert_eq!(training.len(), 100_000);
    let last =
        Sample { id: "s99999".into(), video: "99999.mp4".into(), instruction: "what is it?".to_owned() };
    assert_eq!(training[99_999], last);
    assert_eq!(data.training().await.unwrap(), training, "a set can be read again");
    let [LabelledSample { reference, facts, .. }] = &data.evaluation().await.unwrap()[..] else { panic!() };
    assert_eq!((reference.as_str(), facts), ("a dog", &json!({"n": 1})));
    assert!(data.audit().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_that_are_none_say_which_and_why() {
    for (rows, says) in [
        (
            "[Sample('a', 'a.mp4', '?'), BadInput('no text')]",
            "plugin `it`, training: row 2: no text; a sample that cannot",
        ),
        ("[7]", "row 1: the row is 7 (int), not a Sample"),
        ("[{'id': 'a', 'video': 'a.mp4'}]", "row 1: missing field `instruction`"),
        (
            "[{'id': 'a', 'video': 'a.mp4', 'instruction': '?', 'answer': ''}]",
            "row 1: unknown field `answer`",
        ),
        ("[Sample('a', 'a.mp4', 5)]", "row 1: invalid type: integer `5`, expected a string"),
        ("[Sample('a', 'a.mp4', '?', facts={1, 2})]", "row 1: set cannot be sent to isr"),
        ("[1 / 0]", "ZeroDivisionError: division by zero (plugin.py, line 6, in training)"),
        ("None", "TypeError: 'NoneType' object is not iterable"),
        ("[Sample('a', 'a.mp4', 'x' * (65 << 20))]", "it wrote a line of more than 67108864 bytes"),
    ] {
        let (_file, data) = data(&format!("def training(self): return {rows}"));
        let failed = data.training().await.unwrap_err();
        assert!(matches!(failed, ComponentError::Failed(_)), "{failed:?}");
        assert!(failed.to_string().contains(says), "{says}: {failed}");
    }
    let (_file, data) = data("def evaluation(self): return [Sample('a', 'a.mp4', '?')]");
    let said = data.evaluation().await.unwrap_err().to_string();
    assert!(said.contains("plugin `it`, evaluation: row 1: `reference` is missing"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_that_dies_between_pages_goes_on_where_it_was() {
    let (_file, data) = data(
        "def training(self):\n    \
             for n in range(3000):\n        \
                 if n == 1500 and not os.path.exists(__file__ + '.died'):\n            \
                     open(__file__ + '.died', 'w'); os._exit(1)\n        \
                 yield Sample(f's{n}', f'{n}.mp4', '?')",
    );
    let ids: Vec<String> = data.training().await.unwrap().into_iter().map(|sample| sample.id.0).collect();
    assert_eq!(ids, (0..3000).map(|n| format!("s{n}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_preferences_that_cannot_be_used_are_in_their_places_with_the_reason() {
    let file = File::new(
        "class It(Preferences):\n    'Gives.'\n    def rows(self):\n        \
             yield Preference('?', 'a dog', 'a cat', p_chosen=0.75, turns=[{'role': 'system', 'text': 'be brief'}])\n        \
             yield BadInput('both are equal')\n        \
             yield {'prompt': '?', 'chosen': 'a dog'}\n        \
             yield {'prompt': '?', 'chosen': 'a dog', 'rejected': 'a cat', 'origin': 'a.csv:3', 'stars': 3}\n        \
             yield Preference('?', 'a dog', 'a cat', id='x', origin='a.csv:4')",
    );
    let preferences: Arc<dyn Preferences> = built!(file, preferences).unwrap();
    let rows = preferences.rows().await.unwrap();
    let first = rows[0].as_ref().unwrap();
    assert_eq!((first.id.as_str(), first.origin.as_str(), first.p_chosen), ("it:1", "it:1", Some(0.75)));
    assert_eq!(first.turns[0].text, "be brief");
    let reasons: Vec<String> =
        rows.iter().filter_map(|row| row.as_ref().err()).map(ToString::to_string).collect();
    assert_eq!(reasons[0], "it:2: both are equal");
    assert_eq!(reasons[1], "it:3: missing field `rejected`");
    assert!(reasons[2].starts_with("a.csv:3: unknown field `stars`, expected one of `id`"), "{reasons:?}");
    assert_eq!(rows[4].as_ref().unwrap().origin, "a.csv:4");
}

#[tokio::test(flavor = "multi_thread")]
async fn demonstrations_are_read_once() {
    let file = File::new(
        "class It(Demonstrations):\n    'Gives.'\n    def rows(self):\n        \
             open(__file__ + '.reads', 'a').write('1')\n        \
             for n in range(2500): yield Demonstration(f'what is {n}?', f'it is {n}.')\n        \
             yield BadInput('no answer')",
    );
    let rows: Arc<dyn Demonstrations> = built!(file, demonstrations).unwrap();
    assert_eq!(rows.count().await.unwrap(), 2500);
    assert_eq!(rows.get(1700).await.unwrap().answer, "it is 1700.");
    assert_eq!(rows.unusable().await.unwrap()[0].to_string(), "it:2501: no answer");
    assert_eq!(rows.corpus().await.unwrap().len(), 5000);
    assert_eq!(fs::read_to_string(file.beside("plugin.py.reads")).unwrap(), "1");
}

#[test]
fn a_kind_that_this_program_does_not_know_is_refused_with_those_that_it_knows() {
    let painter = "class It(Judge):\n    'Paints.'\n    kind = 'painter'";
    let said = File::new(painter).load().err().unwrap();
    assert!(said.contains("unknown variant `painter`, expected one of `data`"), "{said}");
}
