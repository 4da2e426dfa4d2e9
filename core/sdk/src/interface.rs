//! The binary interface: the only types that cross the library boundary.
//!
//! They are frozen: `abi_stable` compares their layout when a library is loaded, and refuses one that differs. So
//! the interface does not grow by types or methods. Structured data crosses as JSON with blobs
//! ([`isr_api::messages`]), methods are called by name, and a new method is an optional capability
//! whose name stands in the manifest's or the host's `features`. `docs/plugins.md` has the policy.

// The derives write `unsafe` implementations; the crate itself has none here.
#![allow(unsafe_code, unreachable_pub, missing_docs, clippy::wrong_self_convention, non_local_definitions)]

use abi_stable::library::RootModule;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{RBox, RResult, RSlice, RStr, RString, RVec, Tuple2};
use abi_stable::{StableAbi, declare_root_module_statics, package_version_strings, sabi_trait};

/// Error of a call.
#[repr(C)]
#[derive(StableAbi, Debug, Clone)]
pub struct RawError {
    /// `bad_input`, `failed`, `panicked` or `cancelled`.
    pub code: RString,
    pub message: RString,
    /// The causes of the message, outermost first.
    pub chain: RVec<RString>,
}

/// JSON, and the blobs that it refers to by index.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct RawMessage<'a> {
    pub json: RSlice<'a, u8>,
    pub blobs: RSlice<'a, RSlice<'a, u8>>,
}

/// An owned [`RawMessage`].
#[repr(C)]
#[derive(StableAbi, Debug, Clone)]
pub struct RawReply {
    pub json: RVec<u8>,
    pub blobs: RVec<RVec<u8>>,
}

/// Log-probs of one view of a batch.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct RawView<'a> {
    /// Name of the view: `isr_api::View::name`.
    pub view: RStr<'a>,
    pub policy: RSlice<'a, f64>,
    pub reference: RSlice<'a, f64>,
    pub lengths: RSlice<'a, u64>,
}

/// Value and gradient of an objective.
#[repr(C)]
#[derive(StableAbi, Debug, Clone)]
pub struct RawValue {
    pub loss: f64,
    pub gradients: RVec<RVec<f64>>,
    pub metrics: RVec<Tuple2<RString, f64>>,
}

/// The host, as a plugin calls it.
#[sabi_trait]
pub trait Host: Send + Sync {
    /// Whether log messages of that level (1 error to 5 trace) are enabled.
    fn wants(&self, level: u8) -> bool;
    fn log(&self, level: u8, target: RStr<'_>, message: RStr<'_>);
    /// Whether the call was cancelled.
    fn cancelled(&self) -> bool;
    fn ask(&self, method: RStr<'_>, request: RawMessage<'_>) -> RResult<RawReply, RawError>;
}

pub type HostBox = Host_TO<'static, RBox<()>>;

/// A built component.
#[sabi_trait]
pub trait Instance: Send + Sync {
    fn call(&self, method: RStr<'_>, request: RawMessage<'_>, host: HostBox)
    -> RResult<RawReply, RawError>;

    #[sabi(last_prefix_field)]
    fn evaluate(&self, views: RSlice<'_, RawView<'_>>) -> RResult<RawValue, RawError>;
}

pub type InstanceBox = Instance_TO<'static, RBox<()>>;

/// The root module of a library.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ModuleRef, prefix_fields = ModulePrefix)))]
#[sabi(missing_field(panic))]
pub struct Module {
    /// JSON of `Described`. The features of the host are a JSON list.
    pub describe: extern "C" fn(features: RStr<'_>) -> RResult<RString, RawError>,
    /// Checks settings, a JSON object.
    pub validate:
        extern "C" fn(kind: RStr<'_>, name: RStr<'_>, settings: RStr<'_>) -> RResult<(), RawError>,
    #[sabi(last_prefix_field)]
    pub construct: extern "C" fn(
        kind: RStr<'_>,
        name: RStr<'_>,
        settings: RStr<'_>,
        host: HostBox,
    ) -> RResult<InstanceBox, RawError>,
}

impl RootModule for ModuleRef {
    declare_root_module_statics! {ModuleRef}
    const BASE_NAME: &'static str = "isr_plugin";
    const NAME: &'static str = "isr plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}
