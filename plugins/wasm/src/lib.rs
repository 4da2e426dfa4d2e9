//! Judges, retrospectors and objectives compiled to WebAssembly.
