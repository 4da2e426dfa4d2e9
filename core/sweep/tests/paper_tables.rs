//! Tables from `sweep.json` alone, to the byte.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use isr_analysis::text_table::TableForm;
use isr_sweep::{
    Iterations, Part, Results, SweepError, TableOptions, csv, of_some_metrics, paper_tables, read_results,
    write_results,
};
use serde_json::json;

/// Two arms, two bases and two seeds, of which one run failed; two claims.
fn results() -> Results {
    let estimate = |mean: f64, half: f64, n: usize| json!({ "mean": mean, "interval": [mean - half, mean + half], "n": n });
    let point = |iteration: u32, mean: f64, n: usize, difference: serde_json::Value| {
        let mut point = estimate(mean, 0.0104, n);
        point["iteration"] = json!(iteration);
        point["difference"] = difference;
        point["values_by_base"] = json!({ "one": { "1": mean, "2": mean } });
        point
    };
    let arm = |name: &str, points: [serde_json::Value; 2], tokens: serde_json::Value| {
        json!({ "name": name, "set": {}, "stopped_after": null, "runs": [],
            "metrics": { "greedy.accuracy": points, "greedy.response_tokens": [tokens] } })
    };
    let none = json!(null);
    let claim = |name: &str, verdict: &str, reason: Option<&str>, late: bool, p: Option<f64>| {
        let mut claim = json!({ "name": name, "arm": "isr", "iteration": 2, "against": "coin_50%", "against_iteration": 2,
            "metric": "greedy.accuracy", "direction": "higher", "verdict": verdict, "difference": 0.0456,
            "interval": [0.0123, 0.0789], "simultaneous_interval": [-0.0011, 0.0923], "n": 4, "bases": 2, "df": 1,
            "p": p, "adjusted_p": p });
        if let Some(reason) = reason {
            claim["reason"] = json!(reason);
            claim["missing"] = json!(["coin_50%, one, seed 2: failed"]);
        }
        if late {
            claim["stated_after_results"] = json!(true);
        }
        claim
    };
    serde_json::from_value(json!({
        "schema": 1, "sweep": "s", "baseline": "coin_50%", "seeds": [1, 2], "bases": ["one", "two"],
        "intervals": isr_sweep::INTERVALS_OF_BASES,
        "claims": [
            claim("[main] ISR beats a coin | a judge's worth", "holds", None, false, Some(0.0004)),
            claim("It is < 1", "undecided", Some("1 value is missing"), true, None),
        ],
        "withdrawn_claims": ["A third"],
        "arms": [
            arm("isr", [point(0, 0.5, 4, none.clone()), point(2, 0.7218, 4, estimate(0.0456, 0.03, 3))], point(2, 7.25, 4, none.clone())),
            arm("coin_50%", [point(0, 0.5, 4, none.clone()), point(2, 0.6762, 3, none.clone())], point(2, 8.5, 3, none)),
        ],
    }))
    .unwrap()
}

#[test]
fn a_smaller_file_gives_the_same_tables_of_what_it_keeps() {
    let options =
        TableOptions { metrics: vec!["greedy.response_tokens".to_owned()], ..TableOptions::default() };
    let smaller = of_some_metrics(&results(), &options).unwrap();
    assert_eq!(smaller.metrics().into_iter().collect::<Vec<_>>(), ["greedy.response_tokens"]);
    let tables = |results: &Results| paper_tables(results, &options, TableForm::Markdown).unwrap();
    assert_eq!(tables(&smaller), tables(&results()));
    let unknown = TableOptions { metrics: vec!["greedy.tokens".to_owned()], ..TableOptions::default() };
    assert!(of_some_metrics(&results(), &unknown).unwrap_err().to_string().contains("greedy.tokens"));
}

#[test]
fn markdown_has_means_differences_and_claims() {
    let text = paper_tables(&results(), &TableOptions::default(), TableForm::Markdown).unwrap();
    assert_eq!(text, include_str!("paper_tables/all.md"));
}

