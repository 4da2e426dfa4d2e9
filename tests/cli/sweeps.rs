//! `isr sweep`.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use isr_dpo::records::Summary;
use isr_dpo::store::read_json;
use serde_json::Value;

use crate::support::{command, isr_line, playground};

/// Two arms that differ in the judge, on the playground's run.
const SWEEP: &str = r#"
extends = "run.toml"
seeds = [1, 2]
baseline = "own"
set = { "loop.iterations" = 1 }
[[arms]]
name = "own"
[[arms]]
name = "coin"
set = { judge = { type = "random" } }
"#;

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Greedy figures of a run, by its own summary.
fn greedy(run: &Path, metric: &str) -> Vec<f64> {
    let summary: Summary = read_json(&run.join("summary.json")).unwrap().unwrap();
    let trained = summary.iterations.iter().filter_map(|row| row.evaluation.as_ref());
    summary.base.iter().chain(trained).map(|evaluation| evaluation.greedy[metric]).collect()
}

#[test]
fn the_studies_of_the_miniature_can_be_run_with_the_base_models_beside_them() {
    let (folder, root) = (tempfile::tempdir().unwrap(), Path::new(env!("CARGO_MANIFEST_DIR")));
    let path = folder.path();
    std::os::unix::fs::symlink(root.join("configs"), path.join("configs")).unwrap();
    let bases = fs::read_dir(root.join("configs/studies/bases")).unwrap().count();
    for (study, arms) in [("whole", 8), ("partial", 7)] {
        let dry = isr_line(path, &format!("sweep configs/studies/{study}.toml --dry-run")).result();
        let runs = format!("{arms} arms x {bases} bases x 5 seeds = {} runs", arms * bases * 5);
        assert!(dry.contains(&runs) && dry.contains("retrospect"), "{study}: {dry}");
    }
}

#[test]
fn the_quick_study_compares_two_arms_with_the_figures_of_their_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::os::unix::fs::symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("configs"), path.join("configs"))
        .unwrap();
    let started = Instant::now();
    let dry = isr_line(path, "sweep configs/studies/quick.toml --dry-run").result();
    assert!(!path.join("sweeps").exists(), "nothing is written");
    insta::assert_snapshot!("dry-run", dry);
    let said = isr_line(path, "sweep configs/studies/quick.toml --jobs 2").result();
    assert!(said.contains("sweep   sweeps/quick"), "{said}");
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());

    let sweep = path.join("sweeps/quick");
    let results = json(&sweep.join("sweep.json"));
    assert_eq!((results["schema"].as_u64(), results["baseline"].as_str()), (Some(1), Some("isr")));
    let metric = "response_tokens";
    let own = |arm: &str, seed: u64| greedy(&sweep.join(format!("arms/{arm}/seed-{seed}")), metric);
    for (index, name) in ["isr", "random"].into_iter().enumerate() {
        let arm = &results["arms"][index];
        assert_eq!(arm["name"], name);
        let statuses: Vec<_> = arm["runs"].as_array().unwrap().iter().map(|run| &run["status"]).collect();
        assert_eq!(statuses, ["complete", "complete"]);
        let points = arm["metrics"][format!("greedy.{metric}")].as_array().unwrap();
        assert_eq!(points.len(), 3);
        for (t, point) in points.iter().enumerate() {
            let [one, two] = [own(name, 1)[t], own(name, 2)[t]];
            assert_eq!(
                (point["values"]["1"].as_f64(), point["values"]["2"].as_f64()),
                (Some(one), Some(two))
            );
            assert!((point["mean"].as_f64().unwrap() - (one + two) / 2.0).abs() < 1e-12);
            let interval = [0, 1].map(|end| point["interval"][end].as_f64().unwrap());
            assert!(interval[0] >= one.min(two) && interval[1] <= one.max(two), "{point}");
            if name == "random" {
                let paired = (one - own("isr", 1)[t] + two - own("isr", 2)[t]) / 2.0;
                assert!((point["difference"]["mean"].as_f64().unwrap() - paired).abs() < 1e-12);
            } else {
                assert!(point["difference"].is_null());
            }
        }
        // The same starting model answers the same questions.
        assert_eq!(own(name, 1)[0], own("isr", 1)[0]);
    }
    assert!(fs::metadata(sweep.join("metrics.parquet")).unwrap().len() > 1000);
    let page = fs::read_to_string(sweep.join("sweep.html")).unwrap().replace("&#x2f;", "/");
    assert!(
        page.contains("arms/random/seed-2/report.html") && !page.contains("http://"),
        "links to runs only"
    );
}

