//! Whole-system tests of the binary `isr`.
