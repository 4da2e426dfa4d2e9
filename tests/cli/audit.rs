//! `isr audit`, on runs that the binary made.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{isr, isr_line, playground};

/// A run whose judge shows both orders, and whose selection does not mind that it follows the order.
const RUN: [&str; 9] = [
    "run",
    "run.toml",
    "-q",
    "--out",
    "out",
    "-s",
    "judge.orders=both",
    "-s",
    "selection={type = \"top_k\", count = 4}",
];

fn judges(said: &str) -> Vec<Value> {
    let found: Value = serde_json::from_str(said).unwrap();
    assert_eq!(found["schema"], 1);
    found["runs"][0]["judges"].as_array().unwrap().clone()
}

/// The entry of a judge in an iteration.
fn of<'a>(judges: &'a [Value], name: &str, iteration: u64) -> &'a Value {
    let is = |judge: &&Value| judge["judge"] == name && judge["iteration"] == iteration;
    judges.iter().find(is).unwrap_or_else(|| panic!("no {name} in {judges:?}"))
}

/// What an audit and `summary.json` both say of a judge.
fn assert_same_figures(audited: &Value, summary: &Value) {
    assert_eq!(audited["ties"], summary["ties"], "{audited}");
    assert_eq!(audited["length"]["longer_preferred"], summary["longer_preferred"], "{audited}");
    assert_eq!(audited["length"]["unequal"], summary["longer_preferred_of"], "{audited}");
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_runs_judge_is_audited_and_judges_again_what_it_judged() {
    let folder = playground();
    let path = folder.path();
    isr(path, RUN).result();
    let summary: Value = serde_json::from_str(&read(&path.join("out/summary.json"))).unwrap();
    let own = judges(&isr_line(path, "audit out --json").result());
    assert_eq!(own.len(), 2);
    for (index, row) in summary["iterations"].as_array().unwrap().iter().enumerate() {
        let judge = of(&own, "run", index as u64 + 1);
        assert_eq!(judge["verdicts"], row["judge"]["verdicts"]);
        assert_eq!(judge["truth"]["agree"], row["judge"]["agreement"], "{judge}");
        assert_eq!(judge["truth"]["n"], row["judge"]["agreement_of"], "{judge}");
        assert_same_figures(judge, &row["judge"]);
        assert_eq!(judge["position"]["consistent"], row["judge"]["position_consistency"]);
        assert!(judge["seconds"].as_f64().unwrap() > 0.0);
    }

    // With nothing changed, the same weights say the same to the byte; the second iteration's are those
    // that the first one trained.
    fs::write(path.join("again.toml"), "name = \"again\"\n").unwrap();
    let table = isr_line(path, "audit out -q --config again.toml").result();
    assert!(table.starts_with("out\niteration  judge  verdicts") && table.contains("again"), "{table}");
    for iteration in ["iteration-01", "iteration-02"] {
        let verdicts = |run: &str| read(&path.join(run).join(iteration).join("verdicts.jsonl"));
        assert_eq!(verdicts("out/audits/again"), verdicts("out"));
    }

    let blind = "audit out -q --json --config again.toml -s name=blind -s video=blank -s context=false";
    let found = judges(&isr_line(path, blind).result());
    let blank = of(&found, "blind", 2);
    assert_eq!(blank["verdicts"], of(&found, "run", 2)["verdicts"]);
    assert_eq!(of(&found, "again", 2)["run_judge"]["agree"], 1.0);
    let verdicts = read(&path.join("out/audits/blind/iteration-02/verdicts.jsonl"));
    assert!(verdicts.contains("\"context\":null"), "{verdicts}");
    assert_ne!(verdicts, read(&path.join("out/iteration-02/verdicts.jsonl")));

    let longer = "judge={type = \"length\", prefer = \"longer\"}";
    let args =
        ["audit", "out", "-q", "--json", "--config", "again.toml", "-s", "name=longer", "-s", longer];
    let args = args.into_iter().chain(["-s", "iterations=[1]", "-s", "samples=5", "-s", "video=other"]);
    let found = judges(&isr(path, args).result());
    let length = of(&found, "longer", 1);
    assert_eq!(length["verdicts"], 5);
    assert!(length["length"]["slope"].is_null(), "{length}");
    assert!(!found.iter().any(|judge| judge["judge"] == "longer" && judge["iteration"] == 2));
    let oracle = "judge={type = \"reference\", oracle = true}";
    let args = ["audit", "out", "-q", "--config", "again.toml", "-s", "name=truth", "-s", oracle];
    let table = isr(path, args).result();
    assert!(table.contains("truth (oracle)"), "{table}");
    let verdicts = read(&path.join("out/audits/truth/iteration-01/verdicts.jsonl"));
    assert!(verdicts.lines().all(|line| line.ends_with("\"oracle\":true}")), "{verdicts}");
    // What is asked for again is there already, and with other settings it is refused.
    let time = |name: &str| fs::metadata(path.join(name)).unwrap().modified().unwrap();
    let journal = "out/audits/again/iteration-01/verdicts.jsonl";
    let before = time(journal);
    isr_line(path, "audit out -q --config again.toml").result();
    assert_eq!(time(journal), before);
    let other = isr_line(path, "audit out -q --config again.toml -s video=blank");
    insta::assert_snapshot!(other.all(), @r#"
    exit code 2
    error: out/audits/again holds a run with another config (`video` was "recorded", is "blank"); choose another --out, or repeat the config that it was started with
    "#);

    // The run goes on as if nobody had looked.
    isr(path, RUN).result();
    // Another run's verdicts are on other answers, and one without facts says so.
    let free = "run run.toml -q --out free -s seed=9 -s evaluator=none -s loop.iterations=1 -s judge={type=\"length\"}";
    isr_line(path, free).result();
    let summary: Value = serde_json::from_str(&read(&path.join("free/summary.json"))).unwrap();
    let found = judges(&isr_line(path, "audit free --json").result());
    assert_same_figures(of(&found, "run", 1), &summary["iterations"][0]["judge"]);
    let ties = read(&path.join("free/iteration-01/verdicts.jsonl")).matches("\"p_first\":0.5,").count();
    assert_eq!(summary["iterations"][0]["judge"]["ties"], ties);
    let without = isr_line(path, "audit free").result();
    assert!(without.ends_with("no facts: the run has no evaluator\n"), "{without}");
    fs::remove_dir_all(path.join("out/iteration-01/checkpoint")).unwrap();
    let gone = isr_line(path, "audit out -q --config again.toml -s name=late -s iterations=[2]");
    insta::assert_snapshot!(gone.all(), @r"
    exit code 2
    error: out, iteration 2: out/iteration-01/checkpoint, which judged it, is not there; choose other `iterations`
    ");
}

#[test]
fn what_cannot_be_audited_is_named() {
    let folder = playground();
    let path = folder.path();
    insta::assert_snapshot!(isr_line(path, "audit model").all(), @r"
    exit code 2
    error: model has no verdicts: it has no `iteration-NN/verdicts.jsonl`; give the folder that a run was written to
    ");
    fs::write(path.join("audit.toml"), "vidoe = \"blank\"\n").unwrap();
    insta::assert_snapshot!(isr_line(path, "audit model --config audit.toml").all(), @r"
    exit code 2
    error: unknown key `vidoe` in audit.toml; did you mean `video`?
    ");
    insta::assert_snapshot!(isr_line(path, "audit a b --config audit.toml").all(), @r"
    exit code 2
    error: --config judges the answers of one run; name one RUN
    ");
    let refused = isr_line(path, "config check run.toml -s judge.type=reference");
    insta::assert_snapshot!(refused.all(), @r"
    exit code 2
    error: `judge.oracle` is false; it must be true: this judge knows what is true
    ");
    fs::write(path.join("audit.toml"), "name = \"../x\"\nsamples = 0\niterations = [0]\n").unwrap();
    insta::assert_snapshot!(isr_line(path, "config check audit.toml --audit").all(), @r#"
    exit code 2
    error: 3 problems in the config:
    - `name` in audit.toml is "../x"; it must be letters, digits, `.`, `_` and `-`, not beginning with `.`
    - `iterations` in audit.toml must name iterations, from 1
    - `samples` in audit.toml is 0; it must be at least 1
    "#);
}

#[test]
fn the_documented_config_of_an_audit_is_valid() {
    let guide = include_str!("../../docs/judges.md");
    let (_, behind) = guide.split_once("```toml\n# blind.toml\n").unwrap();
    let folder = playground();
    let path = folder.path();
    fs::write(path.join("blind.toml"), behind.split("```").next().unwrap()).unwrap();
    assert_eq!(isr_line(path, "config check --audit blind.toml").result(), "ok\n");

    // Its judge speaks as the run's own does, so it has a verdict on every case.
    isr(path, RUN).result();
    let one = "-s iterations=[1]";
    let found = judges(&isr_line(path, &format!("audit out -q --json --config blind.toml {one}")).result());
    let blind = of(&found, "blind", 1);
    assert_eq!(
        (&blind["verdicts"], &blind["failures"]["count"]),
        (&of(&found, "run", 1)["verdicts"], &0.into())
    );

    // One that fails on every case leaves an audit and a report that say so.
    let deaf = format!(
        "audit out -q --json --config blind.toml -s name=deaf {one} -s judge.min_choice_mass=0.999999"
    );
    let found = judges(&isr_line(path, &deaf).result());
    assert_eq!(of(&found, "deaf", 1)["failures"]["share"], 1.0, "{found:?}");
    assert_eq!(of(&found, "deaf", 1)["verdicts"], 0);
    isr_line(path, "audit out").result();
    isr_line(path, "report out").result();
}
