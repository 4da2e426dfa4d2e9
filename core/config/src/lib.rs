//! The config engine of isr-dpo: component registry ([`registry`]), layered configs, and plugin files ([`plugin`]).
//!
//! A config is a TOML file with one section per component (`[judge]`, whose `type` is a registered name) and
//! sections of hyperparameters. [`Loader`] reads it in layers, from the lowest to the highest precedence:
//!
//! 1. the defaults of the config structs,
//! 2. the files under `extends`, relative to the file that names them,
//! 3. the file,
//! 4. environment variables: `ISR__POLICY__MODEL=x` sets `policy.model`,
//! 5. overrides: `-s policy.model=x`.
//!
//! Relative paths of models and data in a file are looked for beside it, then in the working directory, then in the
//! parents of the file's folder; those of the environment and of overrides are relative to the working directory.
//!
//! Tables merge key by key; all other values are replaced. A layer that changes the `type` of a section discards
//! the lower layers' keys of that section, since another type has other keys. TOML has no null, so `"none"`
//! removes an optional section or number: `-s retrospector=none`.
//!
//! [`Loader`] checks the result against the JSON schema of the config struct, registered components included, and
//! reports all problems at once with key path, origin and remedy. It loads any struct that implements
//! [`Validate`]; [`RunConfig`] is the config of `isr run`.

pub mod bounds;
mod check;
mod component_schema;
mod diagnostics;
mod difference;
mod evaluation;
mod feature_cache;
mod files;
mod iteration;
mod layer;
mod loader;
mod merge;
mod mix;
mod oracle;
mod output;
mod paths;
pub mod plugin;
pub mod registry;
mod renamed;
mod run;
mod supervised;
mod train;
mod validate;

pub use diagnostics::did_you_mean;
pub use difference::difference;
pub use evaluation::EvaluationConfig;
pub use feature_cache::{
    cache_dir, default_dir as default_feature_cache_dir, resolve as feature_cache_dir,
};
pub use iteration::{LoopConfig, PreviousContext};
pub use loader::{LoadedConfig, Loader};
pub use mix::{MixConfig, PreferencesSection};
pub use oracle::is_oracle;
pub use output::{file_schema, schema, to_toml};
pub use renamed::{with_current_names, without_former_defaults};
pub use run::RunConfig;
pub use supervised::SupervisedConfig;
pub use train::{ReferenceSource, Schedule, TrainConfig};
pub use validate::{Invalid, Validate};

/// Re-exports for the expansion of [`register!`].
#[doc(hidden)]
pub mod __private {
    pub use inventory;
    pub use isr_api as api;
    pub use schemars;
    pub use typetag;
}
