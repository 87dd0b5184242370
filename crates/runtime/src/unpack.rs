//! Unpacks a libtorch from its archive: shared libraries, version and licences, without headers and static libraries.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};

use drcorl_binding::{Failure, Outcome};
use drcorl_data::Watch;
use flate2::read::GzDecoder;
use tar::Archive as Tar;
use zip::ZipArchive;

/// Names the version; it lies beside the folder `lib`, and so tells how deep that is.
const VERSION_FILE: &str = "build-version";

/// Unpacks `archive` (zip, tar or gzipped tar) into the folder `target`. Units of progress are bytes of the archive.
pub fn unpack(archive: &Path, target: &Path, watch: &Watch) -> Outcome<()> {
    let job = Job { archive, target, watch };
    let mut file = job.open()?;
    watch.expect(file.metadata().map_or(0, |data| data.len()));
    let mut magic = [0; 4];
    let read = file.read(&mut magic).map_err(|error| job.io(archive, &error))?;
    match &magic[..read] {
        [b'P', b'K', 3, 4] => job.zip(),
        [0x1f, 0x8b, ..] => job.tar(true),
        _ => job.tar(false),
    }
}

struct Job<'a> {
    archive: &'a Path,
    target: &'a Path,
    watch: &'a Watch,
}

impl Job<'_> {
    fn zip(&self) -> Outcome<()> {
        let mut zip = ZipArchive::new(BufReader::new(self.open()?)).map_err(|error| self.damaged(&error))?;
        let names: Vec<PathBuf> = zip.file_names().map(PathBuf::from).collect();
        let root = self.root(names)?;
        for index in 0..zip.len() {
            let mut entry = zip.by_index(index).map_err(|error| self.damaged(&error))?;
            let name = PathBuf::from(entry.name());
            self.watch.set(entry.data_start());
            if !entry.is_dir() {
                self.extract(&root, &name, &mut entry)?;
            }
        }
        Ok(())
    }

    /// Twice through the archive: only its whole list tells where the libraries lie.
    fn tar(&self, gzip: bool) -> Outcome<()> {
        let mut names = Vec::new();
        self.each_file(gzip, |name, _| {
            names.push(name);
            Ok(())
        })?;
        let root = self.root(names)?;
        self.each_file(gzip, |name, entry| self.extract(&root, &name, entry))
    }

    fn each_file(&self, gzip: bool, mut call: impl FnMut(PathBuf, &mut dyn Read) -> Outcome<()>) -> Outcome<()> {
        let counted = Counted { inner: BufReader::new(self.open()?), watch: self.watch, read: 0 };
        let bytes: Box<dyn Read> = if gzip { Box::new(GzDecoder::new(counted)) } else { Box::new(counted) };
        let mut tar = Tar::new(bytes);
        for entry in tar.entries().map_err(|error| self.damaged(&error))? {
            self.check()?;
            let mut entry = entry.map_err(|error| self.damaged(&error))?;
            if entry.header().entry_type().is_file() {
                let name = entry.path().map_err(|error| self.damaged(&error))?.into_owned();
                call(name, &mut entry)?;
            }
        }
        Ok(())
    }

    /// The folder that holds `lib`, inside the archive.
    fn root(&self, names: Vec<PathBuf>) -> Outcome<PathBuf> {
        let found = names.iter().filter(|name| name.file_name().is_some_and(|last| last == VERSION_FILE));
        let shallowest = found.min_by_key(|name| name.components().count());
        let root = shallowest.and_then(|name| name.parent()).map(Path::to_path_buf);
        root.ok_or_else(|| {
            let text = format!("{}: holds no {VERSION_FILE}, so it is no libtorch", self.archive.display());
            Failure::new("Data", text)
        })
    }

    fn extract(&self, root: &Path, name: &Path, from: &mut dyn Read) -> Outcome<()> {
        let Ok(inner) = name.strip_prefix(root) else { return Ok(()) };
        if inner.components().any(|part| !matches!(part, Component::Normal(_))) {
            let text = format!("{}: has an entry outside its folder, {}", self.archive.display(), name.display());
            return Err(Failure::new("Data", text));
        }
        if !is_wanted(inner) {
            return Ok(());
        }
        let path = self.target.join(inner);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.map_err(|error| self.io(&path, &error))?;
        let mut to = File::create(&path).map_err(|error| self.io(&path, &error))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            self.check()?;
            let count = from.read(&mut buffer).map_err(|error| self.damaged(&error))?;
            if count == 0 {
                break;
            }
            to.write_all(&buffer[..count]).map_err(|error| self.io(&path, &error))?;
        }
        to.sync_all().map_err(|error| self.io(&path, &error))
    }

    fn open(&self) -> Outcome<File> {
        File::open(self.archive).map_err(|error| self.io(self.archive, &error))
    }

    fn check(&self) -> Outcome<()> {
        Ok(self.watch.check(&self.archive.display().to_string())?)
    }

    fn io(&self, path: &Path, error: &io::Error) -> Failure {
        Failure::new("Io", format!("{}: {error}", path.display()))
    }

    fn damaged(&self, error: &dyn std::fmt::Display) -> Failure {
        let text = format!("{}: no zip or tar archive, or a damaged one: {error}", self.archive.display());
        Failure::new("Data", text)
    }
}

/// Shared libraries of every platform, the version, licences.
fn is_wanted(inner: &Path) -> bool {
    let name = inner.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let top = inner.components().next().map(|part| part.as_os_str().to_owned()).unwrap_or_default();
    let shared = name.contains(".so") || name.ends_with(".dylib") || name.ends_with(".dll");
    let licence = name.to_ascii_uppercase().starts_with("LICENSE") || name.to_ascii_uppercase().starts_with("NOTICE");
    inner == Path::new(VERSION_FILE) || (top == "lib" && shared) || top == "licenses" || licence
}

/// Tells the watch how much of a file has been read.
struct Counted<'a, R> {
    inner: R,
    watch: &'a Watch,
    read: u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        self.watch.set(self.read);
        Ok(count)
    }
}
