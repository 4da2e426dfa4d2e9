//! The configs of `configs/plugins`: runs with a judge from outside.

use std::fs;
use std::path::Path;

use isr_dpo::records::{QuarantineRecord, VerdictRecord};
use isr_dpo::store::read_journal;
use toml::{Table, Value};

use crate::support::{isr_line, playground};

#[path = "../../plugins/wasm/tests/wasm/built.rs"]
pub(crate) mod built;
#[path = "../../plugins/native/tests/plugins/built.rs"]
pub(crate) mod libraries;

/// Runs the small run with plugins and judge of a config of the repository, and checks that each of the 12
/// samples of both iterations got a verdict. Contexts are long, so that answers share words with them.
fn runs(name: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let configs = root.join("configs/plugins");
    let config: Table = fs::read_to_string(configs.join(name)).unwrap().parse().unwrap();
    let mut plugins = config["plugins"].clone();
    for plugin in plugins.as_array_mut().unwrap() {
        let path = match plugin {
            Value::Table(table) => &mut table["path"],
            path => path,
        };
        *path = configs.join(path.as_str().unwrap()).to_str().unwrap().into();
    }
    let folder = playground();
    let mut mine =
        Table::from_iter([("extends".to_owned(), "run.toml".into()), ("plugins".to_owned(), plugins)]);
    for section in ["judge", "objective"] {
        mine.extend(config.get(section).map(|it| (section.to_owned(), it.clone())));
    }
    fs::write(folder.path().join("mine.toml"), mine.to_string()).unwrap();
    let longer = "-s retrospector.sampling.max_new_tokens=96";
    isr_line(folder.path(), &format!("run mine.toml --out run {longer}")).result();
    for iteration in ["iteration-01", "iteration-02"] {
        let journal = |file: &str| folder.path().join("run").join(iteration).join(file);
        let verdicts: Vec<VerdictRecord> = read_journal(&journal("verdicts.jsonl")).unwrap();
        let quarantined: Vec<QuarantineRecord> = read_journal(&journal("quarantine.jsonl")).unwrap();
        assert!(verdicts.len() > 6, "{verdicts:?}");
        assert!(quarantined.is_empty(), "{quarantined:?}");
    }
}

#[test]
fn the_config_with_a_judge_in_rust_runs() {
    libraries::example_judge();
    runs("judge-rust.toml");
}

#[test]
fn the_config_with_an_objective_in_rust_and_an_isolated_judge_runs() {
    libraries::example_judge();
    libraries::example_objective();
    runs("objective-rust.toml");
}

#[test]
fn the_config_with_a_judge_in_python_runs() {
    runs("judge-python.toml");
}

#[test]
fn the_config_with_a_judge_in_webassembly_runs() {
    built::near_length(Path::new(env!("CARGO_MANIFEST_DIR")));
    runs("judge-wasm.toml");
}
