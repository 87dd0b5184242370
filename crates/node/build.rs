//! Tells the linker where the addon finds libtorch at run time.

use std::env;
use std::path::Path;

fn main() {
    napi_build::setup();
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    // The addon lies in the root of the package, `npm run setup` puts libtorch into vendor/.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/vendor/libtorch/lib");
    if let Ok(lib) = env::var("DEP_TCH_LIBTORCH_LIB") {
        let vendored = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vendor/libtorch/lib");
        let same = |a: &Path, b: &Path| a.canonicalize().ok().is_some_and(|a| b.canonicalize().ok() == Some(a));
        if !same(Path::new(&lib), &vendored) {
            println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
        }
    }
    // tch prints these for its own targets only. Without them the linker drops a libtorch that nothing calls directly,
    // and with it the CUDA backend, which registers itself when it is loaded.
    println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
    println!("cargo:rustc-link-arg=-ltorch");
}
