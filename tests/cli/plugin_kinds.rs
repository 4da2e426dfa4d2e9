//! Components of every kind that a Python file can give, in runs of the program.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{isr_line, playground};

/// The quickstart, so small that it takes seconds, with an evaluator and observers.
fn quickstart(folder: &Path, name: &str, rest: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (config, model) = (root.join("configs/quickstart.toml"), root.join("configs/base"));
    let text = format!(
        "extends = {config:?}\nname = \"small\"\n\
         policy = {{ model = {model:?}, training = {{ micro_batch = 4 }} }}\n\
         data = {{ dir = \"world\", training_clips = 6, evaluation_clips = 3 }}\n\
         loop = {{ iterations = 2, sampling = {{ max_new_tokens = 8 }} }}\n\
         train = {{ epochs = 2, batch_size = 2 }}\n\
         evaluation = {{ max_new_tokens = 8 }}\n\
         judge = {{ type = \"reference\", oracle = true }}\n{rest}"
    );
    fs::write(folder.join(format!("{name}.toml")), text).unwrap();
}

/// The files of a run by their paths, but for those that tell of a machine and a day or hold the config.
fn results(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    const OTHERS: [&str; 4] = ["config.toml", "provenance.json", "timings.jsonl", "report.html"];
    let (mut files, mut folders) = (BTreeMap::new(), vec![run.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                folders.push(path);
            } else if !OTHERS.contains(&name) {
                files.insert(path.strip_prefix(run).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn summary(run: &Path) -> Value {
    serde_json::from_slice(&fs::read(run.join("summary.json")).unwrap()).unwrap()
}

/// Number of lines of a CSV file with this event, and of the items that they count.
fn count(table: &str, event: &str) -> usize {
    let lines = table.lines().filter(|line| line.split(',').nth(1) == Some(event));
    lines.count()
}

#[test]
fn a_new_evaluator_and_a_new_observer_run_in_the_quickstart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (kind, name) in [("evaluator", "words_said"), ("observer", "diary")] {
        isr_line(path, &format!("plugins new --kind {kind} --lang python {name}")).result();
    }
    let evaluator = "[evaluator]\ntype = \"words_said\"\n";
    quickstart(path, "built-in", "");
    quickstart(path, "alone", &format!("plugins = [\"words_said/words_said.py\"]\n{evaluator}"));
    let both = "plugins = [\"words_said/words_said.py\", \"diary/diary.py\"]\n";
    quickstart(path, "watched", &format!("{both}{evaluator}[[observers]]\ntype = \"diary\"\n"));
    for run in ["built-in", "alone", "watched"] {
        isr_line(path, &format!("run {run}.toml --out {run}")).result();
    }

    // The evaluator's metrics are those of the run.
    let summary = summary(&path.join("watched"));
    for iteration in summary["iterations"].as_array().unwrap() {
        let greedy = &iteration["evaluation"]["greedy"];
        let mentioned = greedy["mentioned"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&mentioned), "{greedy}");
        assert!(greedy["added"].as_f64().is_some() && greedy.get("accuracy").is_none(), "{greedy}");
    }

    // The observer's file has every event.
    let table = fs::read_to_string(path.join("watched/diary.csv")).unwrap();
    assert!(table.starts_with("time,event,iteration,stage,rest\n"), "{table}");
    let lines = |name: &str| {
        let journal = |t: u32| path.join(format!("watched/iteration-{t:02}/{name}"));
        let texts = (0..=2).filter_map(|t| fs::read_to_string(journal(t)).ok());
        texts.map(|text| text.lines().count()).sum::<usize>()
    };
    let items: usize =
        ["responses.jsonl", "contexts.jsonl", "verdicts.jsonl", "evaluation.jsonl"].map(lines).iter().sum();
    assert!(items > 24, "{items}");
    assert_eq!(count(&table, "item_done"), items);
    assert_eq!(count(&table, "train_step"), lines("metrics.jsonl"));
    assert_eq!(count(&table, "stage_started"), count(&table, "stage_finished"));
    assert_eq!((count(&table, "run_started"), count(&table, "iteration_finished")), (1, 2));
    let last = table.lines().last().unwrap();
    assert_eq!(last.split(',').nth(1), Some("run_finished"), "{last}");

    // Nothing depends on the observer, and nothing but the evaluation on the evaluator.
    let (mut watched, alone) = (results(&path.join("watched")), results(&path.join("alone")));
    assert!(watched.remove(Path::new("diary.csv")).is_some());
    assert_eq!(watched.keys().collect::<Vec<_>>(), alone.keys().collect::<Vec<_>>());
    assert!(
        watched == alone,
        "{:?}",
        watched.iter().find(|(path, bytes)| alone[*path] != **bytes).map(|it| it.0)
    );
    let built_in = results(&path.join("built-in"));
    for name in ["responses.jsonl", "contexts.jsonl", "verdicts.jsonl", "pairs.jsonl", "metrics.jsonl"] {
        for iteration in ["iteration-01", "iteration-02"] {
            let path = Path::new(iteration).join(name);
            assert!(watched[&path] == built_in[&path], "{}", path.display());
        }
    }

    // A run goes on with another observer or none, and not with another evaluator.
    let more = "-s loop.iterations=3";
    isr_line(path, &format!("run alone.toml --out watched {more}")).result();
    let file = path.join("words_said/words_said.py");
    let text = fs::read_to_string(&file).unwrap().replace("0.01", "0.02");
    fs::write(&file, text).unwrap();
    let said = isr_line(path, "run alone.toml --out watched -s loop.iterations=4");
    assert!(
        said.stderr.contains("the plugin of evaluator words_said changed since it was started"),
        "{}",
        said.stderr
    );
}

#[test]
fn an_observer_that_raises_is_logged_once_and_the_run_has_the_same_results() {
    let folder = playground();
    let path = folder.path();
    let plugin = "from isr_plugin import *\nclass It(Observer):\n    'Raises.'\n    seen = 0\n    \
                  def observe(self, event):\n        self.seen += 1\n        if self.seen == 3: raise OSError('no disk')\n";
    fs::write(path.join("it.py"), plugin).unwrap();
    let config = "extends = 'run.toml'\nplugins = ['it.py']\n[[observers]]\ntype = 'it'\n";
    fs::write(path.join("watched.toml"), config).unwrap();
    isr_line(path, "run run.toml --out plain").result();
    let said = isr_line(path, "run watched.toml --out watched");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let told = "plugin `it`, observe: OSError: no disk (it.py, line 7, in observe); this observer gets no more events";
    assert_eq!(said.stderr.matches(told).count(), 1, "{}", said.stderr);
    assert!(results(&path.join("plain")) == results(&path.join("watched")));
}

#[test]
fn data_of_a_plugin_run_and_go_on_with_the_same_file_alone() {
    let folder = playground();
    let path = folder.path();
    isr_line(path, "plugins new --kind data --lang python squares").result();
    let config = "extends = 'run.toml'\nplugins = ['squares/squares.py']\n\
                  [data]\ntype = 'squares'\ntraining = 4\nevaluation = 2\n[loop]\niterations = 1\n";
    fs::write(path.join("mine.toml"), config).unwrap();
    isr_line(path, "run mine.toml --out run").result();
    let responses = fs::read_to_string(path.join("run/iteration-01/responses.jsonl")).unwrap();
    assert_eq!(responses.lines().count(), 4);
    assert!(responses.contains("\"video\":\"squares/pictures/training-0.png\""), "{responses}");
    let said = isr_line(path, "run mine.toml --out run -s data.training=0");
    assert!(said.stderr.contains("training is 0; it must be more than 0"), "{}", said.stderr);
    let said = isr_line(path, "config check mine.toml -s data.trainin=3");
    assert!(said.stderr.contains("did you mean `training`?"), "{}", said.stderr);
    let file = path.join("squares/squares.py");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\n# changed\n")).unwrap();
    let said = isr_line(path, "run mine.toml --out run -s loop.iterations=2");
    assert!(
        said.stderr.contains("the plugin of data squares changed since it was started"),
        "{}",
        said.stderr
    );
    let both = text.replace("f\"{split}-{number}.png\"", "f\"{number}.png\"");
    fs::write(&file, both).unwrap();
    let said = isr_line(path, "run mine.toml --out shared");
    let told = "plugin `squares`, evaluation: sample `evaluation-0` is about squares/pictures/0.png, which is trained on";
    assert!(said.stderr.contains(told), "{}", said.stderr);
}

#[test]
fn preferences_and_demonstrations_of_plugins_are_trained_on_and_bad_rows_quarantined() {
    let folder = playground();
    let path = folder.path();
    isr_line(path, "plugins new --kind preferences --lang python stars").result();
    let ratings = path.join("stars/stars.csv");
    let text = fs::read_to_string(&ratings).unwrap().replace("second_stars\n", "second_stars,video\n");
    fs::write(&ratings, text + "what is it?,a dog.,5,a cat.,1,nowhere.mp4\nwhat?,same,5,same,1\n").unwrap();
    let config = "name = 'rated'\nplugins = ['stars/stars.py']\n\
                  preferences = { type = 'stars' }\nobjective = { type = 'dpo' }\n\
                  policy = { type = 'torch', model = 'model', threads = 1 }\n\
                  video = { type = 'ffmpeg' }\ntrain = { batch_size = 2 }\nloop = { quarantine_limit = 0.5 }\n";
    fs::write(path.join("rated.toml"), config).unwrap();
    isr_line(path, "dpo rated.toml --out rated").result();
    let pairs = fs::read_to_string(path.join("rated/iteration-01/pairs.jsonl")).unwrap();
    assert_eq!(pairs.lines().count(), 5, "{pairs}");
    assert!(pairs.contains("\"origin\":\"stars:2\""), "{pairs}");
    let quarantine = fs::read_to_string(path.join("rated/iteration-01/quarantine.jsonl")).unwrap();
    for says in [
        "both answers have 3 stars",
        "there is no nowhere.mp4, neither below stars/ nor in the working directory",
        "`chosen` and `rejected` are the same text",
    ] {
        assert!(quarantine.contains(says), "{quarantine}");
    }

    let plugin = "from isr_plugin import *\nclass Lessons(Demonstrations):\n    'Teaches.'\n    def rows(self):\n        \
                  for n in range(6): yield Demonstration(f'what is {n}?', f'it is {n}.')\n        \
                  yield Demonstration('what?', ' ')\n";
    fs::write(path.join("lessons.py"), plugin).unwrap();
    let config = "extends = 'sft.toml'\nplugins = ['lessons.py']\ndemonstrations = { type = 'lessons' }\n\
                  training = { quarantine_limit = 0.5 }\n";
    fs::write(path.join("taught.toml"), config).unwrap();
    isr_line(path, "sft taught.toml --out taught").result();
    let quarantine = fs::read_to_string(path.join("taught/quarantine.jsonl")).unwrap();
    assert!(quarantine.contains("`answer` is empty"), "{quarantine}");
}
