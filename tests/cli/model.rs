//! `isr generate`, `isr score`, and what they say about bad checkpoints.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};
use serde::Deserialize;
use serde_json::json;

use crate::support::{Said, clip, golden_model, isr};

#[derive(Deserialize)]
struct Generated {
    text: String,
    token_ids: Vec<u32>,
    logprobs: Vec<f64>,
    finish_reason: String,
}

#[derive(Deserialize)]
struct Scored {
    id: String,
    token_ids: Vec<u32>,
    logprobs: Vec<f64>,
    sum: f64,
}

fn generate(folder: &Path, model: &Path, more: &[&str]) -> Said {
    let model = model.to_str().unwrap();
    let args = ["generate", "--model", model, "--video", "clip.mp4", "--prompt", "What is shown?"];
    isr(folder, args.iter().chain(more))
}

fn score(folder: &Path, lines: &[serde_json::Value]) -> Said {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(folder.join("data.jsonl"), text).unwrap();
    let model = golden_model();
    isr(folder, ["score", "--model", model.to_str().unwrap(), "--data", "data.jsonl", "--json"])
}

#[test]
fn score_gives_the_log_probs_that_generate_gave() {
    let folder = tempfile::tempdir().unwrap();
    clip(folder.path());
    let draws: [&[&str]; 2] = [&["--greedy"], &["--seed", "5", "--top-p", "0.9"]];
    let mut answers = Vec::new();
    for draw in draws {
        let flags = [draw, &["--json", "--max-new-tokens", "12"]].concat();
        let text = generate(folder.path(), &golden_model(), &flags).result();
        assert_eq!(text, generate(folder.path(), &golden_model(), &flags).result(), "the same each time");
        let answer: Generated = serde_json::from_str(&text).unwrap();
        assert_eq!(answer.token_ids.len(), answer.logprobs.len());
        assert!(["stop", "length"].contains(&answer.finish_reason.as_str()));
        answers.push(answer);
    }
    let line = |id: &str, tokens: &[u32]| json!({ "id": id, "video": "clip.mp4", "prompt": "What is shown?", "token_ids": tokens });
    let lines = [line("greedy", &answers[0].token_ids), line("drawn", &answers[1].token_ids)];
    let scored = score(folder.path(), &lines).result();
    let scored: Vec<Scored> = scored.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for ((scored, answer), id) in scored.iter().zip(&answers).zip(["greedy", "drawn"]) {
        assert_eq!((scored.id.as_str(), &scored.token_ids), (id, &answer.token_ids));
        for (a, b) in scored.logprobs.iter().zip(&answer.logprobs) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
        assert!((scored.sum - scored.logprobs.iter().sum::<f64>()).abs() < 1e-5);
    }
}

#[test]
fn without_json_there_is_the_text_alone() {
    let folder = tempfile::tempdir().unwrap();
    clip(folder.path());
    let flags = ["--greedy", "--max-new-tokens", "6"];
    let plain = generate(folder.path(), &golden_model(), &flags).result();
    let json = generate(folder.path(), &golden_model(), &[&flags[..], &["--json"]].concat()).result();
    let answer: Generated = serde_json::from_str(&json).unwrap();
    assert_eq!(plain, answer.text + "\n");
}

#[test]
fn a_bad_line_is_reported_in_its_place_and_the_others_are_scored() {
    let folder = tempfile::tempdir().unwrap();
    clip(folder.path());
    let line = |id: &str, video: &str| json!({ "id": id, "video": video, "prompt": "What is shown?", "response": "a ring" });
    let no_answer = json!({ "id": "c", "video": "clip.mp4", "prompt": "What is shown?" });
    let said = score(
        folder.path(),
        &[line("a", "clip.mp4"), line("b", "no.mp4"), no_answer, line("d", "clip.mp4")],
    );
    assert_eq!((said.code, said.stderr.as_str()), (Some(1), "error: 2 of 4 lines cannot be scored\n"));
    let lines: Vec<serde_json::Value> =
        said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line["id"].as_str().unwrap()).collect::<String>(), "abcd");
    assert_eq!(lines[0]["logprobs"], lines[3]["logprobs"]);
    assert!(lines[1]["error"].as_str().unwrap().contains("no.mp4"), "{}", lines[1]);
    assert_eq!(lines[2], json!({ "id": "c", "line": 3, "error": "missing field `response`" }));
}

/// Also of a video of one frame, which needs no flag.
#[test]
fn a_list_is_scored_whatever_its_shape() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    let one = Command::new(isr_ffmpeg::locate().unwrap())
        .args(["-v", "error", "-i"])
        .arg(clip)
        .args(["-frames:v", "1"])
        .arg(folder.path().join("one.mp4"))
        .status()
        .unwrap();
    assert!(one.success());
    let line = |id: &str, video: &str| json!({ "id": id, "video": video, "prompt": "What is shown?", "response": "a ring" });
    let rows = [line("a", "clip.mp4"), line("b", "one.mp4")];
    let expected = score(folder.path(), &rows).result();
    assert_eq!(expected.lines().count(), 2);
    let shapes = [
        json!(rows).to_string(),
        serde_json::to_string_pretty(&rows).unwrap(),
        format!("\u{feff}{}\r\n\r\n{}", rows[0], rows[1]),
    ];
    let model = golden_model();
    for shape in shapes {
        fs::write(folder.path().join("data.json"), &shape).unwrap();
        let args = ["score", "--model", model.to_str().unwrap(), "--data", "data.json", "--json"];
        assert_eq!(isr(folder.path(), args).result(), expected, "{shape}");
    }
    let utf_16: Vec<u8> = rows[0].to_string().encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(folder.path().join("data.json"), utf_16).unwrap();
    let said = isr(folder.path(), ["score", "--model", model.to_str().unwrap(), "--data", "data.json"]);
    assert!(said.code == Some(2) && said.stderr.contains("UTF-16"), "{}", said.stderr);
}

