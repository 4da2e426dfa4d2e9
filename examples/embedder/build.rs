fn main() {
    // So that the program starts without LD_LIBRARY_PATH.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", std::env::var("DEP_ISR_DPO_LIBTORCH_LIB").unwrap());
}
