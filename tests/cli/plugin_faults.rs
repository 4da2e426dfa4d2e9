//! Runs whose judge is a hostile library: the error names it, and the journals are whole.

use std::fs;
use std::path::Path;

use isr_dpo::records::{QuarantineRecord, ResponseRecord, VerdictRecord};
use isr_dpo::store::read_journal;

use crate::plugin_files::libraries::fixture;
use crate::support::{Said, isr_line, playground};

/// Runs the small run with the fixture's judge of that behaviour.
fn run(folder: &Path, behaviour: &str, isolation: &str) -> Said {
    let config = format!(
        "extends = \"run.toml\"\nplugins = [{{ path = {:?}, isolation = \"{isolation}\", call_s = 2 }}]\n\
         [judge]\ntype = \"hostile\"\nbehaviour = \"{behaviour}\"\n",
        fixture()
    );
    fs::write(folder.join("hostile.toml"), config).unwrap();
    isr_line(folder, "run hostile.toml --out run -s loop.quarantine_limit=1")
}

#[test]
fn a_judge_that_panics_stops_the_run_in_a_state_that_can_be_continued() {
    let folder = playground();
    let said = run(folder.path(), "panic in call", "in_process");
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("error: iteration 1, judge, "), "{}", said.stderr);
    assert!(said.stderr.contains("panicked: cannot judge 7 (src/hostile.rs:"), "{}", said.stderr);
    assert!(said.stderr.contains("(plugin `hostile`, judge)"), "{}", said.stderr);
    let first = folder.path().join("run/iteration-01");
    let responses: Vec<ResponseRecord> = read_journal(&first.join("responses.jsonl")).unwrap();
    let verdicts: Vec<VerdictRecord> = read_journal(&first.join("verdicts.jsonl")).unwrap();
    assert_eq!((responses.len(), verdicts.len()), (12, 0));
    // The same command goes on where it stopped, and meets the same judge.
    let again = run(folder.path(), "panic in call", "in_process");
    assert!(again.stderr.contains("iteration 1, judge, "), "{}", again.stderr);
}

#[test]
fn samples_without_a_probability_are_quarantined() {
    let reason = "plugin `hostile`, judge: its probability is NaN, not in [0, 1]";
    for isolation in ["in_process", "process"] {
        let folder = playground();
        let said = run(folder.path(), "nan", isolation);
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        let path = folder.path().join("run/iteration-01/quarantine.jsonl");
        let quarantined: Vec<QuarantineRecord> = read_journal(&path).unwrap();
        assert_eq!(quarantined.len(), 12, "{}", said.stderr);
        assert!(quarantined.iter().all(|record| record.reason.starts_with(reason)), "{quarantined:?}");
    }
}
