//! Opens shared libraries ahead of an addon that needs them.

use std::path::Path;

use drcorl_binding::{Failure, Outcome};
use libloading::Library;

/// Opens one library for good, with its symbols visible to what is loaded later.
pub fn open(path: &Path) -> Outcome<()> {
    // SAFETY: the initialisers of a library are code that runs here, and nothing can vouch for them; the caller has
    // chosen the file. No symbol is taken from it.
    let library = unsafe { open_global(path) };
    let library = library.map_err(|error| Failure::new("Io", format!("cannot load {}: {error}", path.display())))?;
    // libtorch keeps threads and thread-local state that an unloading would pull the ground from under.
    std::mem::forget(library);
    Ok(())
}

#[cfg(unix)]
unsafe fn open_global(path: &Path) -> std::result::Result<Library, libloading::Error> {
    use libloading::os::unix::{Library as UnixLibrary, RTLD_GLOBAL, RTLD_NOW};
    UnixLibrary::open(Some(path), RTLD_NOW | RTLD_GLOBAL).map(Library::from)
}

#[cfg(windows)]
unsafe fn open_global(path: &Path) -> std::result::Result<Library, libloading::Error> {
    use libloading::os::windows::{Library as WindowsLibrary, LOAD_WITH_ALTERED_SEARCH_PATH};
    // What the library itself needs is then looked for beside it. Windows has no notion of global symbols.
    WindowsLibrary::load_with_flags(path, LOAD_WITH_ALTERED_SEARCH_PATH).map(Library::from)
}
