//! What a run leaves on disk.

mod records;

pub use records::*;
