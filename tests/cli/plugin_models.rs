//! Runs of policies and encoders that are plugins in Python, or libraries in processes of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::plugin_files::libraries::fixture;
use crate::support::{isr_line, playground, started};

/// The run of the playground with a policy in Python, which reads frames itself. It notes where its frames lie, and dies
/// once in the third training step where the file `die` is there.
fn with_own_policy(folder: &Path) {
    isr_line(folder, "plugins new --kind policy --lang python mine").result();
    let file = folder.join("mine/mine.py");
    let faulty = "\n\nclass Mortal(Mine):\n    \"\"\"A policy that notes and dies.\"\"\"\n\n    \
                  def colour(self, video):\n        \
                      with open('folders', 'a') as file: file.write(os.path.dirname(video.file) + '\\n')\n        \
                      return super().colour(video)\n\n    \
                  def forward(self, sequences, step, seed):\n        \
                      if step == 2 and os.path.exists('die'):\n            \
                          os.remove('die')\n            \
                          print('out of memory', flush=True)\n            \
                          os._exit(9)\n        \
                      return super().forward(sequences, step, seed)\n";
    fs::write(&file, fs::read_to_string(&file).unwrap() + faulty).unwrap();
    fs::rename(folder.join("run.toml"), folder.join("base.toml")).unwrap();
    let config = "extends = \"base.toml\"\nplugins = [\"mine/mine.py\"]\nencoder = \"none\"\nretrospector = \"none\"\n\
                  judge = { type = \"length\" }\npolicy = { type = \"mortal\", micro_batch = 2 }\n\
                  [train]\nepochs = 2\nlearning_rate = 0.1\n";
    fs::write(folder.join("run.toml"), config).unwrap();
}

