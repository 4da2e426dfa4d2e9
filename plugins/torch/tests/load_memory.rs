//! Loading takes little more memory than the weights do in the type that is asked for. Each case is
//! measured in a process of its own, as a program that loads a model is one.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::fs;
use std::path::Path;
use std::process::Command;

use isr_api::{CheckpointKind, Policy};
use isr_torch::{NewModelConfig, PrecisionConfig, TorchPolicy, TorchPolicyConfig};

const TEST: &str = "peak_memory_of_loading_is_at_most_1_15_times_the_weights";
const MODEL: &str = "ISR_TEST_LOAD";
const PRECISION: &str = "ISR_TEST_PRECISION";

fn load(model: &Path, precision: PrecisionConfig) -> TorchPolicy {
    let config = TorchPolicyConfig { precision, device: "cpu".to_owned(), ..TorchPolicyConfig::new(model) };
    config.load().unwrap()
}

/// A figure of /proc/self/status in bytes.
fn status(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Sets the peak to what is held now (proc(5)), and returns that.
fn held_now() -> u64 {
    fs::write("/proc/self/clear_refs", "5").unwrap();
    status("VmRSS")
}

/// Most bytes that loading held, and that saving held beyond the model.
async fn measured(model: &Path, precision: PrecisionConfig) -> [u64; 2] {
    // What libtorch sets up once.
    drop(load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tiny_llava"), precision));
    let before = held_now();
    let policy = load(model, precision);
    let loading = status("VmHWM") - before;
    let out = model.with_file_name("saved");
    fs::create_dir_all(&out).unwrap();
    let before = held_now();
    policy.save(&out, CheckpointKind::Model).await.unwrap();
    [loading, status("VmHWM") - before]
}

/// The same in a process of its own.
fn measured_apart(model: &Path, precision: PrecisionConfig) -> [u64; 2] {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", TEST, "--nocapture"]).env(MODEL, model);
    let output = command.env(PRECISION, format!("{precision:?}").to_lowercase()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let figures = text.split("held ").nth(1).unwrap_or_else(|| panic!("{text}"));
    let mut figures = figures.split_whitespace().map(|figure| figure.parse().unwrap_or_default());
    [figures.next().unwrap(), figures.next().unwrap()]
}

#[tokio::test]
async fn peak_memory_of_loading_is_at_most_1_15_times_the_weights() {
    if let Some(model) = std::env::var_os(MODEL) {
        let precision = match std::env::var(PRECISION).unwrap().as_str() {
            "float32" => PrecisionConfig::Float32,
            _ => PrecisionConfig::Bfloat16,
        };
        let [loading, saving] = measured(Path::new(&model), precision).await;
        println!("held {loading} {saving} bytes");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let shape = NewModelConfig {
        hidden_size: 1024,
        intermediate_size: 2816,
        layers: 8,
        heads: 8,
        kv_heads: 8,
        ..NewModelConfig::default()
    };
    let corpus = ["what moves in the video?".to_owned()];
    let (wide, narrow) = (folder.path().join("float32"), folder.path().join("bfloat16"));
    shape.create(&wide, &corpus, 0).unwrap();
    fs::create_dir(&narrow).unwrap();
    load(&wide, PrecisionConfig::Bfloat16).save(&narrow, CheckpointKind::Model).await.unwrap();
    let size = fs::metadata(wide.join("model.safetensors")).unwrap().len();
    assert!(size > 400_000_000, "{size}");
    for (model, precision, weights) in [
        (&wide, PrecisionConfig::Float32, size),
        (&wide, PrecisionConfig::Bfloat16, size / 2),
        (&narrow, PrecisionConfig::Bfloat16, size / 2),
    ] {
        let [loading, saving] = measured_apart(model, precision);
        let case = format!("{precision:?} from {}", model.display());
        println!("{case}, {weights} bytes: loading held {loading}, saving {saving} more");
        assert!(loading as f64 <= 1.15 * weights as f64, "{case}: {loading} of {weights}");
        assert!(loading as f64 > 0.9 * weights as f64, "{case}: {loading} of {weights} cannot be");
        assert!((saving as f64) < 0.1 * weights as f64, "{case}: saving held {saving} more");
    }
}
