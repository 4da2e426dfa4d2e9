//! The loop (being written).