/// The files of a run by their paths, but for those that tell of a machine and a day.
fn results(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    const OTHERS: [&str; 3] = ["provenance.json", "timings.jsonl", "report.html"];
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

#[track_caller]
fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (results(a), results(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    let different: Vec<_> = a.keys().filter(|name| a[*name] != b[*name]).collect();
    assert!(different.is_empty(), "{different:?} differ");
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_policy_in_python_is_aligned_and_a_run_that_ended_early_goes_on_to_the_same_bytes() {
    let folder = playground();
    let path = folder.path();
    with_own_policy(path);
    isr_line(path, "run run.toml --out whole").result();
    let whole = path.join("whole");
    let summary = json(&whole.join("summary.json"));
    let iterations = summary["iterations"].as_array().unwrap();
    assert_eq!(iterations.len(), 2);
    let metrics = fs::read_to_string(whole.join("iteration-01/metrics.jsonl")).unwrap();
    let first: Value = serde_json::from_str(metrics.lines().next().unwrap()).unwrap();
    assert_eq!(first["metrics"]["sampling_score_drift_max"], 0.0, "{first}");
    assert!(metrics.lines().count() >= 3, "there is a step that it can die in: {metrics}");
    assert!(whole.join("iteration-02/checkpoint/mine.json").exists());
    let responses = |iteration: &str| {
        let text = fs::read_to_string(whole.join(iteration).join("responses.jsonl")).unwrap();
        let record: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        record["responses"][0]["policy"].as_str().unwrap().to_owned()
    };
    assert_ne!(responses("iteration-01"), responses("iteration-02"), "it was trained in between");
    let fingerprints = json(&whole.join("fingerprints.json"));
    assert!(fingerprints.get("encoder").is_none(), "{fingerprints}");
    assert_eq!(fingerprints["policy"], responses("iteration-01").as_str());
    assert!(
        fingerprints["plugins"]["policy mortal"].as_str().unwrap().starts_with("0.1.0 "),
        "{fingerprints}"
    );
    for folder in fs::read_to_string(path.join("folders")).unwrap().lines() {
        assert!(!Path::new(folder).exists(), "{folder} is left");
    }

    // The policy's process dies in a training step.
    fs::write(path.join("die"), "").unwrap();
    let died = isr_line(path, "run run.toml --out died");
    assert_eq!(died.code, Some(1), "{}", died.stderr);
    for says in [
        "plugin `mortal`, forward: the process ended (with status 9); its last lines on stderr:",
        "out of memory",
        "its weights were those of a training and are gone with it: start the command again",
    ] {
        assert!(died.stderr.contains(says), "{says}: {}", died.stderr);
    }
    assert!(path.join("died/iteration-01/training/step-000002").exists(), "its snapshot");
    isr_line(path, "run run.toml --out died").result();
    assert_same(&whole, &path.join("died"));

    // The program is killed.
    for mark in
        ["iteration 1, respond", "iteration 1, train", "iteration 2, respond", "iteration 2, evaluate"]
    {
        let mut child = started(path, "cut", mark);
        std::thread::sleep(std::time::Duration::from_millis(30));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    isr_line(path, "run run.toml --out cut").result();
    assert_same(&whole, &path.join("cut"));
}

#[test]
fn a_policy_in_python_gets_the_features_of_an_encoder_in_python() {
    let folder = playground();
    let path = folder.path();
    isr_line(path, "plugins new --kind encoder --lang python cells").result();
    let plugin = "from isr_plugin import *\nimport sys\nsys.path.insert(0, 'mine')\nfrom mine import Mine\n\
                  class Seeing(Mine):\n    'Takes features.'\n    \
                  def colour(self, video):\n        \
                      numbers = memoryview(video.features.array()).cast('B').cast('f')\n        \
                      assert video.features.shape == (2, 4, 3) and len(numbers) == 24, video.features\n        \
                      return [sum(numbers[channel::3]) / 8 for channel in range(3)]\n";
    fs::write(path.join("seeing.py"), plugin).unwrap();
    with_own_policy(path);
    let config = "extends = \"run.toml\"\nplugins = [\"seeing.py\", \"cells/cells.py\"]\n\
                  policy = { type = \"seeing\" }\nencoder = { type = \"cells\" }\nloop = { iterations = 1 }\n";
    fs::write(path.join("seen.toml"), config).unwrap();
    isr_line(path, "run seen.toml --out seen").result();
    let fingerprints = json(&path.join("seen/fingerprints.json"));
    assert_eq!(fingerprints["encoder"].as_str().unwrap().len(), 32, "{fingerprints}");
}

#[test]
fn an_isolated_policy_of_a_library_is_aligned_and_a_run_that_it_ended_goes_on_to_the_same_bytes() {
    let folder = playground();
    let path = folder.path();
    fs::rename(path.join("run.toml"), path.join("base.toml")).unwrap();
    let config = format!(
        "extends = \"base.toml\"\nplugins = [{{ path = {:?}, isolation = \"process\" }}]\n\
         encoder = {{ type = \"mean\" }}\nretrospector = \"none\"\njudge = {{ type = \"length\" }}\n\
         policy = {{ type = \"faulty\", behaviour = \"die once in training\" }}\n\
         [train]\nepochs = 3\nlearning_rate = 0.1\n",
        fixture()
    );
    fs::write(path.join("run.toml"), config).unwrap();
    isr_line(path, "run run.toml --out whole").result();
    let whole = path.join("whole");
    assert_eq!(json(&whole.join("summary.json"))["iterations"].as_array().unwrap().len(), 2);
    let metrics = fs::read_to_string(whole.join("iteration-01/metrics.jsonl")).unwrap();
    assert!(metrics.lines().count() >= 3, "there is a step that it can die in: {metrics}");

    fs::write(path.join("die"), "").unwrap();
    let died = isr_line(path, "run run.toml --out died");
    assert_eq!(died.code, Some(1), "{}", died.stderr);
    for says in [
        "plugin `faulty`, train_step: the process ended (by signal 6",
        "out of memory",
        "its weights were those of a training and are gone with it: start the command again",
    ] {
        assert!(died.stderr.contains(says), "{says}: {}", died.stderr);
    }
    isr_line(path, "run run.toml --out died").result();
    assert_same(&whole, &path.join("died"));
}
