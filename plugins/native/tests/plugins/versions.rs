//! Plugins and programs of different versions of the SDK.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use isr_api::{
    CheckpointKind, ComponentError, Fingerprint, FrozenPolicy, GenerateRequest, Policy,
    PreferenceObjective, Response, ScoreRequest, StepReport, TokenLogProbs, TrainStep, Verdict,
};
use isr_config::plugin::{Isolation, PluginFile, Plugins};
use isr_testing::fixtures::case;
use isr_testing::{FakePolicy, JudgeRules, ObjectiveRules};
use serde_json::{Map, Value};

use crate::built::{build, file_name, fixture, root};
use crate::support::{judge, load, log, objective};

/// The SDK of version 0.1.0 as it was published, in a folder of that name, with a change.
fn sdk(folder: &str, change: impl FnOnce(&Path)) -> PathBuf {
    let folder = root().join("target/plugins").join(folder);
    if folder.exists() {
        return folder;
    }
    let fresh = folder.with_extension(format!("tmp-{}", std::process::id()));
    fs::create_dir_all(&fresh).unwrap();
    for archive in ["isr-core-0.1.0.crate", "isr-plugin-0.1.0.crate"] {
        let archive = root().join("plugins/native/tests/sdk-0.1.0").join(archive);
        let done = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&fresh).status().unwrap();
        assert!(done.success(), "{}", archive.display());
    }
    change(&fresh);
    fs::rename(&fresh, &folder).unwrap();
    folder
}

/// Builds a project whose SDK is in a folder.
fn built_against(project: &Path, sdk: &Path) -> PathBuf {
    let patch = |name: &str| {
        let path = sdk.join(format!("{name}-0.1.0"));
        ["--config".to_owned(), format!("patch.crates-io.{name}.path = {path:?}")]
    };
    build(project, &[patch("isr-core"), patch("isr-plugin")].concat())
}

/// The folder with the plugin and the program of version 0.1.0.
fn first() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let project = root().join("plugins/native/tests/sdk-0.1.0");
    FOLDER.get_or_init(|| built_against(&project, &sdk("sdk-0.1.0", |_| ())))
}

fn first_plugin() -> PathBuf {
    first().join(file_name("first"))
}

/// The fake policy, which takes its time and notes how many questions it is at.
#[derive(Default)]
struct Busy {
    policy: FakePolicy,
    now: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl Policy for Busy {
    fn fingerprint(&self) -> Fingerprint {
        self.policy.fingerprint()
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        self.policy.generate(request).await
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.policy.score(request).await
    }

    async fn train_step(
        &self,
        step: TrainStep,
        objective: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        self.policy.train_step(step, objective).await
    }

    async fn save(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        self.policy.save(dir, what).await
    }

    async fn load(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        self.policy.load(dir, what).await
    }
}

/// A judge's verdict, and how many of its questions the policy was at together.
async fn asking(library: &Path, name: &str, isolation: Isolation) -> (Verdict, usize) {
    isr_native::use_host(env!("CARGO_BIN_EXE_isr-plugin-host"));
    let file = PluginFile { isolation: Some(isolation), ..PluginFile::new(library) };
    let judge = judge(&Plugins::load(&[file], &[]).unwrap(), name, &Map::new()).unwrap();
    let policy = Arc::new(Busy::default());
    let frozen = FrozenPolicy::new(Arc::clone(&policy) as Arc<dyn Policy>);
    let verdict = judge.judge(&case("a red bar.", "a blue bar."), &frozen).await.unwrap();
    (verdict, policy.most.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_of_the_first_sdk_keeps_its_contracts_in_this_program() {
    let log = log();
    let plugins = load(&first_plugin());
    let likelier = judge(&plugins, "likelier", &Map::new()).unwrap();
    assert_eq!(isr_testing::judge(likelier, &JudgeRules::default()).await, []);
    assert!(log.has("judged by a plugin of 0.1.0 votes=2"), "{}", log.text());
    let margin = objective(&plugins, "margin", &Map::new()).unwrap();
    assert_eq!(isr_testing::objective(margin, &ObjectiveRules::default()), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_are_open_together_are_answered_together() {
    let (alone, one) = asking(fixture(), "asks", Isolation::InProcess).await;
    for isolation in [Isolation::InProcess, Isolation::Process] {
        let (together, two) = asking(fixture(), "together", isolation).await;
        assert_eq!((together, one, two), (alone.clone(), 1, 2), "{isolation:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_knows_nothing_of_it_asks_as_it_did() {
    for isolation in [Isolation::InProcess, Isolation::Process] {
        let (verdict, most) = asking(&first_plugin(), "likelier", isolation).await;
        assert_eq!((verdict.votes.len(), most), (2, 1));
    }
}

#[test]
fn a_plugin_of_this_sdk_asks_one_by_one_in_the_program_of_the_first() {
    let host = first().join("host");
    let said = Command::new(host).arg(fixture()).arg("together").output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let text = String::from_utf8(said.stdout).unwrap();
    let (asked, verdict) = text.trim().rsplit_once('\n').unwrap();
    assert_eq!(asked.replace("asked: ", ""), "generate\ngenerate\nscore\nscore\ngenerate\nscore");
    let verdict: Value = serde_json::from_str(verdict).unwrap();
    let p = (-0.5_f64).exp();
    assert_eq!(verdict["votes"][0]["p_first"], p);
    assert_eq!(verdict["votes"][1]["p_first"], 1.0 - p);
}

#[test]
fn a_plugin_of_the_same_number_with_another_interface_is_refused_in_one_sentence() {
    // What the rules forbid: a method more, under the old number.
    let changed = sdk("sdk-changed", |folder| {
        let interface = folder.join("isr-plugin-0.1.0/src/interface.rs");
        let text = fs::read_to_string(&interface).unwrap();
        let text = text.replacen(
            "    fn cancelled(&self) -> bool;",
            "    fn cancelled(&self) -> bool;\n    fn seconds_left(&self) -> u64;",
            1,
        );
        fs::write(&interface, text).unwrap();
        let host = folder.join("isr-plugin-0.1.0/src/host.rs");
        let text = fs::read_to_string(&host).unwrap();
        let text = text.replacen(
            "    fn cancelled(&self) -> bool {\n        self.0.cancelled()\n    }",
            "    fn cancelled(&self) -> bool {\n        self.0.cancelled()\n    }\n    \
             fn seconds_left(&self) -> u64 {\n        0\n    }",
            1,
        );
        fs::write(&host, text).unwrap();
        // Under another name: one library must not overwrite the other.
        let project = folder.join("project");
        fs::create_dir_all(project.join("src")).unwrap();
        for file in ["Cargo.toml", "Cargo.lock", "src/lib.rs"] {
            let text =
                fs::read_to_string(root().join("plugins/native/tests/sdk-0.1.0").join(file)).unwrap();
            let text = text.replace("name = \"first\"", "name = \"changed\"");
            let text = text.replace("[[bin]]\nname = \"host\"\npath = \"src/bin/host.rs\"\n", "");
            fs::write(project.join(file), text).unwrap();
        }
    });
    let library = built_against(&changed.join("project"), &changed).join(file_name("changed"));
    let error = Plugins::load(&[PluginFile::new(&library)], &[]).unwrap_err().to_string();
    assert!(error.contains("its interface is not that of isr-plugin 0.1.1 ("), "{error}");
    assert!(error.ends_with("; build it again with that version"), "{error}");
    assert!(!error.contains('\n') && error.len() < 600, "{error}");
}
