//! Hosts one library, as `isr plugins host FILE` does: for programs that embed the loop.
//!
//! Called with `plugins host FILE [--memory-mb N]`.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let Some(path) = arguments.get(3).map(PathBuf::from) else {
        eprintln!("usage: isr-plugin-host plugins host FILE [--memory-mb N]");
        return ExitCode::from(2);
    };
    let memory_mb = arguments.get(5).and_then(|text| text.to_str()?.parse().ok());
    match isr_native::serve(&path, memory_mb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
