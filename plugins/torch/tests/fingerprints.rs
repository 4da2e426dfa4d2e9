//! Fingerprints of unchanged checkpoints are stable across versions: a run resumes, and cached features are
//! found, by them.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use isr_api::{BuildContext, Component, Policy};
use isr_torch::{TorchPolicyConfig, VisionTowerConfig};
use support::Golden;

/// Family, fingerprint of its encoder, fingerprint of its policy.
const KNOWN: [[&str; 3]; 8] = [
    ["llava", "9dc5b604afe5eb888f56c4c5ea9a63d3", "ae05d7874e00c8a63c276a01accd7585"],
    ["video_llava", "4d803db59b8169408f308faf099ed6fe", "195aebfdccc24ae5488480e00b605f8d"],
    ["llava_next_video", "a8b7c5052e75bacc524a3924b61897f3", "ecc1fdb2f28660fe8f6a782959a5b97a"],
    ["qwen2_5_vl", "2a7aa7a2abf73d78ba4e5892a9bf3d2f", "96a97e64fdc573dff9068312118a926b"],
    ["qwen3_vl", "e7452db0b124532c72a7327926ef3191", "7744cb38513a4c6c38fbc20fcccdf5a9"],
    ["llava_onevision", "8c157ea6f3d9a3dbbc57c07792350a6c", "8fdbdcbd537f70709d104dd3249bf71b"],
    ["internvl", "ed8bf155f62abf7bd96deffe8b913edb", "b977f798a8ead69bac329f8c163b3dad"],
    ["internvl3_5", "90f8cd99462c181aeef4031fac1700ca", "0dcc64d3976134776e734b4f90ea1543"],
];

#[test]
fn fingerprints_do_not_change_between_versions() {
    // Goldens that `make.py` has just made have weights of their own.
    if std::env::var_os("ISR_GOLDEN").is_some() {
        return;
    }
    for [family, encoder, policy] in KNOWN {
        let model = Golden::read(family).model();
        let config = VisionTowerConfig { model: Some(model.clone()), ..support::tower_config() };
        let built = config.build(&BuildContext::default()).unwrap();
        assert_eq!(built.fingerprint().to_string(), encoder, "{family}");
        let config = TorchPolicyConfig { device: "cpu".to_owned(), ..TorchPolicyConfig::new(model) };
        assert_eq!(config.load().unwrap().fingerprint().to_string(), policy, "{family}");
    }
}
