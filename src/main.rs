//! The binary `isr`.

mod cli;
mod progress;

use std::process::ExitCode;

fn main() -> ExitCode {
    isr_torch::keep_freed_memory();
    cli::main()
}
