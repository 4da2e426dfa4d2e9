//! Whole reports of synthetic run directories.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod fixture;

use std::fs;
use std::path::{Path, PathBuf};

use fixture::{Fixture, facts, frames};
use isr_analysis::report::{ReportError, render_report, write_report};
use tempfile::tempdir;

fn render(runs: &[&Path]) -> Result<String, ReportError> {
    let runs: Vec<PathBuf> = runs.iter().map(|run| run.to_path_buf()).collect();
    render_report(&runs, &frames, &facts)
}

/// The text of the page's first element of a kind, tags and repeated spaces removed.
fn text_between(html: &str, from: &str, to: &str) -> String {
    let start = html.find(from).unwrap();
    let end = start + html[start..].find(to).unwrap();
    let mut text = String::new();
    let mut inside = false;
    for letter in html[start..end].chars() {
        match letter {
            '<' => inside = true,
            '>' => {
                inside = false;
                text.push(' ');
            }
            _ if !inside => text.push(letter),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_headline_goes_from_the_starting_model_to_the_last() {
    let root = tempdir().unwrap();
    let html = render(&[&Fixture::default().write(root.path())]).unwrap();
    insta::assert_snapshot!(text_between(&html, "<section class=\"headline\"", "</section>"));
}

#[test]
fn every_chart_has_a_table_and_says_its_n() {
    let root = tempdir().unwrap();
    let html = render(&[&Fixture::default().write(root.path())]).unwrap();
    let charts = html.matches("<figure class=\"chart\">").count();
    assert_eq!(charts, 9);
    assert_eq!(html.matches("<details class=\"data\">").count(), charts);
    assert!(html.contains("± 1 binomial standard error, n\u{a0}=\u{a0}400."));
    assert!(html.contains("<title>greedy, iteration 4: "));
    insta::assert_snapshot!(text_between(&html, "<figcaption>", "</figure>"));
}

#[test]
fn the_judges_are_audited_beside_people_and_other_judges() {
    let root = tempdir().unwrap();
    let run = Fixture { iterations: 2, ..Fixture::default() }.write(root.path());
    let annotations = [("clip-0000/q1", "first"), ("clip-0001/q1", "second"), ("clip-0002/q1", "tie")];
    let lines = annotations.map(|(sample, choice)| {
        format!(
            "{{\"iteration\":1,\"sample\":\"{sample}\",\"choice\":\"{choice}\",\
             \"annotator\":\"X\",\"first_shown_first\":true,\"seconds\":1}}\n"
        )
    });
    fs::write(run.join("annotations.jsonl"), lines.concat()).unwrap();
    let other = run.join("audits/blind/iteration-02");
    fs::create_dir_all(&other).unwrap();
    fs::copy(run.join("iteration-02/verdicts.jsonl"), other.join("verdicts.jsonl")).unwrap();
    let html = render(&[&run]).unwrap();
    insta::assert_snapshot!(text_between(&html, "Judge audit.", "</table>"));
    fs::write(run.join("annotations.jsonl"), "{}\n").unwrap();
    let error = render(&[&run]).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot audit the judges: ") && error.contains("annotations.jsonl"),
        "{error}"
    );
}

#[test]
fn a_run_with_an_oracle_says_so() {
    let root = tempdir().unwrap();
    let run = Fixture::default().write(root.path());
    assert!(!render(&[&run]).unwrap().contains("oracle"));
    let summary = fs::read_to_string(run.join("summary.json")).unwrap();
    let marked = summary.replacen("\"margin\":", "\"oracle\": true, \"margin\":", 1);
    fs::write(run.join("summary.json"), marked).unwrap();
    let html = render(&[&run]).unwrap();
    assert!(html.contains("The judge of this run is an oracle") && html.contains("The judge: an oracle"));
}

#[test]
fn nothing_that_a_run_wrote_becomes_markup() {
    let root = tempdir().unwrap();
    let hostile = "<script>alert('x')</script>\"'&{{ 7*7 }}";
    let run = Fixture { name: "<b>run", text: hostile, ..Fixture::default() }.write(root.path());
    fs::write(run.join("config.toml"), format!("# {hostile}")).unwrap();
    fs::write(run.join("provenance.json"), serde_json::json!({"command": hostile}).to_string()).unwrap();
    let html = render(&[&run]).unwrap();
    assert!(!html.contains("<script") && !html.contains("<b>run"));
    assert!(html.contains("&lt;script&gt;alert(&#x27;x&#x27;)&lt;"));
    assert!(html.contains("{{ 7*7 }}"));
}

#[test]
fn the_page_loads_nothing() {
    let root = tempdir().unwrap();
    let html = render(&[&Fixture::default().write(root.path())]).unwrap();
    for reference in ["http://", "https://", "src=", "url(", "@import", "<link", "<script"] {
        assert!(!html.contains(reference), "{reference}");
    }
    for (at, _) in html.match_indices("href=\"") {
        let target = &html[at + 6..at + 30];
        assert!(target.starts_with('#') || target.starts_with("data:image/png"), "{target}");
    }
}

#[test]
fn a_video_is_embedded_once_however_often_it_is_shown() {
    let root = tempdir().unwrap();
    let html = render(&[&Fixture::default().write(root.path())]).unwrap();
    let embedded = html.matches("<g id=\"film-").count();
    assert_eq!(html.matches("data:image/png").count(), embedded * 8);
    assert!(html.matches("<use href=\"#film-").count() > embedded);
}

#[test]
fn the_same_run_gives_the_same_page() {
    let root = tempdir().unwrap();
    let run = Fixture::default().write(root.path());
    assert_eq!(render(&[&run]).unwrap(), render(&[&run]).unwrap());
}

#[test]
fn several_runs_are_compared_line_by_line() {
    let root = tempdir().unwrap();
    let first = Fixture::default().write(root.path());
    let second =
        Fixture { name: "other", gain: 0.4, iterations: 2, ..Fixture::default() }.write(root.path());
    let html = render(&[&first, &second]).unwrap();
    assert!(html.contains("<h1>Comparison of 2 runs</h1>"));
    assert_eq!(html.matches("<details class=\"run\">").count(), 2);
    assert!(html.contains("<title>other, iteration 2: ") && !html.contains("<title>other, iteration 3: "));
    insta::assert_snapshot!(text_between(&html, "<div class=\"comparison\">", "</table>"));
}

#[test]
fn runs_of_one_name_are_told_apart_by_folder() {
    let root = tempdir().unwrap();
    let runs = ["seed-1", "seed-2"].map(|seed| Fixture::default().write(&root.path().join(seed)));
    let html = render(&[&runs[0], &runs[1]]).unwrap();
    assert!(html.contains("seed-1") && html.contains("world-isr ("));
}

#[test]
fn a_run_without_a_complete_iteration_says_so() {
    let root = tempdir().unwrap();
    let fixture = Fixture { iterations: 0, ..Fixture::default() };
    let run = fixture.write(root.path());
    fixture.write_iteration(&run, 1);
    let html = render(&[&run]).unwrap();
    assert!(html.contains("No iteration of this run is complete yet"));
    insta::assert_snapshot!(text_between(&html, "Not complete yet", "</table>"));
}

#[test]
fn a_config_alone_is_a_run_that_has_not_begun() {
    let root = tempdir().unwrap();
    fs::write(root.path().join("config.toml"), "").unwrap();
    let html = render(&[root.path()]).unwrap();
    assert!(html.contains("Nothing has been counted yet.") && html.contains("config –"));
    assert!(!html.contains("<figure"));
}

#[test]
fn absent_and_cut_journals_are_left_out() {
    let root = tempdir().unwrap();
    let run = Fixture::default().write(root.path());
    fs::remove_file(run.join("provenance.json")).unwrap();
    fs::remove_file(run.join("iteration-00/evaluation.jsonl")).unwrap();
    for journal in ["contexts", "metrics", "pairs"] {
        fs::remove_file(run.join(format!("iteration-02/{journal}.jsonl"))).unwrap();
    }
    let verdicts = run.join("iteration-03/verdicts.jsonl");
    let text = fs::read_to_string(&verdicts).unwrap();
    fs::write(&verdicts, &text[..text.len() - 20]).unwrap();
    let html = render(&[&run]).unwrap();
    assert!(html.contains("Provenance (absent)") && html.contains("undecided"));
}

#[test]
fn videos_that_are_gone_leave_the_text() {
    let root = tempdir().unwrap();
    let run = Fixture::default().write(root.path());
    let html = render_report(&[run], &|_: &Path, _: &str| None, &facts).unwrap();
    assert!(html.contains("The frames of this video could not be read."));
    assert!(!html.contains("data:image/png"));
}

#[test]
fn what_is_wrong_with_a_run_is_named() {
    let root = tempdir().unwrap();
    let told = |error: Result<String, ReportError>| {
        error.unwrap_err().to_string().replace(&root.path().display().to_string(), "RUNS")
    };
    let nowhere = told(render(&[&root.path().join("nowhere")]));
    let run = Fixture { iterations: 1, ..Fixture::default() }.write(root.path());
    fs::write(run.join("iteration-01/pairs.jsonl"), "{}\n").unwrap();
    let journal = told(render(&[&run]));
    let summary = fs::read_to_string(run.join("summary.json")).unwrap();
    fs::write(run.join("summary.json"), summary.replace("\"schema\": 1", "\"schema\": 9")).unwrap();
    let schema = told(render(&[&run]));
    fs::write(run.join("summary.json"), &summary[..summary.len() / 2]).unwrap();
    let cut = told(render(&[&run]));
    let none = told(render(&[]));
    insta::assert_snapshot!([nowhere, journal, schema, cut, none].join("\n"));
}

#[test]
fn a_report_replaces_an_older_one_whole() {
    let root = tempdir().unwrap();
    let run = Fixture { iterations: 1, ..Fixture::default() }.write(root.path());
    let out = run.join("report.html");
    fs::write(&out, "older").unwrap();
    write_report(std::slice::from_ref(&run), &out, &frames, &facts).unwrap();
    assert!(fs::read_to_string(&out).unwrap().starts_with("<!doctype html>"));
    assert!(!run.join("report.html.partial").exists());
    let error = write_report(std::slice::from_ref(&run), &run.join("no/report.html"), &frames, &facts)
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("cannot write "), "{error}");
}

#[test]
fn a_run_whose_evaluator_gives_nothing_has_no_empty_panel() {
    let root = tempdir().unwrap();
    let run = Fixture::default().write(root.path());
    let measured = render(&[&run]).unwrap();
    assert!(measured.contains("class=\"figure-card\"") && measured.contains("of greedy answers to"));
    let path = run.join("summary.json");
    let mut summary: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    summary["base"] = serde_json::Value::Null;
    for row in summary["iterations"].as_array_mut().unwrap() {
        row["evaluation"] = serde_json::Value::Null;
    }
    fs::write(&path, summary.to_string()).unwrap();
    // The starting model's evaluation.
    let _ = fs::remove_dir_all(run.join("iteration-00"));
    let html = render(&[&run]).unwrap();
    assert!(!html.contains("class=\"figure-card\""));
    let sentence = text_between(&html, "<p class=\"outcome\"", "</p>");
    assert!(
        sentence.ends_with("was not measured on held-out samples, so what it gained is unknown."),
        "{sentence}"
    );
}
