//! Developer commands of this repository: `cargo xtask <command>`.
//!
//! One file a command (`setup`, `demo`, `base`, `study`, `test`); the other modules are what
//! they share. Nothing here may link libtorch, because `setup` is what puts
//! libtorch where the other crates look for it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod base;
mod bench;
mod browser;
mod clusters;
mod counts;
mod cuda_stub;
mod demo;
mod embedder;
mod features;
mod ffmpeg;
mod half;
mod layout;
mod libtorch;
mod pip;
mod process;
mod public_api;
mod repository;
mod setup;
mod study;
mod test;
mod venv;
mod zig;

/// Developer commands of isr-dpo
#[derive(Parser)]
#[command(
    bin_name = "cargo xtask",
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "A fresh clone needs only Rust, Python 3 with pip, and a C++ compiler."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install libtorch and ffmpeg into the checkout
    Setup(setup::SetupArgs),
    /// Build `isr`, run the quickstart config, write its report
    Demo(demo::DemoArgs),
    /// Train a base model of the miniature: configs/base anew, one of another seed, or of the studies; about an hour
    Base(base::BaseArgs),
    /// Run the study on the miniature world, both sweeps of configs/studies; hours on two cores
    Study(study::StudyArgs),
    /// Run every check: format, lints, tests, docs, licences, Python goldens
    Test(test::TestArgs),
    /// Compare the public items of isr-api and isr-plugin with their lists, or write those anew
    Api(public_api::ApiArgs),
    /// Compare one iteration with transformers and TRL on this machine
    Bench(bench::BenchArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Base(args) => base::run(&args),
        Command::Study(args) => study::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Api(args) => public_api::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", describe(&error));
            ExitCode::FAILURE
        }
    }
}

/// One line with the chain of causes, then a line for each hint in it.
fn describe(error: &anyhow::Error) -> String {
    let messages: Vec<String> = error.chain().map(ToString::to_string).collect();
    let (mut causes, mut hints) = (Vec::new(), String::new());
    for message in &messages {
        let (cause, hint) = message.split_once("; hint: ").unwrap_or((message, ""));
        causes.push(cause);
        if !hint.is_empty() {
            hints.push_str("\nhint: ");
            hints.push_str(hint);
        }
    }
    format!("error: {}{hints}", causes.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_hint_stands_on_its_own_line_after_all_causes() {
        let error = anyhow::anyhow!("no route").context("cannot download; hint: try again");
        assert_eq!(describe(&error), "error: cannot download: no route\nhint: try again");
    }
}
