//! Opens shared libraries ahead of an addon that needs them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use drcorl_binding::{Failure, Outcome};
use libloading::Library;

/// What this addon has opened.
static OPENED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Opens libraries for good, in this order, with their symbols visible to what is loaded later. Opens none where one
/// has the name of another library in this process: two libtorches register the same operators, which ends the process.
pub fn open(paths: &[PathBuf]) -> Outcome<()> {
    let mut opened = OPENED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let present: Vec<PathBuf> = opened.iter().cloned().chain(mapped()).collect();
    // A path that leads nowhere is refused by the loader, in its words.
    let real: Vec<PathBuf> = paths.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())).collect();
    for path in &real {
        if let Some(other) = path.file_name().and_then(|name| find_other(&present, name, path)) {
            let other = other.display();
            let text = format!("another one is in use in this process already, {other}, and two would end it");
            return Err(Failure::new("Io", format!("cannot load {}: {text}", path.display())));
        }
    }
    paths.iter().try_for_each(|path| load(path))?;
    opened.extend(real);
    Ok(())
}

fn find_other<'a>(libraries: &'a [PathBuf], name: &OsStr, real: &Path) -> Option<&'a PathBuf> {
    // A file that was replaced since is another one; its path has a mark.
    let plain = |path: &PathBuf| path.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
    libraries.iter().find(|path| Path::new(&plain(path)).file_name() == Some(name) && *path != real)
}

/// Files mapped by this process, by whomever: other copies of this addon and other packages have libtorch too.
#[cfg(target_os = "linux")]
fn mapped() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let path = |line: &str| line.find('/').map(|at| PathBuf::from(&line[at..]));
    let mut paths: Vec<PathBuf> = maps.lines().filter_map(path).collect();
    paths.dedup();
    paths
}

#[cfg(not(target_os = "linux"))]
fn mapped() -> Vec<PathBuf> {
    Vec::new()
}

fn load(path: &Path) -> Outcome<()> {
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
