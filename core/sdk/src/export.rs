//! The items behind [`export!`](crate::export): manifests, and the functions of the library's root module.

use abi_stable::library::{__call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult};
use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RResult, RStr, RString};
use isr_api::{BuildContext, Component as Config, Kind, Manifest};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::current::{self, HostHandle};
use crate::error::RemoteError;
use crate::guard::guarded;
use crate::interface::{HostBox, Instance_TO, InstanceBox, Module, ModuleRef, RawError};
use crate::messages::Described;
use crate::serve::{Built, Component, ComponentServer};
use crate::{batching, logging};

/// An exported component: its manifest, validation and construction.
pub struct Export {
    kind: Kind,
    name: &'static str,
    version: &'static str,
    example: &'static str,
    schema: fn() -> serde_json::Value,
    validate: fn(&str) -> Result<(), RemoteError>,
    build: fn(&str) -> Result<Built, RemoteError>,
}

/// The components of a library; implemented by [`export!`](crate::export).
pub trait Exports: 'static {
    /// All exported components.
    fn exports() -> Vec<Export>;
}

/// An exported component of config `C`; its kind is that of `C::Built`.
pub fn export<C>(name: &'static str, version: &'static str, example: &'static str) -> Export
where
    C: Config + DeserializeOwned + JsonSchema,
    C::Built: Component,
{
    Export {
        kind: C::Built::KIND,
        name,
        version,
        example,
        schema: || schemars::schema_for!(C).to_value(),
        validate: |settings| config::<C>(settings)?.validate().map_err(RemoteError::failed),
        build: |settings| {
            let built = config::<C>(settings)?.build(&BuildContext::default());
            built.map(Component::built).map_err(|cause| RemoteError::from_error(cause.as_ref()))
        },
    }
}

fn config<C: DeserializeOwned>(settings: &str) -> Result<C, RemoteError> {
    let config = serde_json::from_str(settings);
    config.map_err(|error| RemoteError::failed(format!("its settings cannot be read: {error}")))
}

impl Export {
    fn manifest(&self) -> Manifest {
        let schema = (self.schema)();
        let help = schema.get("description").and_then(|text| text.as_str()).unwrap_or_default();
        Manifest {
            kind: self.kind,
            name: self.name.to_owned(),
            version: self.version.to_owned(),
            help: help.to_owned(),
            example: self.example.to_owned(),
            features: Vec::new(),
            schema,
        }
    }
}

/// The header by which `abi_stable` finds and checks a library.
pub const fn header<E: Exports>() -> LibHeader {
    // SAFETY: `root` returns what `__call_root_module_loader` made of a `ModuleRef`, and that is the type
    // whose layout stands in the header.
    #[allow(unsafe_code, reason = "the header's constructor is")]
    unsafe {
        LibHeader::from_constructor::<ModuleRef>(root::<E>, CheckTypeLayout::Yes)
    }
}

extern "C" fn root<E: Exports>() -> RootModuleResult {
    crate::loaded_as_plugin();
    __call_root_module_loader(module::<E>)
}

fn module<E: Exports>() -> ModuleRef {
    Module { describe: describe::<E>, validate: validate::<E>, construct: construct::<E> }
        .leak_into_prefix()
}

extern "C" fn describe<E: Exports>(features: RStr<'_>) -> RResult<RString, RawError> {
    let text = guarded(|| {
        batching::set_host_features(&features);
        let components = E::exports().iter().map(Export::manifest).collect();
        let described = Described { sdk: crate::VERSION.to_owned(), components };
        serde_json::to_string(&described).map_err(|error| RemoteError::from_error(&error))
    });
    text.map(RString::from).map_err(RawError::from).into()
}

extern "C" fn validate<E: Exports>(
    kind: RStr<'_>,
    name: RStr<'_>,
    settings: RStr<'_>,
) -> RResult<(), RawError> {
    let checked = guarded(|| (find::<E>(&kind, &name)?.validate)(&settings));
    checked.map_err(RawError::from).into()
}

extern "C" fn construct<E: Exports>(
    kind: RStr<'_>,
    name: RStr<'_>,
    settings: RStr<'_>,
    host: HostBox,
) -> RResult<InstanceBox, RawError> {
    let host = HostHandle::new(host);
    let instance = guarded(|| {
        current::set_fallback_host(&host);
        logging::forward();
        let built = current::with_host(&host, || (find::<E>(&kind, &name)?.build)(&settings))?;
        Ok(Instance_TO::from_value(ComponentServer::new(built, &name, host.clone()), TD_Opaque))
    });
    instance.map_err(RawError::from).into()
}

fn find<E: Exports>(kind: &str, name: &str) -> Result<Export, RemoteError> {
    let found = E::exports().into_iter().find(|it| it.kind.section() == kind && it.name == name);
    found.ok_or_else(|| RemoteError::failed(format!("this library has no {kind} `{name}`")))
}

/// Exports components from a `cdylib`, one line each: kind, name, config struct and an example section.
///
/// ```ignore
/// isr_plugin::export! {
///     Judge "brevity" => BrevityConfig, example = "words = 3\n";
/// }
/// ```
///
/// The config struct implements [`Component`](crate::Component), `Deserialize` and `JsonSchema`; its doc
/// comment is the help, its fields' are the keys'. The version is that of the package.
#[macro_export]
macro_rules! export {
    ($($kind:ident $name:literal => $config:ty, example = $example:expr);+ $(;)?) => {
        const _: () = {
            struct Library;

            impl $crate::__private::Exports for Library {
                fn exports() -> ::std::vec::Vec<$crate::__private::Export> {
                    ::std::vec![$({
                        $crate::__kind!($kind, $config);
                        $crate::__private::export::<$config>($name, env!("CARGO_PKG_VERSION"), $example)
                    }),+]
                }
            }

            // The name by which `abi_stable` finds a library's header.
            #[allow(unsafe_code)]
            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            static HEADER: $crate::__private::LibHeader = $crate::__private::header::<Library>();
        };
    };
}

/// Checks that a config builds its kind.
#[doc(hidden)]
#[macro_export]
macro_rules! __kind {
    (Judge, $config:ty) => { $crate::__kind!(@ $config, dyn $crate::Judge) };
    (Retrospector, $config:ty) => { $crate::__kind!(@ $config, dyn $crate::Retrospector) };
    (Objective, $config:ty) => { $crate::__kind!(@ $config, dyn $crate::PreferenceObjective) };
    (Encoder, $config:ty) => { $crate::__kind!(@ $config, dyn $crate::VideoEncoder) };
    (Policy, $config:ty) => { $crate::__kind!(@ $config, dyn $crate::Policy) };
    (@ $config:ty, $built:ty) => {{
        fn builds<C: $crate::Component<Built = ::std::sync::Arc<$built>>>() {}
        builds::<$config>();
    }};
}
