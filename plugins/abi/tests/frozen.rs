//! The interface of a version does not change: libraries that were built with it must go on loading.

/// The code of a source file, comments and empty lines left out.
fn code(source: &str) -> Vec<&str> {
    let lines = source.lines().filter(|line| !line.trim().is_empty());
    lines.filter(|line| !line.trim_start().starts_with("//")).collect()
}

#[test]
fn the_interface_is_that_of_version_0_1() {
    assert!(isr_plugin::VERSION.starts_with("0.1."), "a new version may have a new interface: freeze it");
    let (now, frozen) = (include_str!("../src/interface.rs"), include_str!("interface-0.1.txt"));
    assert_eq!(
        code(now),
        code(frozen),
        "what crosses the library boundary has changed. Add capabilities as methods called by name and as keys \
         with defaults (docs/plugins.md); a changed type needs another version of isr-plugin"
    );
}
