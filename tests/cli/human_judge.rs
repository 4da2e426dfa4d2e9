//! A run that waits for people.

use std::fs;

use serde_json::{Value, json};

use crate::support::{isr_line, playground, with_judge};

#[test]
fn a_run_stops_for_its_pairs_to_be_annotated_and_continues_with_what_was_chosen() {
    let folder = playground();
    let path = folder.path();
    with_judge(path, "human", "type = 'human'\nannotations = 'own/annotations.jsonl'\nmissing = 'stop'");
    let command = "run human.toml -q --out own -s loop.iterations=1";
    let said = isr_line(path, command);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("annotate them with `isr annotate own`"), "{}", said.stderr);

    let read = |name: &str| -> Vec<Value> {
        let text = fs::read_to_string(path.join("own/iteration-01").join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let different = |line: &Value| line["responses"][0]["text"] != line["responses"][1]["text"];
    let pairs: Vec<Value> = read("responses.jsonl").into_iter().filter(different).collect();
    let choices = ["first", "second", "tie"].into_iter().cycle();
    let line = |(pair, choice): (&Value, &str)| {
        let line = json!({
            "iteration": 1, "sample": pair["sample"], "choice": choice, "first_shown_first": true,
            "annotator": "ann", "seconds": 2.5,
        });
        format!("{line}\n")
    };
    let lines: String = pairs.iter().zip(choices).map(line).collect();
    fs::write(path.join("own/annotations.jsonl"), lines).unwrap();

    isr_line(path, command).result();
    let verdicts = read("verdicts.jsonl");
    assert_eq!(verdicts.len(), pairs.len());
    for ((verdict, pair), p_first) in verdicts.iter().zip(&pairs).zip([1.0, 0.0, 0.5].into_iter().cycle()) {
        assert_eq!(
            (&verdict["sample"], &verdict["verdict"]["p_first"]),
            (&pair["sample"], &json!(p_first))
        );
    }
}