#[test]
fn arms_that_differ_in_the_judge_share_what_comes_before_it_and_end_in_the_same_bytes() {
    let folder = playground();
    let path = folder.path();
    fs::write(path.join("judges.toml"), SWEEP).unwrap();
    fs::write(path.join("alone.toml"), format!("share = false\n{SWEEP}")).unwrap();
    isr_line(path, "sweep judges.toml -q").result();
    isr_line(path, "sweep alone.toml -q").result();
    let read = |sweep: &str, file: &str| {
        fs::read(path.join("sweeps").join(sweep).join("arms").join(file)).unwrap()
    };
    for run in ["own/seed-1", "own/seed-2", "coin/seed-1", "coin/seed-2"] {
        for file in ["responses.jsonl", "contexts.jsonl", "verdicts.jsonl", "checkpoint/model.safetensors"]
        {
            let file = format!("{run}/iteration-01/{file}");
            assert_eq!(read("judges", &file), read("alone", &file), "{file}");
        }
    }
    let log = |run: &str| String::from_utf8(read("judges", run)).unwrap();
    let taken = |run: &str| log(run).matches("taken over from an equal run").count();
    assert_eq!((taken("own/seed-1.log"), taken("coin/seed-1.log")), (0, 3), "{}", log("coin/seed-1.log"));
    assert!(!path.join("sweeps/alone/shared").exists());
}

#[test]
fn the_runs_of_an_arm_may_have_several_processes() {
    let folder = playground();
    let path = folder.path();
    let sweep = format!("cpus = 2\n{SWEEP}processes = 2\n").replace("seeds = [1, 2]", "seeds = [1]");
    fs::write(path.join("judges.toml"), sweep).unwrap();
    let dry = isr_line(path, "sweep judges.toml --dry-run").result();
    assert!(
        dry.contains("  own (baseline): 2 cores each run\n  coin: 2 processes, 2 cores each run\n"),
        "{dry}"
    );
    isr_line(path, "sweep judges.toml -q").result();
    let processes = |arm: &str| {
        let timings =
            fs::read_to_string(path.join(format!("sweeps/judges/arms/{arm}/seed-1/timings.jsonl")))
                .unwrap();
        let judge = timings.lines().find(|line| line.contains("\"judge\"")).unwrap();
        let judge: Value = serde_json::from_str(judge).unwrap();
        judge["processes"].as_array().map_or(1, Vec::len)
    };
    assert_eq!([processes("own"), processes("coin")], [1, 2]);
}

/// Starts the sweep, one run at a time.
fn start_sweep(path: &Path) -> Child {
    fs::write(path.join("judges.toml"), SWEEP).unwrap();
    let mut sweep = command(path);
    sweep.args(["sweep", "judges.toml", "--jobs", "1"]).stdout(Stdio::null()).stderr(Stdio::null());
    sweep.spawn().unwrap()
}

