//! `NativeLock`: a file that one process at a time holds, by the word of the operating system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use drcorl_binding::{Failure, Outcome};
use napi_derive::napi;

/// A lock that is held: flock(2), on Windows LockFileEx. The system gives it back when the process ends, however it
/// ends, so none is ever stale.
#[napi]
pub struct NativeLock {
    path: PathBuf,
    file: Option<File>,
}

#[napi]
impl NativeLock {
    /// Gives the lock back and removes its file, which stays on Windows; a second call does nothing.
    #[napi]
    pub fn release(&mut self) {
        if let Some(file) = self.file.take() {
            // Removed while it is held: nobody else can have locked this file, and whoever has it open looks again.
            if cfg!(unix) {
                let _ = fs::remove_file(&self.path);
            }
            drop(file);
        }
    }
}

impl NativeLock {
    /// The lock of the file at `path` with `note` in it; None where somebody holds it.
    pub fn try_take(path: PathBuf, note: &str) -> Outcome<Option<NativeLock>> {
        let Some(mut file) = take(&path)? else { return Ok(None) };
        let failed = |error| failure("write", &path, &error);
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        file.write_all(note.as_bytes()).map_err(failed)?;
        Ok(Some(NativeLock { path, file: Some(file) }))
    }
}

fn take(path: &Path) -> Outcome<Option<File>> {
    loop {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| failure("write", path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failure("lock", path, &error)),
        }
        // Its holder may have removed the file after it was opened here: a lock on it would keep nobody out.
        if is_at(&file, path) {
            return Ok(Some(file));
        }
    }
}

/// True where `path` still names this very file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |found: &fs::Metadata| (found.dev(), found.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(own), Ok(there)) if identity(&own) == identity(&there))
}

/// Files have no identity here that the standard library tells, so nobody removes them.
#[cfg(windows)]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

fn failure(verb: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new("Io", format!("cannot {verb} {}: {error}", path.display()))
}
