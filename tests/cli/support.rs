//! Runs the binary, and makes what it works on.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use isr_dpo::NewModelConfig;
use tempfile::TempDir;

/// What the program said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// The exit code, stdout and stderr, for snapshots.
    pub(crate) fn all(&self) -> String {
        let code = self.code.map_or("a signal".to_owned(), |code| code.to_string());
        format!("exit code {code}\n{}{}", self.stdout, self.stderr)
    }

    /// Stdout of a program that succeeded.
    pub(crate) fn result(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }
}

/// The program, in a folder and without settings from outside.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isr"));
    let outside = |name: &OsStr| name.to_string_lossy().starts_with("ISR__");
    for (name, _) in std::env::vars_os().filter(|(name, _)| outside(name)) {
        command.env_remove(name);
    }
    command.current_dir(folder).env_remove("RUST_LOG").env_remove("COLUMNS").stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub(crate) fn isr<S: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = S>) -> Said {
    let output = command(folder).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs the program with arguments that hold no white space.
pub(crate) fn isr_line(folder: &Path, line: &str) -> Said {
    isr(folder, line.split_whitespace())
}

/// Starts a run, and waits until its progress says `mark`, or it is complete.
pub(crate) fn started(folder: &Path, out: &str, mark: &str) -> Child {
    let mut command = command(folder);
    command.args(["run", "run.toml", "--out", out]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().contains(mark));
    // What is still to be said must not end in a closed pipe.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

/// The reference checkpoint with goldens of transformers.
pub(crate) fn golden_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny_llava")
}

/// A clip of two seconds with sharp edges and motion.
pub(crate) fn clip(folder: &Path) -> PathBuf {
    let path = folder.join("clip.mp4");
    let source = "testsrc=size=64x64:rate=8:duration=2";
    let made = Command::new(isr_ffmpeg::locate().unwrap())
        .args(["-v", "error", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    path
}

/// A folder with a model of random weights, and configs of a run of two iterations and of a warm start
/// that each take a second or two. Paths in them are relative.
pub(crate) fn playground() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let corpus = ["what colour is the bar?", "the bar is red.", "describe the video."].map(str::to_owned);
    small_model().create(&folder.path().join("model"), &corpus, 0).unwrap();
    fs::write(folder.path().join("run.toml"), RUN).unwrap();
    fs::write(folder.path().join("sft.toml"), SFT).unwrap();
    folder
}

/// Writes `NAME.toml` into a playground: its run with another judge.
pub(crate) fn with_judge(folder: &Path, name: &str, judge: &str) {
    let text = fs::read_to_string(folder.join("run.toml")).unwrap();
    let (before, rest) = text.split_once("[judge]").unwrap();
    let (_, after) = rest.split_once("[objective]").unwrap();
    let text = format!("{before}[judge]\n{judge}\n[objective]{after}");
    fs::write(folder.join(format!("{name}.toml")), text).unwrap();
}

fn small_model() -> NewModelConfig {
    NewModelConfig {
        hidden_size: 32,
        intermediate_size: 64,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        context: 1024,
        vocabulary: 320,
        vision_hidden_size: 32,
        vision_intermediate_size: 64,
        vision_layers: 2,
        vision_heads: 2,
        image_size: 16,
        patch_size: 8,
    }
}

/// Prompts are short, since each letter is a token of a model that has read three sentences.
const RUN: &str = r#"
name = "tiny"
seed = 3
[data]
type = "world"
dir = "world"
training_clips = 6
evaluation_clips = 2
questions_per_clip = 2
frames = 8
size = 32
[video]
type = "ffmpeg"
sampling = { rule = "uniform", frames = 2 }
[encoder]
type = "vision_tower"
[policy]
type = "torch"
model = "model"
batch = 8
threads = 1
[retrospector]
type = "self"
prompt = "{{ previous }} describe the video."
sampling = { max_new_tokens = 8 }
[judge]
type = "self"
prompt = "{{ context }} {{ question }} A: {{ first }} B: {{ second }}"
orders = "given"
min_choice_mass = 0
[objective]
type = "dpo"
[selection]
type = "consistent"
[evaluator]
type = "world"
[loop]
iterations = 2
concurrency = 4
sampling = { max_new_tokens = 8 }
[train]
batch_size = 3
learning_rate = 1e-3
snapshot_every = 2
[evaluation]
max_new_tokens = 8
"#;

const SFT: &str = r#"
name = "warm"
[demonstrations]
type = "world"
[demonstrations.world]
dir = "warm-world"
warmstart_clips = 4
frames = 8
size = 32
[demonstrations.mixture]
count = 16
[video]
type = "ffmpeg"
sampling = { rule = "uniform", frames = 2 }
[policy]
type = "torch"
model = "new-model"
threads = 1
training.tower = true
[objective]
type = "sft"
[training]
steps = 6
batch_size = 2
snapshot_every = 2
[new_model]
hidden_size = 32
intermediate_size = 64
layers = 2
vocabulary = 500
vision_hidden_size = 32
vision_intermediate_size = 64
vision_layers = 2
image_size = 16
"#;
