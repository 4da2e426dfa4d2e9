//! `isr dpo`, and `isr sft` on files: pairs and demonstrations that exist already.

use std::fs;
use std::path::Path;

use isr_dpo::registry::PreferencesConfig;
use isr_dpo::store::read_journal;
use isr_dpo::{BuildContext, Preference, records::PairRecord};
use serde_json::{Value, json};

use crate::support::{clip, isr_line, playground};

const DPO: &str = r#"
name = "offline"
[preferences]
type = "files"
path = "pairs.jsonl"
[video]
type = "ffmpeg"
sampling = { rule = "uniform", frames = 2 }
[policy]
type = "torch"
model = "model"
batch = 8
threads = 1
[objective]
type = "dpo"
[loop]
quarantine_limit = 0.5
[train]
batch_size = 2
learning_rate = 1e-3
snapshot_every = 1
"#;

fn rows(folder: &Path, path: &str) -> Vec<Preference> {
    let section = json!({ "type": "files", "path": folder.join(path) });
    let config: Box<dyn PreferencesConfig> = serde_json::from_value(section).unwrap();
    let source = config.build(&BuildContext::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let rows = runtime.block_on(source.rows()).unwrap();
    rows.into_iter().collect::<Result<_, _>>().unwrap()
}

fn pairs(run: &Path) -> Vec<PairRecord> {
    read_journal(&run.join("iteration-01/pairs.jsonl")).unwrap()
}

/// What of a pair a dataset has: video, earlier turns, prompt, answers.
fn content(pair: &PairRecord, folder: &Path) -> Value {
    let video = if pair.video.is_empty() { None } else { Some(folder.join(&pair.video)) };
    json!([video, pair.turns, pair.prompt, pair.chosen, pair.rejected])
}

fn same_content(pair: &Preference) -> Value {
    json!([pair.video, pair.turns, pair.prompt, pair.chosen, pair.rejected])
}

/// Pairs about a clip, a picture and nothing, with a system prompt and earlier turns; the third cannot be used.
fn write_pairs(folder: &Path) {
    clip(folder);
    let picture = include_bytes!("../../plugins/video/tests/fixtures/pictures/base.png");
    fs::write(folder.join("picture.png"), picture).unwrap();
    let said = |role: &str, content: &str| json!({ "role": role, "content": content });
    let row = |before: &[Value], media: (&str, Value)| {
        let prompt = [before, &[said("user", "what colour is the bar?")]].concat();
        let mut row = json!({
            "prompt": prompt,
            "chosen": [said("assistant", "the bar is red.")],
            "rejected": [said("assistant", "the video.")],
        });
        row[media.0] = media.1;
        row
    };
    let earlier = [said("system", "describe"), said("user", "what?"), said("assistant", "the bar.")];
    let rows = [
        row(&[], ("videos", json!(["clip.mp4"]))),
        row(&earlier, ("images", json!(["picture.png"]))),
        row(&[], ("videos", json!(["gone.mp4"]))),
        row(&earlier[..1], ("images", json!([]))),
    ];
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    fs::write(folder.join("pairs.jsonl"), text).unwrap();
    fs::write(folder.join("dpo.toml"), DPO).unwrap();
}

#[test]
fn what_is_exported_is_read_back_to_the_same_pairs() {
    let folder = playground();
    let path = folder.path();
    isr_line(path, "run run.toml -q --out out -s loop.iterations=1").result();
    let trained_on: Vec<Value> = pairs(&path.join("out")).iter().map(|pair| content(pair, path)).collect();
    assert!(!trained_on.is_empty());
    for format in ["trl", "ms-swift", "llama-factory", "llava-hound"] {
        isr_line(path, &format!("export out --format {format} --out {format}/pairs.jsonl")).result();
        let read: Vec<Value> =
            rows(path, &format!("{format}/pairs.jsonl")).iter().map(same_content).collect();
        assert_eq!(read, trained_on, "{format}");
    }
}

#[test]
fn pairs_that_exist_are_trained_on_reported_and_exported_as_those_of_a_run() {
    let folder = playground();
    let path = folder.path();
    write_pairs(path);
    let checked = isr_line(path, "config check dpo.toml").result();
    assert_eq!(
        checked,
        "preferences: 3 pairs; 1 row cannot be used, the first: pairs.jsonl:3: `videos` names gone.mp4, which does not \
         exist\nok\n"
    );
    let said = isr_line(path, "dpo dpo.toml -q --out out");
    assert!(said.stderr.is_empty(), "{}", said.stderr);
    assert!(said.result().contains("iteration  pairs"));
    let out = path.join("out");
    let trained_on = pairs(&out);
    assert_eq!(trained_on.len(), 3);
    let origins: Vec<_> = trained_on.iter().map(|pair| pair.origin.clone().unwrap()).collect();
    assert_eq!(origins, ["pairs.jsonl:1", "pairs.jsonl:2", "pairs.jsonl:4"]);
    let quarantine = fs::read_to_string(out.join("iteration-01/quarantine.jsonl")).unwrap();
    assert_eq!(
        quarantine.trim(),
        r#"{"stage":"preferences","subject":"pairs.jsonl:3","reason":"`videos` names gone.mp4, which does not exist"}"#
    );
    assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("offline"));
    let content_of_run: Vec<Value> = trained_on.iter().map(|pair| content(pair, path)).collect();
    for format in ["trl", "ms-swift", "llama-factory"] {
        isr_line(path, &format!("export out --format {format} --out {format}/pairs.jsonl")).result();
        let read: Vec<Value> =
            rows(path, &format!("{format}/pairs.jsonl")).iter().map(same_content).collect();
        assert_eq!(read, content_of_run, "{format}");
    }
    let said = isr_line(path, "export out --format llava-hound --out hound.jsonl").result();
    assert_eq!(
        said,
        "hound.jsonl: 1 pair, 2 with earlier turns, which the format does not have left out\n"
    );
    // Without its last files it is a training that was cut.
    let weights = out.join("iteration-01/checkpoint/model.safetensors");
    let before = fs::read(&weights).unwrap();
    fs::remove_dir_all(out.join("iteration-01/checkpoint")).unwrap();
    fs::remove_file(out.join("summary.json")).unwrap();
    isr_line(path, "dpo dpo.toml -q --out out").result();
    assert!(fs::read(&weights).unwrap() == before, "the same bytes");
    let said = isr_line(path, "dpo dpo.toml -q --out out -s objective.beta=0.2");
    assert!(said.stderr.contains("objective.beta"), "{}", said.stderr);
}

