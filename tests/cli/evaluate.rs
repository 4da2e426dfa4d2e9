//! `isr evaluate`: models and others' predictions on question sets.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::serve::Serving;
use crate::support::{Said, clip, golden_model, isr, isr_line, playground};

fn write_lines(path: &Path, rows: &[Value]) {
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    fs::write(path, text).unwrap();
}

/// Questions of LLaVA-Hound's layout about a clip that is there, by the path of another machine, and one about none.
fn questions(folder: &Path) {
    clip(folder);
    let row = |id: &str, video: &str, answer: &str| {
        json!({
            "id": id, "video": video, "caption": "a test picture",
            "conversations": [
                { "from": "human", "value": "<video>\nWhat is shown?" }, { "from": "gpt", "value": answer },
            ],
        })
    };
    let rows = [
        row("a", "/mnt/frames/clip", "a test picture"),
        row("b", "clip", "A dog."),
        row("c", "nowhere", "nothing"),
        json!({ "id": "d", "video": "clip", "conversations": [] }),
    ];
    write_lines(&folder.join("msvd.qa.jsonl"), &rows);
}

fn evaluate(folder: &Path, more: &[&str]) -> Said {
    let args = ["evaluate", "--questions", "msvd.qa.jsonl", "--scorer", "exact", "--out", "out"];
    isr(folder, args.iter().chain(more))
}

#[test]
fn a_checkpoint_answers_each_question_once_and_its_rows_are_those_of_the_published_layout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    questions(path);
    let model = golden_model();
    let asked = ["--model", model.to_str().unwrap(), "-s", "generation.max_new_tokens=4"];
    let said = evaluate(path, &asked);
    assert!(said.stdout.starts_with("| Model | msvd Acc. | Score |"), "{}{}", said.stdout, said.stderr);
    assert!(
        said.stdout.contains("tiny_llava on msvd: 1 of 3 questions have no prediction"),
        "{}",
        said.stdout
    );
    assert!(said.stdout.contains("tiny_llava on msvd: 2 rows in quarantine"), "{}", said.stdout);
    let dir = path.join("out/tiny_llava/msvd");
    let predictions = fs::read_to_string(dir.join("predictions.jsonl")).unwrap();
    let rows: Vec<Value> = predictions.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(
        (&rows[0]["query"], &rows[0]["answer"]),
        (&json!("What is shown?"), &json!("a test picture"))
    );
    assert_eq!(rows[0]["modal_type"], "VIDEO");
    assert_eq!(
        (&rows[1]["model_prediction"]["status"], &rows[2]["model_prediction"]["status"]),
        (&json!("success"), &json!("error"))
    );
    let generated = [
        "generate",
        "--model",
        model.to_str().unwrap(),
        "--video",
        "clip.mp4",
        "--prompt",
        "What is shown?",
        "--greedy",
        "--max-new-tokens",
        "4",
    ];
    let answer = isr(path, generated).result();
    assert_eq!(rows[0]["model_prediction"]["message"].as_str().unwrap().trim(), answer.trim());
    let quarantine = fs::read_to_string(dir.join("quarantine.jsonl")).unwrap();
    let lines: Vec<Value> = quarantine.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&lines[0]["line"], &lines[0]["reason"]),
        (&json!(4), &json!("`conversations` has no question"))
    );
    assert!(
        lines[1]["line"] == 3 && lines[1]["reason"].as_str().unwrap().contains("no video `nowhere`"),
        "{quarantine}"
    );

    // What is answered is not asked again: no model is loaded.
    let again = evaluate(path, &asked);
    assert_eq!((again.code, again.stdout), (Some(0), said.stdout));
    assert!(!again.stderr.contains("loading"), "{}", again.stderr);
    // A session that was cut in the middle of a line goes on to the same bytes.
    let cut = predictions.len() - predictions.lines().last().unwrap().len() - 20;
    fs::write(dir.join("predictions.jsonl"), &predictions[..cut]).unwrap();
    assert_eq!(evaluate(path, &asked).code, Some(0));
    assert_eq!(fs::read_to_string(dir.join("predictions.jsonl")).unwrap(), predictions);
    // Other settings are another model's answers.
    let other = evaluate(path, &["--model", model.to_str().unwrap(), "-s", "generation.max_new_tokens=5"]);
    assert_eq!(other.code, Some(2));
    assert!(other.stderr.contains("max_new_tokens is not what answered there"), "{}", other.stderr);
}

