//! The example that embeds the loop.

use std::path::PathBuf;
use std::process::Command;

/// Cargo builds examples before tests, but tells no test where.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples/embed")
}

#[test]
fn the_example_cancels_and_continues() {
    let path = example();
    if !path.exists() {
        eprintln!("{} was not built; run all tests of the package", path.display());
        return;
    }
    let output = Command::new(path).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let expected =
        ["begins with iteration 1 of 2", "cancelled;", "begins with iteration 2 of 2", "complete: 2"];
    let mut rest = said.as_str();
    for text in expected {
        let at = rest.find(text).unwrap_or_else(|| panic!("no `{text}` in\n{said}"));
        rest = &rest[at..];
    }
}
