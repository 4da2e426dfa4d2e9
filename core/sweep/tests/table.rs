//! `metrics.parquet` holds every value.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use isr_sweep::{ArmResult, Estimate, INTERVALS, Point, Results, SCHEMA, write_results};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row, RowAccessor};

fn results(arms: Vec<ArmResult>) -> Results {
    Results {
        schema: SCHEMA,
        sweep: "s".to_owned(),
        baseline: None,
        seeds: vec![1],
        bases: Vec::new(),
        intervals: INTERVALS.to_owned(),
        claims: Vec::new(),
        withdrawn_claims: Vec::new(),
        arms,
    }
}

fn rows(results: &Results, dir: &Path) -> Vec<Row> {
    write_results(results, dir).unwrap();
    let reader = SerializedFileReader::new(File::open(dir.join("metrics.parquet")).unwrap()).unwrap();
    reader.get_row_iter(None).unwrap().map(Result::unwrap).collect()
}

#[test]
fn every_value_is_a_row_that_reads_back() {
    let point = |iteration, values: &[(u64, f64)]| Point {
        iteration,
        estimate: Estimate { mean: 0.0, interval: None, n: values.len() },
        difference: None,
        values: values.iter().copied().collect(),
        values_by_base: BTreeMap::new(),
    };
    let points = vec![point(0, &[(1, 0.25), (u64::MAX, 0.5)]), point(2, &[(1, -3e-9)])];
    let arm = ArmResult {
        name: "isr,beta=0.1".to_owned(),
        set: BTreeMap::new(),
        stopped_after: None,
        runs: Vec::new(),
        metrics: BTreeMap::from([("greedy.accuracy".to_owned(), points)]),
    };
    let dir = tempfile::tempdir().unwrap();
    let rows = rows(&results(vec![arm]), dir.path());
    let of = |row: &Row| {
        let (_, Field::ULong(seed)) = row.get_column_iter().nth(1).unwrap() else { panic!("{row}") };
        assert_eq!(row.get_string(0).unwrap(), "isr,beta=0.1");
        assert_eq!(row.get_string(3).unwrap(), "greedy.accuracy");
        (*seed, row.get_int(2).unwrap(), row.get_double(4).unwrap())
    };
    assert_eq!(rows.iter().map(of).collect::<Vec<_>>(), [(1, 0, 0.25), (u64::MAX, 0, 0.5), (1, 2, -3e-9)]);
}

#[test]
fn without_a_value_there_is_an_empty_table_and_a_page_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    assert!(rows(&results(Vec::new()), dir.path()).is_empty());
    let page = std::fs::read_to_string(dir.path().join("sweep.html")).unwrap();
    assert!(page.contains("No run has measured anything yet."));
}

/// The page of two arms with these iterations.
fn page(iterations: &[u32]) -> String {
    let estimate = |mean: f64| Estimate { mean, interval: Some([mean - 0.05, mean + 0.05]), n: 3 };
    let arm = |(name, shift): (&str, f64)| {
        let point = |&iteration: &u32| Point {
            iteration,
            estimate: estimate(0.5 + shift),
            difference: (shift > 0.0).then(|| estimate(shift)),
            values: BTreeMap::from([(1, 0.5 + shift)]),
            values_by_base: BTreeMap::new(),
        };
        ArmResult {
            name: name.to_owned(),
            set: BTreeMap::new(),
            stopped_after: None,
            runs: Vec::new(),
            metrics: BTreeMap::from([(
                "greedy.accuracy".to_owned(),
                iterations.iter().map(point).collect(),
            )]),
        }
    };
    let arms = [("isr", 0.0), ("train.learning_rate=0.00005", 0.1)].map(arm).to_vec();
    let results = Results { baseline: Some("isr".to_owned()), ..results(arms) };
    let dir = tempfile::tempdir().unwrap();
    write_results(&results, dir.path()).unwrap();
    std::fs::read_to_string(dir.path().join("sweep.html")).unwrap()
}

#[test]
fn the_page_says_what_came_of_it_and_draws_one_iteration_as_bars() {
    let one = page(&[1]);
    assert!(one.contains(
        "differ from isr by more than the noise of their seeds: train.<wbr>learning_<wbr>rate=<wbr>0.00005"
    ));
    assert!(one.contains("(Student's t)") || one.contains("(Student&#x27;s t)"));
    assert!(one.contains("class=\"s0 bar\"") && one.contains("class=\"s1 bar\""));
    assert!(!page(&[0, 1]).contains("class=\"s0 bar\""));
}