#[test]
fn bad_arguments_are_exit_code_2_and_bad_videos_1() {
    let folder = tempfile::tempdir().unwrap();
    clip(folder.path());
    let refused = |more: &[&str]| generate(folder.path(), &golden_model(), more).all();
    insta::assert_snapshot!(refused(&["--top-p", "3"]), @r#"
    exit code 2
    error: --top-p is 3; it must be in (0, 1]
    "#);
    insta::assert_snapshot!(refused(&["--frames", "0"]), @r#"
    exit code 2
    error: --frames is 0, but must be from 1 to 1024
    "#);
    insta::assert_snapshot!(refused(&["--device", "gpu"]), @r#"
    exit code 2
    error: device `gpu` is not one of auto, cpu, cuda, cuda:N
    "#);
    fs::write(folder.path().join("clip.mp4"), "").unwrap();
    insta::assert_snapshot!(refused(&["--greedy"]), @r#"
    exit code 1
    error: clip.mp4 is empty: fetch it again
    "#);
}

#[test]
fn inspect_tells_sizes_and_memory_from_headers() {
    let inspect = |more: &[&str]| {
        let model = golden_model();
        isr(Path::new("."), ["inspect", model.to_str().unwrap()].iter().chain(more)).result()
    };
    let text = inspect(&["--precision", "float32", "--frames", "4", "--tokens", "100"]);
    insta::assert_snapshot!(text.replace(&*golden_model().to_string_lossy(), "MODEL"));
    let json: serde_json::Value = serde_json::from_str(&inspect(&["--json", "--batch", "2"])).unwrap();
    assert_eq!(json["bytes"].as_u64().unwrap(), 4 * json["parameters"].as_u64().unwrap());
    let memory = |key: &str| json["memory"][key].as_u64().unwrap();
    assert!(memory("inference") < memory("lora") && memory("lora_checkpointing") < memory("full"));
    let none = isr(Path::new("."), ["inspect", "nowhere"]);
    assert_eq!(none.code, Some(2));
    assert!(none.stderr.contains("nowhere is neither a folder nor a model of the hub"), "{}", none.stderr);
}

/// A copy of the golden checkpoint whose tensors went through `change`.
fn changed(folder: &Path, change: impl FnOnce(&mut Tensors)) -> PathBuf {
    let copy = folder.join("checkpoint");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(golden_model()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    let bytes = fs::read(copy.join("model.safetensors")).unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    let own = |(name, view): (String, TensorView<'_>)| {
        (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
    };
    let mut tensors: Tensors = read.tensors().into_iter().map(own).collect();
    change(&mut tensors);
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    serialize_to_file(views, metadata, &copy.join("model.safetensors")).unwrap();
    copy
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn refused(change: impl FnOnce(&mut Tensors)) -> String {
    let folder = tempfile::tempdir().unwrap();
    clip(folder.path());
    let model = changed(folder.path(), change);
    let said = generate(folder.path(), &model, &["--greedy", "--max-new-tokens", "2"]);
    said.all().replace(&*folder.path().to_string_lossy(), "FOLDER")
}

fn norm(tensors: &Tensors) -> String {
    tensors.keys().find(|name| name.ends_with("model.norm.weight")).unwrap().clone()
}

#[test]
fn an_unchanged_copy_of_a_checkpoint_loads() {
    assert!(refused(|_| ()).starts_with("exit code 0\n"));
}

#[test]
fn a_missing_tensor_is_named() {
    let text = refused(|tensors| {
        let name = norm(tensors);
        tensors.remove(&name);
    });
    insta::assert_snapshot!(text, @r#"
    exit code 2
    error: FOLDER/checkpoint/model.safetensors: 1 tensors do not fit config.json: missing language_model.model.norm.weight [64]
    "#);
}

#[test]
fn an_extra_tensor_is_named() {
    let text = refused(|tensors| {
        let data = (Dtype::F32, vec![1], vec![0; 4]);
        tensors.insert("language_model.model.layers.0.extra.weight".to_owned(), data);
    });
    insta::assert_snapshot!(text, @r#"
    exit code 2
    error: FOLDER/checkpoint/model.safetensors: 1 tensors do not fit config.json: unexpected language_model.model.layers.0.extra.weight
    "#);
}

#[test]
fn a_misspelt_tensor_is_named_with_the_right_name() {
    let text = refused(|tensors| {
        let name = norm(tensors);
        let tensor = tensors.remove(&name).unwrap();
        tensors.insert(name.replace("norm", "nrom"), tensor);
    });
    insta::assert_snapshot!(text, @r#"
    exit code 2
    error: FOLDER/checkpoint/model.safetensors: 2 tensors do not fit config.json: missing language_model.model.norm.weight [64]; unexpected language_model.model.nrom.weight
    "#);
}

#[test]
fn a_misshapen_tensor_is_named_with_both_shapes() {
    let text = refused(|tensors| {
        let name = norm(tensors);
        let (_, shape, _) = tensors.get_mut(&name).unwrap();
        *shape = vec![2, shape[0] / 2];
    });
    insta::assert_snapshot!(text, @r#"
    exit code 2
    error: FOLDER/checkpoint/model.safetensors: 1 tensors do not fit config.json: language_model.model.norm.weight has shape [2, 32], expected [64]
    "#);
}
