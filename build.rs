//! Lets the binary, the tests and the examples of this package find libtorch without environment variables.
//!
//! Cargo passes link arguments to this package's own targets only. A program that depends on isr-dpo gets the folder as
//! `DEP_ISR_DPO_LIBTORCH_LIB`, and needs this line in its own build script:
//!
//! ```ignore
//! println!("cargo:rustc-link-arg=-Wl,-rpath,{}", std::env::var("DEP_ISR_DPO_LIBTORCH_LIB").unwrap());
//! ```

fn main() {
    // Set by the build script of isr-torch; absent without the feature `torch`.
    println!("cargo:rerun-if-env-changed=DEP_ISR_TORCH_LIBTORCH_LIB");
    if let Ok(lib) = std::env::var("DEP_ISR_TORCH_LIBTORCH_LIB") {
        println!("cargo:libtorch_lib={lib}");
        // As RUNPATH, so that LD_LIBRARY_PATH can still name another libtorch.
        println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{lib}");
    }
}
