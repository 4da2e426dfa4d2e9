//! Developer commands of this repository: `cargo xtask <command>`.
//!
//! One file a command (`setup`, `demo`, `test`); the other modules are what
//! they share. Nothing here may link libtorch, because `setup` is what puts
//! libtorch where the other crates look for it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod counts;
mod cuda_stub;
mod demo;
mod ffmpeg;
mod libtorch;
mod pip;
mod process;
mod repository;
mod setup;
mod test;
mod venv;

/// Developer commands of isr-dpo.
///
/// A fresh clone needs only Rust, Python 3 with pip, and a C++ compiler.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install libtorch and, where there is none, ffmpeg, into the checkout
    Setup(setup::SetupArgs),
    /// Build `isr`, run the quickstart config, write its report
    Demo(demo::DemoArgs),
    /// Run every check: format, lints, tests, docs, licences, Python goldens
    Test(test::TestArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Test(args) => test::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
