//! Which layer wins.

use std::fs;

use isr_config::Loader;
use serde_json::json;

use crate::{MINIMAL, loaded, message, minimal_with, text};

#[test]
fn what_no_layer_says_has_its_default() {
    let config = loaded(&text("run.toml", MINIMAL));
    assert_eq!(config.value.name, "run");
    assert_eq!(config.value.r#loop.iterations, 9);
    assert_eq!(config.value.train.max_grad_norm, Some(1.0));
    assert!(config.value.retrospector.is_none());
    assert_eq!(config.settings["objective"]["beta"], json!(0.1));
    assert_eq!(config.settings["loop"]["sampling"]["max_new_tokens"], json!(256));
}

#[test]
fn each_layer_wins_over_the_one_below() {
    let loader = text("base.toml", MINIMAL)
        .text("a.toml", "train = { epochs = 2, batch_size = 2, learning_rate = 2 }\nseed = 2", "")
        .variables([("ISR__TRAIN__BATCH_SIZE", "3"), ("ISR__TRAIN__LEARNING_RATE", "3e-7"), ("SEED", "9")])
        .overrides(["train.learning_rate=4e-7", "train.learning_rate=5e-8"]);
    let config = loaded(&loader);
    let train = &config.value.train;
    assert_eq!((train.epochs, train.batch_size, train.learning_rate), (2, 3, 5e-8));
    assert_eq!(config.value.seed, 2);
    assert_eq!(config.origins["train.epochs"], "a.toml");
    assert_eq!(config.origins["train.batch_size"], "environment variable `ISR__TRAIN__BATCH_SIZE`");
    assert_eq!(config.origins["train.learning_rate"], "`-s train.learning_rate=5e-8`");
    assert!(!config.origins.contains_key("train.warmup_ratio"));
}

#[cfg(unix)]
#[test]
fn a_file_extends_regular_files_of_a_bounded_size() {
    let extended = |name: &str| {
        let dir = tempfile::tempdir().unwrap();
        fs::File::create(dir.path().join("large.toml")).unwrap().set_len((16 << 20) + 1).unwrap();
        fs::write(dir.path().join("a.toml"), format!("extends = {name:?}")).unwrap();
        Loader::new().file(dir.path().join("a.toml")).plugins().unwrap_err().to_string()
    };
    for device in ["/dev/zero", "/dev/null", "/"] {
        let message = extended(device);
        assert!(message.contains("a.toml extends: it is no regular file"), "{message}");
    }
    let message = extended("large.toml");
    assert!(message.contains("it has more than 16 MiB, and is no config"), "{message}");
}

#[test]
fn a_file_extends_others_relative_to_itself() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("runs/deep")).unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("base.toml", MINIMAL);
    write("small.toml", "seed = 1\n[loop]\niterations = 1\nresponses = 4");
    write("runs/mid.toml", "extends = ['../base.toml', '../small.toml']\n[loop]\nresponses = 3");
    write("runs/deep/top.toml", "extends = '../mid.toml'\nname = 'top'");
    let config = loaded(&Loader::new().file(dir.path().join("runs/deep/top.toml"))).value;
    assert_eq!((config.name.as_str(), config.seed), ("top", 1));
    assert_eq!((config.r#loop.iterations, config.r#loop.responses), (1, 3));
}

#[test]
fn two_files_may_extend_the_same_base() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("base.toml", MINIMAL);
    write("a.toml", "extends = 'base.toml'\nseed = 1");
    write("b.toml", "extends = 'base.toml'\nname = 'b'");
    write("top.toml", "extends = ['a.toml', 'b.toml']");
    let config = loaded(&Loader::new().file(dir.path().join("top.toml"))).value;
    assert_eq!((config.name.as_str(), config.seed), ("b", 1));
}

#[test]
fn another_type_forgets_the_keys_of_the_lower_one() {
    let votes = "[judge]\ntype = 'vote'\nmembers = [{ type = 'self', threshold = 0.7 }]";
    let loader = minimal_with("[judge]\nthreshold = 0.9").text("votes.toml", votes, "");
    assert_eq!(
        loaded(&loader).settings["judge"],
        json!({"type": "vote", "members": [{"type": "self", "threshold": 0.7}]})
    );
    let back = loader.clone().overrides(["judge.threshold=0.8", "judge.type=self"]);
    assert_eq!(loaded(&back).settings["judge"], json!({"type": "self", "threshold": 0.8}));
    let variables = [("ISR__JUDGE__THRESHOLD", "0.6"), ("ISR__JUDGE__TYPE", "self")];
    let back = loader.variables(variables);
    assert_eq!(loaded(&back).settings["judge"], json!({"type": "self", "threshold": 0.6}));
}

#[test]
fn another_type_within_a_component_forgets_as_well() {
    let votes = "[judge]\ntype = 'vote'\nmembers = []\nreferee = { type = 'self', threshold = 0.7 }";
    let loader = minimal_with(votes).overrides(["judge.referee={type='vote', members=[]}"]);
    assert_eq!(loaded(&loader).settings["judge"]["referee"], json!({"type": "vote", "members": []}));
}

#[test]
fn the_same_type_keeps_the_keys_of_the_lower_one() {
    let loader = minimal_with("[judge]\nthreshold = 0.9").overrides(["judge.type=self"]);
    assert_eq!(loaded(&loader).settings["judge"], json!({"type": "self", "threshold": 0.9}));
}

#[test]
fn none_takes_an_optional_section_or_value_away() {
    let some = "[retrospector]\ntype = 'self'\n[loop]\nsamples = 5\n[policy]\nlora = { rank = 4 }";
    let with = minimal_with(some);
    assert_eq!(loaded(&with).settings["retrospector"]["type"], json!("self"));
    let without = with.clone().overrides(["retrospector=none", "loop.samples=none", "policy.lora=none"]);
    let config = loaded(&without);
    assert!(config.value.retrospector.is_none());
    assert_eq!(config.value.r#loop.samples, None);
    assert_eq!(config.settings["policy"], json!({"type": "tiny", "model": "weights"}));
    let again = without.overrides(["retrospector.type=self"]);
    assert!(loaded(&again).value.retrospector.is_some());
}

#[test]
fn a_required_section_cannot_be_taken_away() {
    let loader = minimal_with("").overrides(["judge=none"]);
    insta::assert_snapshot!(message(&loader), @r#"`judge` in `-s judge=none`: expected a table with the key `type`, found string "none""#);
}

#[test]
fn former_names_of_keys_are_read_in_every_layer() {
    let from = |loader: Loader| loaded(&loader).value.r#loop.concurrency;
    assert_eq!(from(minimal_with("[loop]\nin_flight = 3")), 3);
    assert_eq!(from(minimal_with("").variables([("ISR__LOOP__IN_FLIGHT", "4")])), 4);
    assert_eq!(from(minimal_with("[loop]\nconcurrency = 2").overrides(["loop.in_flight=5"])), 5);
    let both = minimal_with("[loop]\nin_flight = 3\nconcurrency = 2");
    assert_eq!(from(both), 2, "the name of today counts");
}
