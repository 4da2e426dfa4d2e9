//! Judges, retrospectors and objectives written in Python.