#[test]
fn latex_obeys_no_name() {
    let text = paper_tables(&results(), &TableOptions::default(), TableForm::Latex).unwrap();
    assert_eq!(text, include_str!("paper_tables/all.tex"));
}

#[test]
fn tables_iterations_and_metrics_can_be_chosen() {
    let options = TableOptions {
        metrics: vec!["greedy.accuracy".to_owned()],
        iterations: Iterations::All,
        parts: vec![Part::Differences],
        ..TableOptions::default()
    };
    let text = paper_tables(&results(), &options, TableForm::Markdown).unwrap();
    assert_eq!(text.lines().count(), 6, "{text}");
    assert!(text.contains("| isr | 0 | – |\n| isr | 2 | +4.6 [+1.6, +7.6] |\n"), "{text}");
    let only = TableOptions { iterations: Iterations::Only(0), ..options.clone() };
    assert!(csv(&results(), &only, Part::Metrics).unwrap().contains("isr,0,greedy.accuracy,4,0.5,"));
    let claims = csv(&results(), &options, Part::Claims).unwrap();
    assert!(
        claims.contains(
            "It is < 1,isr,2,coin_50%,2,greedy.accuracy,higher,,undecided,true,4,1,0.0456,0.0123,"
        ),
        "{claims}"
    );

    let unknown = TableOptions { metrics: vec!["greedy.acuracy".to_owned()], ..options.clone() };
    let said = paper_tables(&results(), &unknown, TableForm::Latex).unwrap_err().to_string();
    assert_eq!(
        said,
        "no arm has the metric `greedy.acuracy`; the sweep has: greedy.accuracy, greedy.response_tokens"
    );
    let named =
        |name: &str| TableOptions { arms: vec![name.to_owned()], parts: Vec::new(), ..options.clone() };
    let said = paper_tables(&results(), &named("coin"), TableForm::Latex).unwrap_err().to_string();
    assert_eq!(said, "no arm is called `coin`; the sweep has: isr, coin_50%");
    let rows = |text: String| text.lines().filter(|line| line.starts_with("isr,")).count();
    let (of_isr, of_all) =
        (csv(&results(), &named("isr"), Part::Metrics), csv(&results(), &options, Part::Metrics));
    let (of_isr, of_all) = (of_isr.unwrap(), of_all.unwrap());
    assert!(of_all.contains("coin_50%,") && !of_isr.contains("coin_50%,"), "{of_isr}");
    assert!(rows(of_isr.clone()) > 0 && rows(of_isr) == rows(of_all));
    let without = Results { baseline: None, claims: Vec::new(), ..results() };
    let said = paper_tables(&without, &options, TableForm::Latex).unwrap_err().to_string();
    assert_eq!(said, "the sweep has no `baseline` to compare with; leave that table out");
}

#[test]
fn results_read_back_and_other_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let results = results();
    write_results(&results, dir.path()).unwrap();
    assert_eq!(read_results(dir.path()).unwrap(), results);
    let file = dir.path().join("sweep.json");
    assert_eq!(read_results(&file).unwrap(), results);
    let page = std::fs::read_to_string(dir.path().join("sweep.html")).unwrap();
    assert!(
        page.contains("missing: coin_50%, one, seed 2: failed") && page.contains("adjusted by Holm"),
        "{page}"
    );

    let refusal = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let error = read_results(&file).unwrap_err();
        assert!(matches!(error, SweepError::Unusable(_)), "{error}");
        error.to_string()
    };
    assert!(
        refusal("{\"schema\": 2}")
            .ends_with("is 2, and this version reads 1; use the version that wrote it")
    );
    assert!(refusal("{}").ends_with("is no sweep.json: it has no `schema`"));
    assert!(refusal("{\"schema\": 1}").contains("missing field `sweep`"));
    std::fs::remove_file(&file).unwrap();
    assert!(read_results(&file).unwrap_err().to_string().contains("name the sweep.json"));
}
