//! `isr config` and `isr world`.

use isr_dpo::config::{Loader, RunConfig};

use crate::support::{isr_line, playground};

#[test]
fn a_shown_config_loads_to_itself() {
    let folder = playground();
    let shown = isr_line(folder.path(), "config show run.toml -s loop.iterations=5").result();
    assert!(shown.contains("iterations = 5"), "{shown}");
    // Paths in it are relative to where it is read.
    let shown = shown.replace("model = \"model\"", &format!("model = {:?}", folder.path().join("model")));
    let loaded = Loader::new().text("shown", shown, folder.path()).load::<RunConfig>().unwrap();
    assert_eq!(loaded.value.r#loop.iterations, 5);
}

#[test]
fn origins_say_where_each_setting_comes_from() {
    let folder = playground();
    let shown = isr_line(folder.path(), "config show run.toml --origins -s loop.iterations=5").result();
    for line in [
        "loop.iterations = 5  # `-s loop.iterations=5`",
        "seed = 3  # run.toml",
        "loop.responses = 2  # default",
        "objective.beta = 0.1  # default",
    ] {
        assert!(shown.lines().any(|it| it == line), "no `{line}` in\n{shown}");
    }
    assert!(shown.parse::<toml::Table>().is_ok(), "it is TOML, too");
}

#[test]
fn each_stage_of_a_base_model_is_a_config_that_the_program_takes() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for stage in ["base-1", "base-2", "base-3", "base-4", "base-4-partial", "base-5-partial"] {
        let checked = format!("config check --sft configs/{stage}.toml -s policy.model=configs/base");
        assert_eq!(isr_line(root, &checked).result(), "ok\n", "{stage}");
    }
}

#[test]
fn configs_of_both_commands_are_checked() {
    let folder = playground();
    assert_eq!(isr_line(folder.path(), "config check run.toml").result(), "ok\n");
    assert_eq!(isr_line(folder.path(), "config check --sft sft.toml").result(), "ok\n");
    // What it is for shows.
    assert_eq!(isr_line(folder.path(), "config check sft.toml").result(), "ok\n");
    let wrong = isr_line(folder.path(), "config check sft.toml -s training.steps=0");
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.contains("training.steps"), "{}", wrong.stderr);
}

#[test]
fn a_check_without_plugins_runs_none_of_their_code() {
    let folder = playground();
    let plugin = "import os\nopen(os.path.dirname(os.path.abspath(__file__)) + '/ran', 'w')\n\
                  from isr_plugin import Judge\nclass It(Judge):\n    'Judges.'\n";
    std::fs::write(folder.path().join("it.py"), plugin).unwrap();
    let config = "extends = 'run.toml'\nplugins = ['it.py']\n[judge]\ntype = 'it'\n";
    std::fs::write(folder.path().join("with.toml"), config).unwrap();
    let said = isr_line(folder.path(), "config check with.toml --no-plugins").result();
    assert_eq!(said, "judge `it`: not checked, since no plugin was loaded\nok\n");
    assert!(!folder.path().join("ran").exists());
    assert_eq!(isr_line(folder.path(), "config check with.toml").result(), "ok\n");
    assert!(folder.path().join("ran").exists());
    let help = isr_line(folder.path(), "config check --help").result();
    assert!(help.contains("which runs their code"), "{help}");
}

#[test]
fn a_sweep_is_no_config_and_missing_data_are_named() {
    let folder = playground();
    let path = folder.path();
    std::fs::write(path.join("sweep.toml"), "extends = 'run.toml'\nseeds = [1]\n[[arms]]\nname = 'a'\n")
        .unwrap();
    let said = isr_line(path, "config check sweep.toml");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("hint: isr sweep sweep.toml --dry-run checks it"), "{}", said.stderr);
    let data =
        "extends = 'run.toml'\n[data]\ntype = 'jsonl'\ntraining = 'nowhere.jsonl'\nvideo_root = '.'\n";
    std::fs::write(path.join("data.toml"), data).unwrap();
    let said = isr_line(path, "config check data.toml");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("nowhere.jsonl"), "{}", said.stderr);
    let schema: serde_json::Value =
        serde_json::from_str(&isr_line(path, "config schema --sweep").result()).unwrap();
    assert!(schema["properties"]["arms"].is_object() && schema["properties"]["halving"].is_object());
}

#[test]
fn a_config_of_another_folder_finds_what_it_extends() {
    let folder = playground();
    let elsewhere = tempfile::tempdir().unwrap();
    let base = folder.path().join("run.toml");
    std::fs::write(elsewhere.path().join("own.toml"), format!("extends = '{}'\n", base.display())).unwrap();
    let shown = isr_line(elsewhere.path(), "config show own.toml").result();
    let model = folder.path().join("model");
    assert!(shown.contains(&format!("model = \"{}\"", model.display())), "{shown}");
    isr_line(elsewhere.path(), "config check own.toml").result();
}

#[test]
fn the_schemas_know_every_section() {
    let folder = playground();
    for (args, section) in [("config schema", "judge"), ("config schema --sft", "demonstrations")] {
        let schema: serde_json::Value =
            serde_json::from_str(&isr_line(folder.path(), args).result()).unwrap();
        assert!(schema["properties"][section].is_object(), "{args}");
        assert!(schema["properties"]["extends"].is_object(), "{args}");
    }
}

#[test]
fn a_world_is_rendered_without_a_model() {
    let folder = playground();
    std::fs::remove_dir_all(folder.path().join("model")).unwrap();
    let said = isr_line(folder.path(), "world render run.toml").result();
    assert_eq!(said, "6 training clips with 12 samples, 2 held-out clips with 4 samples\n");
    assert!(folder.path().join("world/train.jsonl").is_file());
}