#[test]
fn predictions_of_others_are_compared_with_the_first_in_one_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let row = |index: usize| json!({ "id": index, "video": format!("v{}", index / 2), "question": "what?", "answer": "a dog" });
    write_lines(&path.join("msvd.qa.jsonl"), &(0..8).map(row).collect::<Vec<_>>());
    let theirs = |index: usize| json!({ "id": index, "question": "what?", "pred": if index.is_multiple_of(4) { "Dog." } else { "cat" } });
    write_lines(&path.join("theirs.jsonl"), &(0..8).map(theirs).collect::<Vec<_>>());
    let hound = |index: usize| {
        let message = if index < 6 { "the dog" } else { "cat" };
        json!({ "id": index, "query": "what?", "model_prediction": { "status": "success", "message": message } })
    };
    fs::write(path.join("mine.json"), Value::from((0..8).map(hound).collect::<Vec<_>>()).to_string())
        .unwrap();
    let config = "scoring = { scorer = 'exact' }\n\
        models = [{ name = 'theirs', predictions = 'theirs.jsonl' }, { name = 'mine', predictions = 'mine.json' }]\n\
        [[sets]]\nname = 'msvd'\ndomain = 'out'\nquestions = 'msvd.qa.jsonl'\n\
        [[sets]]\nname = 'webvid_a'\ndomain = 'in'\nquestions = 'msvd.qa.jsonl'\n";
    fs::write(path.join("paper.toml"), config).unwrap();
    assert_eq!(isr_line(path, "config check --evaluate paper.toml").result(), "ok\n");
    let table = isr_line(path, "evaluate paper.toml --out out").result();
    insta::assert_snapshot!("evaluate_markdown", table.replace(&digest(path), "DIGEST"));
    let latex = fs::read_to_string(path.join("out/table.tex")).unwrap();
    insta::assert_snapshot!("evaluate_latex", latex.replace(&digest(path), "DIGEST"));
    assert_eq!(fs::read_to_string(path.join("out/table.md")).unwrap(), table);
    // Files of a config are found beside it.
    let elsewhere = tempfile::tempdir().unwrap();
    let line = format!("evaluate {}/paper.toml --out out", path.display());
    assert_eq!(isr_line(elsewhere.path(), &line).result(), table);
    let lines = fs::read_to_string(path.join("out/eval_results.jsonl")).unwrap();
    assert_eq!(lines.lines().next(), Some(r#"{"result":"25.00","name_or_path":"theirs/msvd"}"#));
    let results: Value =
        serde_json::from_str(&isr_line(path, "evaluate paper.toml --out out --json").result()).unwrap();
    let difference = &results["differences"][0];
    assert_eq!(
        (&difference["first"], &difference["second"], &difference["accuracy"]["value"]),
        (&json!("theirs"), &json!("mine"), &json!(0.5))
    );
    assert_eq!(results["results"][0]["accuracy"]["videos"], 4);
}

/// First digits of the scorer's fingerprint.
fn digest(folder: &Path) -> String {
    let results: Value =
        serde_json::from_slice(&fs::read(folder.join("out/results.json")).unwrap()).unwrap();
    results["results"][0]["scorer_fingerprint"].as_str().unwrap()[..8].to_owned()
}

#[test]
fn the_config_of_the_papers_table_is_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let said = isr_line(root, "config check --evaluate configs/evaluation/paper.toml").result();
    assert_eq!(said, "ok\n");
}

#[test]
fn what_cannot_be_evaluated_is_named_before_a_model_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    questions(path);
    write_lines(
        &path.join("dpo.jsonl"),
        &[json!({ "id": 1, "video": "clip", "prompt": "what?", "chosen": "a" })],
    );
    let model = "--model none --out out";
    let mut shown = String::new();
    for line in [
        format!("evaluate --questions dpo.jsonl --scorer exact {model}"),
        format!("evaluate --questions none.jsonl --scorer exact {model}"),
        format!("evaluate --questions msvd.qa.jsonl --scorer options {model}"),
        format!("evaluate --questions msvd.qa.jsonl --scorer score_1_5 {model}"),
        format!("evaluate --questions msvd.qa.jsonl --scorer score {model}"),
        "evaluate --questions msvd.qa.jsonl --scorer exact --predictions none.jsonl --out out".to_owned(),
        "evaluate --questions msvd.qa.jsonl --scorer exact --out out".to_owned(),
        "evaluate --out out".to_owned(),
    ] {
        let said = isr_line(path, &line);
        assert_eq!(said.code, Some(2), "{line}: {}", said.stderr);
        shown.push_str(&format!("$ isr {line}\n{}", said.stderr));
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn a_run_is_evaluated_by_a_scorer_of_questions() {
    let folder = playground();
    let path = folder.path();
    let config = "extends = 'run.toml'\n[evaluator]\ntype = 'questions'\nscorer = 'exact'\n";
    fs::write(path.join("exact.toml"), config).unwrap();
    isr_line(path, "run exact.toml --out out").result();
    let summary: Value = serde_json::from_slice(&fs::read(path.join("out/summary.json")).unwrap()).unwrap();
    let evaluation = &summary["iterations"][0]["evaluation"];
    let names: Vec<&String> = evaluation["greedy"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["accuracy", "response_tokens", "unparsed"], "{evaluation}");
}

#[test]
fn a_served_model_answers_what_the_loaded_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    questions(path);
    let (serving, model) = (Serving::start(path, &[]), golden_model());
    let config = format!(
        "scoring = {{ scorer = 'exact' }}\ngeneration = {{ max_new_tokens = 4 }}\n\
         models = [{{ name = 'loaded', model = {model:?} }}, {{ name = 'served', server = {{ base_url = \
         'http://{}/v1', model = 'tiny' }} }}]\n\
         [[sets]]\nname = 'msvd'\nquestions = 'msvd.qa.jsonl'\n",
        serving.address
    );
    fs::write(path.join("both.toml"), config).unwrap();
    isr_line(path, "evaluate both.toml --out out").result();
    let said = |model: &str| {
        let rows = fs::read_to_string(path.join(format!("out/{model}/msvd/predictions.jsonl"))).unwrap();
        let row = |line: &str| serde_json::from_str::<Value>(line).unwrap()["model_prediction"].clone();
        rows.lines().map(row).collect::<Vec<_>>()
    };
    assert_eq!(said("served"), said("loaded"));
    assert_eq!(said("served").len(), 3);
}
