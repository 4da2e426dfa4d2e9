//! The cargo features of the root package.

use std::path::Path;
use std::process::Command;

use crate::{process, repository};

/// Their names, but for `default` and `full`, as `cargo metadata` lists them; none where it cannot be asked.
pub(crate) fn all(root: &Path) -> Vec<String> {
    let mut metadata = Command::new(repository::cargo());
    metadata.args(["metadata", "--no-deps", "--format-version=1"]).current_dir(root);
    process::capture(&mut metadata).map(|text| names(&text)).unwrap_or_default()
}

fn names(metadata: &str) -> Vec<String> {
    let metadata: serde_json::Value = serde_json::from_str(metadata).unwrap_or_default();
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let root = packages.iter().find(|package| package["name"] == "isr-dpo");
    let features = root.and_then(|package| package["features"].as_object());
    let names = features.into_iter().flat_map(|features| features.keys().cloned());
    names.filter(|name| name != "default" && name != "full").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_those_of_the_root_package() {
        let metadata = r#"{"packages": [
            {"name": "isr-api", "features": {"x": []}},
            {"name": "isr-dpo", "features": {"default": ["full"], "full": ["torch"], "torch": []}}]}"#;
        assert_eq!(names(metadata), ["torch"]);
    }
}