#[test]
fn a_sweep_that_was_cut_goes_on_and_a_changed_arm_is_refused() {
    let folder = playground();
    let path = folder.path();
    let mut child = start_sweep(path);
    let first = path.join("sweeps/judges/arms/own/seed-1/report.html");
    let started = Instant::now();
    while !first.exists() {
        assert!(started.elapsed() < Duration::from_secs(100), "the first run does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let before = fs::metadata(&first).unwrap().modified().unwrap();
    let said = isr_line(path, "sweep judges.toml --jobs 1");
    assert!(
        said.stderr.contains("of 4 runs have work left") && !said.stderr.contains("own, seed 1"),
        "{}",
        said.stderr
    );
    said.result();
    assert_eq!(fs::metadata(&first).unwrap().modified().unwrap(), before, "a complete run is left alone");
    let again = isr_line(path, "sweep judges.toml");
    assert!(again.stderr.contains("all 4 runs are complete"), "{}", again.stderr);

    let other = SWEEP.replace("\"random\" }", "\"random\", distribution = \"uniform\" }");
    fs::write(path.join("judges.toml"), other).unwrap();
    insta::assert_snapshot!(isr_line(path, "sweep judges.toml").all(), @r#"
    exit code 2
    error: arm `coin` was run with other settings (`judge.distribution` was "coin", is "uniform") in sweeps/judges/arms/coin/seed-1; choose another --out, undo the change, or remove that folder to run it anew
    "#);
    // More iterations change nothing of what is there.
    fs::write(path.join("judges.toml"), SWEEP.replace("iterations\" = 1", "iterations\" = 2")).unwrap();
    isr_line(path, "sweep judges.toml --dry-run").result();
}

#[test]
fn a_sweep_whose_process_was_killed_goes_on() {
    let folder = playground();
    let path = folder.path();
    let mut child = start_sweep(path);
    // Its first run holds the run directory.
    let started = path.join("sweeps/judges/arms/own/seed-1/iteration-01");
    while !started.exists() {
        assert!(child.try_wait().unwrap().is_none(), "the sweep ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let said = isr_line(path, "sweep judges.toml --jobs 1");
    assert!(!said.stderr.contains("failed"), "{}", said.stderr);
    said.result();
}

#[test]
fn a_broken_arm_is_reported_with_its_log_and_the_others_finish() {
    let folder = playground();
    let path = folder.path();
    // It holds a config file, so that nobody looks further until the model is to be read.
    fs::create_dir(path.join("torn-model")).unwrap();
    fs::write(path.join("torn-model/config.json"), "{").unwrap();
    let broken = "\n[[arms]]\nname = \"broken\"\nset = { \"policy.model\" = \"torn-model\" }\n";
    fs::write(path.join("judges.toml"), format!("{SWEEP}{broken}").replace("[1, 2]", "[1]")).unwrap();
    let said = isr_line(path, "sweep judges.toml");
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("broken, seed 1: failed: exit status: 2"), "{}", said.stderr);
    assert!(said.stderr.contains("arms/broken/seed-1.log") && said.stderr.contains("torn-model"));
    assert!(
        said.stderr.contains("1 of 3 runs failed; the same command tries them again"),
        "{}",
        said.stderr
    );
    let results = json(&path.join("sweeps/judges/sweep.json"));
    let status = |arm: usize| results["arms"][arm]["runs"][0]["status"].as_str().unwrap().to_owned();
    assert_eq!([status(0), status(1), status(2)], ["complete", "complete", "failed"]);
    assert!(results["arms"][2]["runs"][0]["error"].as_str().unwrap().contains("torn-model"));
    assert!(fs::read_to_string(path.join("sweeps/judges/sweep.html")).unwrap().contains("torn-model"));
}

#[test]
fn arms_that_do_badly_are_stopped() {
    let folder = playground();
    let path = folder.path();
    let halving =
        "\n[halving]\nmetric = \"training.last_loss\"\ngoal = \"minimise\"\nrungs = [1]\nkeep = 0.4\n";
    let text = SWEEP.replace("iterations\" = 1", "iterations\" = 2").replace("[1, 2]", "[1]");
    let text = text.replace("baseline = \"own\"", "");
    fs::write(path.join("race.toml"), format!("{text}{halving}")).unwrap();
    let said = isr_line(path, "sweep race.toml");
    assert!(said.stderr.contains("stopped after iteration 1, as others are better"), "{}", said.stderr);
    let results = json(&path.join("sweeps/race/sweep.json"));
    let mut ends = Vec::new();
    for arm in results["arms"].as_array().unwrap() {
        let loss = arm["metrics"]["training.last_loss"][0]["mean"].as_f64().unwrap();
        ends.push((
            loss,
            arm["runs"][0]["status"].as_str().unwrap(),
            arm["runs"][0]["iterations"].as_u64().unwrap(),
        ));
    }
    ends.sort_by(|one, other| one.0.total_cmp(&other.0));
    assert_eq!((ends[0].1, ends[0].2, ends[1].1, ends[1].2), ("complete", 2, "stopped", 1));
    // The same command decides the same.
    let again = isr_line(path, "sweep race.toml");
    assert!(again.stderr.contains("stopped after iteration 1"), "{}", again.stderr);
}

/// A claim of `SWEEP`'s arms.
const CLAIM: &str = r#"
[[claims]]
name = "The policy's own judge writes longer answers than a coin"
arm = "own"
against = "coin"
metric = "greedy.response_tokens"
direction = "higher"
"#;

#[test]
fn claims_are_stated_before_the_first_run_and_decided_over_bases_and_seeds() {
    let folder = playground();
    let path = folder.path();
    let bases = r#"
[[bases]]
name = "short"
set = { "loop.sampling.max_new_tokens" = 6 }
[[bases]]
name = "long"
set = { "loop.sampling.max_new_tokens" = 9 }
"#;
    let trained = CLAIM
        .replace("The policy's own judge writes longer answers than a coin", "Training changes the length")
        .replace("against = \"coin\"", "against = \"own\"\nagainst_iteration = 0")
        .replace("higher", "differs");
    fs::write(path.join("judges.toml"), format!("{SWEEP}{bases}{CLAIM}{trained}")).unwrap();
    let dry = isr_line(path, "sweep judges.toml --dry-run").result();
    assert!(dry.starts_with("sweep `judges`: 2 arms x 2 bases x 2 seeds = 8 runs in "), "{dry}");
    assert!(
        dry.contains("own \u{2212} coin, greedy.response_tokens after iteration 1: above 0")
            && dry.contains(
                "own after iteration 1 \u{2212} own after iteration 0, greedy.response_tokens: not 0"
            ),
        "{dry}"
    );
    let said = isr_line(path, "sweep judges.toml -q").result();
    let sweep = path.join("sweeps/judges");
    let record = json(&sweep.join("claims.json"));
    assert_eq!(record["claims"].as_array().unwrap().len(), 2);
    assert_eq!(record["claims"][0]["after_results"], false);

    // The verdict follows from the runs' own summaries.
    let last = |arm: &str, base: &str, seed: u64| {
        *greedy(&sweep.join(format!("arms/{arm}/{base}/seed-{seed}")), "response_tokens").last().unwrap()
    };
    let of_base = |base: &str| {
        [1, 2].map(|seed| last("own", base, seed) - last("coin", base, seed)).iter().sum::<f64>() / 2.0
    };
    let results = json(&sweep.join("sweep.json"));
    let claim = &results["claims"][0];
    let mean = (of_base("short") + of_base("long")) / 2.0;
    assert!((claim["difference"].as_f64().unwrap() - mean).abs() < 1e-12, "{claim}");
    assert_eq!(
        (claim["n"].as_u64(), claim["bases"].as_u64(), claim["df"].as_u64()),
        (Some(4), Some(2), Some(1))
    );
    assert!(claim.get("stated_after_results").is_none(), "{claim}");
    assert!(["holds", "does_not_hold", "undecided"].contains(&claim["verdict"].as_str().unwrap()));
    assert!(
        said.contains("for 2 claims.") && said.contains("over bases and seeds (Student's t)"),
        "{said}"
    );
    let point = &results["arms"][0]["metrics"]["greedy.response_tokens"][1];
    assert_eq!(point["values_by_base"]["long"]["2"].as_f64(), Some(last("own", "long", 2)));
    assert!(point.get("values").is_none(), "{point}");
    let run = &results["arms"][1]["runs"][2];
    assert_eq!((run["base"].as_str(), run["dir"].as_str()), (Some("long"), Some("arms/coin/long/seed-1")));
    // Arms share what comes before the judge, bases share nothing of it.
    let taken = |run: &str| {
        let log = fs::read_to_string(sweep.join("arms").join(run).with_extension("log")).unwrap();
        log.matches("taken over from an equal run").count()
    };
    assert_eq!(
        [taken("own/short/seed-1"), taken("coin/short/seed-1"), taken("coin/long/seed-2")],
        [0, 3, 3]
    );

    // Tables come from the file alone, and are the same every time.
    fs::copy(sweep.join("sweep.json"), path.join("kept.json")).unwrap();
    let table =
        isr_line(path, "sweep tables kept.json --format latex --metric greedy.response_tokens").result();
    assert_eq!(table.matches("\\begin{tabular}").count(), 3, "{table}");
    assert_eq!(
        table,
        isr_line(path, "sweep tables sweeps/judges -f latex -m greedy.response_tokens").result()
    );
    let values = isr_line(path, "sweep tables kept.json -f csv -p claims").result();
    assert_eq!(values.lines().count(), 3, "{values}");

    // A smaller file has the same tables of what it keeps.
    let smaller = isr_line(path, "sweep tables kept.json -f json -m greedy.response_tokens").result();
    fs::write(path.join("smaller.json"), &smaller).unwrap();
    let (smaller, metrics) = (json(&path.join("smaller.json")), "greedy.response_tokens");
    let kept = smaller["arms"][1]["metrics"].as_object().unwrap();
    assert_eq!(kept.keys().collect::<Vec<_>>(), [metrics]);
    assert_eq!(
        (&kept[metrics], &smaller["claims"]),
        (&results["arms"][1]["metrics"][metrics], &results["claims"])
    );
    assert_eq!(
        table,
        isr_line(path, "sweep tables smaller.json -f latex -m greedy.response_tokens").result()
    );
    for part in ["-p claims", "--arm own", "--iteration 1"] {
        let refused = isr_line(path, &format!("sweep tables kept.json -f json {part}"));
        assert!(
            refused.code != Some(0) && refused.stderr.contains("leave --part, --arm and --iteration out"),
            "{refused:?}"
        );
    }

    // What is stated with the results in view says so, and what is withdrawn still counts.
    let late = CLAIM.replace("longer answers", "shorter answers").replace("higher", "lower");
    fs::write(path.join("judges.toml"), format!("{SWEEP}{bases}{late}")).unwrap();
    let said = isr_line(path, "sweep judges.toml -q").result();
    assert!(said.contains("stated or changed after a run had results"), "{said}");
    assert!(
        said.contains("for 3 claims. Of these, removed from the file after a run had results: "),
        "{said}"
    );
    assert_eq!(json(&sweep.join("sweep.json"))["claims"][0]["stated_after_results"], true);
}

#[test]
fn claims_that_the_runs_cannot_decide_are_refused_before_any_run() {
    let folder = playground();
    let path = folder.path();
    let mut said = String::new();
    for (from, to) in [
        ("arm = \"own\"", "arm = \"owm\""),
        ("against = \"coin\"", "against = \"own\""),
        ("against = \"coin\"", "against = \"coin\"\nagainst_iteration = 7"),
        ("greedy.response_tokens", "judge.agrement"),
        ("greedy.response_tokens\"", "judge.agreement\"\niteration = 0"),
    ] {
        fs::write(path.join("judges.toml"), format!("{SWEEP}{}", CLAIM.replace(from, to))).unwrap();
        said.push_str(&isr_line(path, "sweep judges.toml").all());
    }
    let twice = CLAIM.replace("The policy's", "Again: the policy's");
    fs::write(path.join("judges.toml"), format!("{SWEEP}{CLAIM}{twice}")).unwrap();
    said.push_str(&isr_line(path, "sweep judges.toml").all());
    let bases = "[[bases]]\nname = \"a\"\n[[bases]]\nname = \"b\"\n";
    fs::write(path.join("judges.toml"), format!("{SWEEP}{bases}{CLAIM}")).unwrap();
    said.push_str(&isr_line(path, "sweep judges.toml").all());
    insta::assert_snapshot!("refused-claims", said);
    assert!(!path.join("sweeps").exists());
}

#[test]
fn bad_sweeps_are_refused_before_anything_starts() {
    let folder = playground();
    let path = folder.path();
    let wrong = SWEEP.replace("type = \"random\"", "type = \"randon\"");
    fs::write(
        path.join("wrong.toml"),
        format!("{wrong}\n[[arms]]\nname = \"x\"\nset = {{ \"train.epoch\" = 1 }}\n"),
    )
    .unwrap();
    insta::assert_snapshot!(isr_line(path, "sweep wrong.toml").all(), @r#"
    exit code 2
    error: 2 of 3 arms cannot be run:
    - arm `coin`: unknown judge `randon` in `-s judge={ type = "randon" }`; did you mean `random`? known: abstain, both_orders, cascade, ensemble, http, human, length, length_debiased, majority, pointwise, random, reference, rubric, rule, self, verdict, veto
    - arm `x`: unknown key `train.epoch` in `-s train.epoch=1`; did you mean `epochs`?
    "#);
    insta::assert_snapshot!(isr_line(path, "sweep nothing.toml").all(), @r#"
    exit code 2
    error: cannot read sweep nothing.toml: No such file or directory (os error 2)
    "#);
    fs::write(path.join("fine.toml"), SWEEP).unwrap();
    let output =
        command(path).args(["sweep", "fine.toml"]).env("ISR__TRAIN__EPOCHS", "2").output().unwrap();
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap(), @r#"
    error: ISR__TRAIN__EPOCHS is set, and a sweep takes its settings from files alone
    hint: unset it, and write what it sets into the sweep's `set`
    "#);
    assert!(!path.join("sweeps").exists());
}
