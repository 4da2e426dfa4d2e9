//! `isr plugins` on plugin files, and `isr plugins new`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::plugin_files::libraries::{example_judge, fixture};
use crate::support::{Said, isr, isr_line};

fn plugins(words: &[&str], file: &Path) -> Said {
    isr(Path::new("."), words.iter().copied().chain([file.to_str().unwrap()]))
}

#[test]
fn plugin_files_are_listed_and_described() {
    let list = plugins(&["plugins", "list", "--kind", "judge", "--plugins"], example_judge()).result();
    let line = list.lines().find(|line| line.starts_with("judge  terse")).unwrap();
    assert!(line.contains("  Prefers the answer of about so many words. (/"), "{line}");
    let text = plugins(&["plugins", "describe", "terse", "--plugins"], example_judge()).result();
    assert!(text.starts_with("judge `terse`, version 1.0.0\n\nPrefers the answer of"), "{text}");
    assert!(text.contains("\n  words: integer, default 12\n"), "{text}");
    assert!(text.ends_with("  [judge]\n  type = \"terse\"\n  words = 12\n  slope = 0.2\n"), "{text}");
}

#[test]
fn a_plugin_that_keeps_its_contract_passes_the_check() {
    let said = plugins(&["plugins", "check"], example_judge()).result();
    assert_eq!(said, "judge `terse`: keeps the contract\n");
    let wrong =
        isr(Path::new("."), ["plugins", "check", "-s", "wrods=3", example_judge().to_str().unwrap()]);
    assert_eq!(wrong.code, Some(2));
    assert!(
        wrong.stderr.contains("unknown key `judge.wrods` in `-s judge.wrods=3`; did you mean `words`?"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn what_a_plugin_breaks_is_printed_rule_by_rule() {
    let said = plugins(&["plugins", "check", "--name", "hostile"], fixture());
    assert_eq!(said.code, Some(1));
    assert!(
        said.stdout.contains("judge `hostile`: probability: an ordinary case got the probability NaN"),
        "{}",
        said.stdout
    );
    assert!(
        said.stdout.contains("objective `hostile`: layout: gradients have [2, 1] numbers"),
        "{}",
        said.stdout
    );
    assert_eq!(said.stderr, "error: 2 of 2 components break the contract of their kind\n");
}

#[test]
fn a_new_project_builds_tests_itself_and_passes_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let made = isr_line(folder.path(), "plugins new --kind judge --lang rust brief").result();
    assert!(made.starts_with("made brief; next:\n  cd brief\n"), "{made}");
    let project = folder.path().join("brief");
    // What it shares with the examples is compiled already.
    let target = example_judge().ancestors().nth(2).unwrap();
    for command in ["test", "build"] {
        let cargo = Command::new(env!("CARGO"))
            .args([command, "--quiet", "--locked", "--offline"])
            .current_dir(&project)
            .env("CARGO_TARGET_DIR", target)
            .env("CARGO_INCREMENTAL", "0")
            .output()
            .unwrap();
        assert!(cargo.status.success(), "{command}: {}", String::from_utf8_lossy(&cargo.stderr));
    }
    let built = example_judge().with_file_name("libbrief.so");
    assert_eq!(plugins(&["plugins", "check"], &built).result(), "judge `brief`: keeps the contract\n");
    let config = fs::read_to_string(project.join("run.toml")).unwrap();
    assert!(config.contains("type = \"brief\""), "{config}");
}

#[test]
fn a_project_is_not_made_over_another_or_without_a_name() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("brief")).unwrap();
    insta::assert_snapshot!(isr_line(folder.path(), "plugins new --kind judge --lang rust brief").all(), @r"
    exit code 2
    error: brief exists
    hint: choose another name, or remove it
    ");
    insta::assert_snapshot!(isr_line(folder.path(), "plugins new --kind judge --lang rust Brief").all(), @r"
    exit code 2
    error: `Brief` is no name for a plugin
    hint: a name is of letters in lower case, digits and `_`, and begins with a letter
    ");
    insta::assert_snapshot!(isr_line(folder.path(), "plugins new --kind data --lang rust brief").all(), @r"
    exit code 2
    error: there is no template of a data in this language
    hint: there are: judge, objective
    ");
}

#[test]
fn a_new_project_in_python_passes_the_check_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let made = isr_line(folder.path(), "plugins new --kind judge --lang python polite_one").result();
    assert!(made.contains("\n  isr plugins check polite_one.py\n"), "{made}");
    let file = folder.path().join("polite_one/polite_one.py");
    assert!(fs::read_to_string(&file).unwrap().contains("class PoliteOne(Judge):"));
    assert_eq!(plugins(&["plugins", "check"], &file).result(), "judge `polite_one`: keeps the contract\n");
}

#[test]
fn a_new_objective_in_python_passes_the_check_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    isr_line(folder.path(), "plugins new --kind objective --lang python wide_margin").result();
    let file = folder.path().join("wide_margin/wide_margin.py");
    assert!(fs::read_to_string(&file).unwrap().contains("class WideMargin(Objective):"));
    let said = plugins(&["plugins", "check"], &file).result();
    assert_eq!(said, "objective `wide_margin`: keeps the contract\n");
}

#[test]
fn new_projects_of_the_other_kinds_in_python_pass_the_check_and_their_own_tests_as_they_are() {
    for (kind, class, section) in [
        ("evaluator", "MyOwn(Evaluator)", "[evaluator]"),
        ("observer", "MyOwn(Observer)", "[[observers]]"),
        ("data", "MyOwn(Data)", "[data]"),
        ("preferences", "MyOwn(Preferences)", "[preferences]"),
        ("policy", "MyOwn(Policy)", "[policy]"),
        ("encoder", "MyOwn(Encoder)", "[encoder]"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        isr_line(folder.path(), &format!("plugins new --kind {kind} --lang python my_own")).result();
        let project = folder.path().join("my_own");
        let text = fs::read_to_string(project.join("my_own.py")).unwrap();
        assert!(text.contains(&format!("class {class}:")), "{text}");
        let config = fs::read_to_string(project.join("run.toml")).unwrap();
        assert!(config.contains(&format!("{section}\ntype = \"my_own\"")), "{config}");
        let file = project.join("my_own.py");
        let named = section.trim_matches(['[', ']']);
        let said = plugins(&["plugins", "check"], &file).result();
        assert_eq!(said, format!("{named} `my_own`: keeps the contract\n"));
        let listed = plugins(&["plugins", "list", "--kind", named, "--plugins"], &file).result();
        assert!(
            listed.lines().any(|line| line.contains("my_own") && line.contains("my_own.py)")),
            "{listed}"
        );
        let described = plugins(&["plugins", "describe", "my_own", "--plugins"], &file).result();
        assert!(described.starts_with(&format!("{named} `my_own`, version 0.1.0\n")), "{described}");
        // pytest is not everywhere: its functions are called.
        let tests = "import inspect, pathlib, tempfile, test_my_own\n\
                     for name, test in vars(test_my_own).items():\n    \
                         if name.startswith('test_'):\n        \
                             many = len(inspect.signature(test).parameters)\n        \
                             test(*[pathlib.Path(tempfile.mkdtemp())] * many)\n        \
                             print(name)";
        let tested = Command::new("python3")
            .args(["-c", tests])
            .current_dir(&project)
            .env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/python"))
            .output()
            .unwrap();
        assert!(tested.status.success(), "{kind}: {}", String::from_utf8_lossy(&tested.stderr));
        assert!(String::from_utf8_lossy(&tested.stdout).starts_with("test_"), "{kind}");
    }
}

#[test]
fn a_check_says_what_is_wrong_with_an_observer_an_evaluator_and_rows() {
    for (text, says) in [
        (
            "class It(Observer):\n    'Sees.'\n    def observe(self, event): return event['no']\n",
            "observers `it`: errors: a complete run failed with \"plugin `it`, observe: KeyError: 'no' (plugin.py, line 4, in observe)",
        ),
        (
            "class It(Evaluator):\n    'Sees.'\n    def answer(self, sample, text): return Assessment(1, {'a': text})\n",
            "evaluator `it`: errors: an ordinary answer was refused with \"plugin `it`, answer: its answer cannot be used: `a` is 'the bar is red.' (str), not a number",
        ),
        (
            "class It(Data):\n    'Gives.'\n    def training(self): return [Sample('a', 'a.mp4', '?')] * 2\n",
            "data `it`: ids: two samples of training have the id `a`",
        ),
        (
            "class It(Preferences):\n    'Gives.'\n    def rows(self): yield BadInput('too dark')\n",
            "preferences `it`: rows: no row can be used; the first: it:1: too dark",
        ),
        (
            "class It(Demonstrations):\n    'Gives.'\n    def rows(self): yield Demonstration('?', '')\n",
            "demonstrations `it`: texts: Demonstration { id: \"it:1\"",
        ),
    ] {
        let (_folder, file) = python(&format!("from isr_plugin import *\n{text}"));
        let said = plugins(&["plugins", "check"], &file);
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        assert!(said.stdout.contains(says), "{}", said.stdout);
    }
}

#[test]
fn a_new_project_for_webassembly_compiles_and_passes_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let made = isr_line(folder.path(), "plugins new --kind judge --lang wasm brief").result();
    assert!(made.contains("-o brief.wasm brief.c\n"), "{made}");
    let project = folder.path().join("brief");
    let file = project.join("brief.wasm");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate::plugin_files::built::compile(root, &project.join("brief.c"), &file);
    assert_eq!(plugins(&["plugins", "check"], &file).result(), "judge `brief`: keeps the contract\n");
}

/// A Python plugin of this text, in a folder.
fn python(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plugin.py");
    fs::write(&file, text).unwrap();
    (folder, file)
}

#[test]
fn a_check_says_why_there_are_no_verdicts() {
    for (body, says) in [
        (
            "return {}['x']",
            "judge `it`: errors: an ordinary case failed with \"plugin `it`, judge: KeyError: 'x' (plugin.py, line 4, in judge)\"",
        ),
        (
            "raise BadInput('too dark')",
            "judge `it`: verdicts: 0 of 24 ordinary cases got a verdict; the first that did not: plugin `it`, judge: too dark",
        ),
        (
            "return 'first'",
            "the first that did not: plugin `it`, judge: its answer cannot be used: judge returned 'first' (str), not a probability or a list of votes (plugin.py, line 4)",
        ),
    ] {
        let text = format!(
            "from isr_plugin import *\nclass It(Judge):\n    'Judges.'\n    def judge(self, case): {body}\n"
        );
        let (_folder, file) = python(&text);
        let said = isr(Path::new("."), ["plugins", "check", "--call-s", "100", file.to_str().unwrap()]);
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        assert!(said.stdout.contains(says), "{}", said.stdout);
    }
    let (_folder, file) = python("import no_such_module");
    let said = plugins(&["plugins", "check"], &file);
    assert_eq!(said.code, Some(2));
    let cause = "plugin.py: the file cannot be loaded: ModuleNotFoundError: No module named 'no_such_module' (plugin.py, line 1)\n";
    assert!(said.stderr.contains(cause), "{}", said.stderr);
}

#[test]
fn a_schema_that_doubles_is_refused() {
    let (_folder, file) = python(
        "from isr_plugin import Judge\nn = 60\n\
         defs = {f'a{i}': {'oneOf': [{'$ref': f'#/$defs/a{i + 1}'}] * 2} for i in range(n)}\n\
         class It(Judge):\n    'Judges.'\n    schema = {'type': 'object', 'properties': {'k': {'$ref': '#/$defs/a0'}},\n\
         \x20             '$defs': {**defs, f'a{n}': {'type': 'integer'}}}\n",
    );
    let said = plugins(&["plugins", "list", "--plugins"], &file);
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(
        said.stderr.contains("its config schema has references, tables or alternatives nested"),
        "{}",
        said.stderr
    );
}

/// Whether a process exists and is no zombie.
#[cfg(target_os = "linux")]
fn lives(id: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{id}/stat"));
    state.is_ok_and(|text| !text.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

#[cfg(target_os = "linux")]
#[test]
fn a_plugin_and_what_it_started_end_when_isr_is_killed() {
    let (folder, file) = python(
        "import os, subprocess, sys\nfrom isr_plugin import *\nclass It(Judge):\n    'Judges.'\n    def judge(self, case):\n\
         \x20       child = subprocess.Popen(['sleep', '1000'])\n\
         \x20       with open(os.path.dirname(__file__) + '/pids.new', 'w') as file: file.write(f'{os.getpid()} {child.pid}')\n\
         \x20       os.rename(file.name, file.name[:-4])\n\
         \x20       child.wait()\n",
    );
    let mut isr = crate::support::command(folder.path())
        .args(["plugins", "check"])
        .arg(&file)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let pids = folder.path().join("pids");
    let wait = |holds: &dyn Fn() -> bool, what: &str| {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(120);
        while !holds() {
            assert!(std::time::Instant::now() < until, "{what}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    wait(&|| pids.is_file(), "the judge was not called");
    isr.kill().unwrap();
    isr.wait().unwrap();
    let pids = fs::read_to_string(pids).unwrap();
    wait(&|| !pids.split(' ').any(lives), &pids);
}
