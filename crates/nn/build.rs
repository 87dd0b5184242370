//! Lets the binaries and test binaries of this crate, and of those whose manifests name this file, find libtorch
//! without LD_LIBRARY_PATH. The addon has no such path: it takes the libtorch that was chosen at run time.

use std::env;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let unix = env::var_os("CARGO_CFG_UNIX").is_some();
    if let (true, Some(libtorch)) = (unix, env::var_os("LIBTORCH")) {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}/lib", libtorch.to_string_lossy());
    }
}
