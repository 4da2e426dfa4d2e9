//! The whole loop on fake components, in milliseconds.

// A test that cannot go on should panic where it stands.
#![allow(clippy::unwrap_used)]

mod bench;
mod cancelling;
mod contexts;
mod control;
mod crashes;
mod cuts;
mod damage;
mod determinism;
mod failures;
mod fake_policy;
mod fakes;
mod feature_cache;
mod full_disk;
mod inputs;
mod links;
mod looks;
mod mix;
mod processes;
mod quarantine;
mod reasoning;
mod references;
mod refusals;
mod results;
mod scale;
mod sharing;
mod supervised;
mod training;
mod video_memory;
