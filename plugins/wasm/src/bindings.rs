//! Bindings generated from `wit/isr.wit`: one module a world, which share the types of the first.

#![allow(missing_docs, unreachable_pub, reason = "generated")]

pub(crate) mod judge {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "judge-plugin",
        imports: {
            "isr:plugin/host@0.1.0.generate": async,
            "isr:plugin/host@0.1.0.score": async,
        },
        exports: { default: async },
    });
}

pub(crate) mod retrospector {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "retrospector-plugin",
        exports: { default: async },
        with: {
            "isr:plugin/types@0.1.0": super::judge::isr::plugin::types,
            "isr:plugin/host@0.1.0": super::judge::isr::plugin::host,
        },
    });
}

pub(crate) mod objective {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "objective-plugin",
        exports: { default: async },
        with: {
            "isr:plugin/types@0.1.0": super::judge::isr::plugin::types,
            "isr:plugin/host@0.1.0": super::judge::isr::plugin::host,
        },
    });
}

pub(crate) mod objective_by_name {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "objective-by-name-plugin",
        exports: { default: async },
        with: {
            "isr:plugin/types@0.1.0": super::judge::isr::plugin::types,
            "isr:plugin/host@0.1.0": super::judge::isr::plugin::host,
        },
    });
}

pub(crate) use judge::isr::plugin::{host, types};
