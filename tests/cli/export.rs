//! `isr export`, on a run that the binary made.

use std::fs;

use crate::support::{isr_line, playground};

#[test]
fn a_run_is_exported_and_read_again_as_data() {
    let folder = playground();
    let path = folder.path();
    isr_line(path, "run run.toml -q --out out -s loop.iterations=1").result();
    let pairs = fs::read_to_string(path.join("out/iteration-01/pairs.jsonl")).unwrap().lines().count();
    assert!(pairs > 0);
    for format in ["trl", "ms-swift", "llama-factory", "llava-hound"] {
        let line = format!("export out --unselected --format {format} --out {format}.jsonl");
        let said = isr_line(path, &line).result();
        assert!(said.starts_with(&format!("{format}.jsonl: ")), "{said}");
        let text = fs::read_to_string(path.join(format!("{format}.jsonl"))).unwrap();
        assert!(text.lines().count() >= pairs, "{text}");
    }
    assert!(path.join("dataset_info.json").exists());
    isr_line(path, "export out --format trl --frames frames --out images.jsonl").result();
    let text = fs::read_to_string(path.join("images.jsonl")).unwrap();
    let row: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(row["images"].as_array().unwrap().len(), 2, "the frames of the run's sampling");
    assert!(fs::metadata(row["images"][1].as_str().unwrap()).unwrap().len() > 50);
    let data = r#"data={type = "jsonl", training = "llava-hound.jsonl"}"#;
    let said = crate::support::isr(path, ["world", "render", "run.toml", "-s", data]).result();
    assert!(said.contains(" training clips with "), "{said}");
}

#[test]
fn a_format_that_is_not_known_and_a_folder_without_a_run_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let said = isr_line(folder.path(), "export . --format tlr --out x.jsonl");
    assert_eq!(said.code, Some(2));
    assert!(
        said.stderr.contains("[possible values: trl, ms-swift, llama-factory, llava-hound]"),
        "{}",
        said.stderr
    );
    insta::assert_snapshot!(isr_line(folder.path(), "export . --format trl --out x.jsonl").all(), @r"
    exit code 2
    error: . is not a run directory: it has no `iteration-01`; give the folder that a run was written to
    ");
}
