//! Layered config.