#[test]
fn a_set_of_another_layout_and_settings_out_of_range_are_refused() {
    let folder = playground();
    let path = folder.path();
    write_pairs(path);
    let said = isr_line(path, "dpo dpo.toml -q --out out -s preferences.layout=ms_swift");
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("they are of layout = \"trl\""), "{}", said.stderr);
    let said =
        isr_line(path, "dpo dpo.toml -q --out out -s preferences.path=pears.jsonl -s train.epochs=0");
    assert_eq!(said.code, Some(2));
    assert!(
        said.stderr.contains("preferences.path") && said.stderr.contains("train.epochs"),
        "{}",
        said.stderr
    );
    let schema: Value = serde_json::from_str(&isr_line(path, "config schema --dpo").result()).unwrap();
    assert!(schema["properties"]["preferences"].is_object());
    let listed = isr_line(path, "plugins describe preferences files").all();
    assert!(listed.contains("media_root"), "{listed}");
}

#[test]
fn a_run_mixes_pairs_of_data_into_its_own() {
    let folder = playground();
    let path = folder.path();
    write_pairs(path);
    let mix = "[[loop.mix]]\nshare = 0.25\niterations = [1]\npreferences = { type = \"files\", path = \"pairs.jsonl\" }\n";
    fs::write(
        path.join("mix.toml"),
        format!("extends = \"run.toml\"\n[loop]\nquarantine_limit = 0.5\n{mix}"),
    )
    .unwrap();
    isr_line(path, "run mix.toml -q --out out -s loop.iterations=1").result();
    let pairs = pairs(&path.join("out"));
    let from_data = pairs.iter().filter(|pair| pair.origin.is_some()).count();
    let own = pairs.len() - from_data;
    assert!(own > 0 && from_data == ((own as f64 / 3.0).round() as usize).min(3), "{own} and {from_data}");
    let twice = fs::read_to_string(path.join("mix.toml")).unwrap() + &mix.replace("0.25", "0.8");
    fs::write(path.join("twice.toml"), twice).unwrap();
    let said = isr_line(path, "run twice.toml -q --out twice");
    assert_eq!(said.code, Some(2));
    assert!(
        said.stderr.contains("has shares that add up to 1.05 in iteration 1; 1 is the most"),
        "{}",
        said.stderr
    );
    isr_line(path, "report out").result();
    isr_line(path, "audit out").result();
}

#[test]
fn conversations_are_a_warm_start() {
    let folder = playground();
    let path = folder.path();
    clip(path);
    let turns = json!([
        { "from": "human", "value": "<video>\nwhat colour is the bar?" }, { "from": "gpt", "value": "the bar is red." },
        { "from": "human", "value": "describe the video." }, { "from": "gpt", "value": "the bar." },
    ]);
    let rows = json!([{ "id": 1, "video": "clip.mp4", "conversations": turns }, { "id": 2, "conversations": turns }]);
    fs::write(path.join("train.json"), rows.to_string()).unwrap();
    let config = r#"
[demonstrations]
type = "files"
path = "train.json"
[video]
type = "ffmpeg"
[policy]
type = "torch"
model = "model"
threads = 1
[objective]
type = "sft"
[training]
epochs = 2
batch_size = 2
shuffle = true
quarantine_limit = 0.5
"#;
    fs::write(path.join("files.toml"), config).unwrap();
    let checked = isr_line(path, "config check files.toml").result();
    assert!(
        checked.starts_with("demonstrations: 2 demonstrations; 1 row cannot be used, the first: "),
        "{checked}"
    );
    isr_line(path, "sft files.toml --out warm").result();
    let steps = fs::read_to_string(path.join("warm/metrics.jsonl")).unwrap();
    assert_eq!(steps.lines().count(), 2, "two demonstrations of the row that can be used, twice");
    let quarantine = fs::read_to_string(path.join("warm/quarantine.jsonl")).unwrap();
    assert!(quarantine.contains("names no video or image"), "{quarantine}");
    assert!(path.join("warm/checkpoint/model.safetensors").exists());
}
