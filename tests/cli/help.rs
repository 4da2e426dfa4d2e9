//! The help texts, in full: they are the reference of the command line.

use std::path::Path;

use crate::support::isr_line;

fn help(command: &str) -> String {
    isr_line(Path::new("."), &format!("{command} --help")).result()
}

#[test]
fn the_program_explains_itself_and_its_exit_codes() {
    insta::assert_snapshot!("isr", help(""));
}

#[test]
fn every_command_explains_itself() {
    for command in [
        "run",
        "dpo",
        "sweep",
        "sweep tables",
        "sft",
        "evaluate",
        "generate",
        "score",
        "serve",
        "inspect",
        "merge",
        "report",
        "audit",
        "annotate",
        "export",
        "plugins list",
        "plugins describe",
        "plugins check",
        "plugins new",
        "config show",
        "config check",
        "config schema",
        "world render",
        "cache stats",
        "cache clear",
    ] {
        insta::assert_snapshot!(format!("isr {command}").replace(' ', "-"), help(command));
    }
}

#[test]
fn the_version_is_the_packages() {
    let version = isr_line(Path::new("."), "--version").result();
    assert_eq!(version, format!("isr {}\n", env!("CARGO_PKG_VERSION")));
}
