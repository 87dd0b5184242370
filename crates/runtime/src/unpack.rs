//! Unpacks a libtorch from an official archive or from wheels of Python: shared libraries, version and licences,
//! without headers and static libraries.

use std::cell::Cell;
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

/// What an archive may become, as a multiple of its size: libraries shrink to a third to a half when packed.
const EXPANSION: u64 = 20;
/// For archives too small for that rule.
const FREE_BYTES: u64 = 64 << 20;

/// Unpacks `archive` (zip, tar or gzipped tar) into the folder `target`. Units of progress are bytes of the archive.
pub fn unpack(archive: &Path, target: &Path, watch: &Watch) -> Outcome<()> {
    Job { archive, target, watch, wheel: None, left: Cell::new(0) }.run()
}

/// Unpacks a wheel into the folder `target`, as if it were part of an official archive: its libraries (those of
/// `libraries`, or all) to `lib`, its licences to `licenses/NAME`. Units of progress are bytes of the wheel.
pub fn unpack_wheel(archive: &Path, target: &Path, libraries: Option<Vec<String>>, watch: &Watch) -> Outcome<()> {
    let name = archive.file_name().and_then(|name| name.to_str()).and_then(|name| name.split('-').next());
    let wheel = Wheel { name: name.unwrap_or("wheel").to_owned(), libraries };
    let job = Job { archive, target, watch, wheel: Some(wheel), left: Cell::new(0) };
    job.run()?;
    let Some(Wheel { libraries: Some(libraries), .. }) = &job.wheel else { return Ok(()) };
    match libraries.iter().find(|library| !target.join("lib").join(library).is_file()) {
        Some(missing) => Err(Failure::new("Data", format!("{}: holds no {missing}", archive.display()))),
        None => Ok(()),
    }
}

struct Job<'a> {
    archive: &'a Path,
    target: &'a Path,
    watch: &'a Watch,
    /// What to take from a wheel; none where `archive` is an official one.
    wheel: Option<Wheel>,
    /// Bytes that may still be unpacked.
    left: Cell<u64>,
}

/// One wheel of several that make up a libtorch.
struct Wheel {
    name: String,
    libraries: Option<Vec<String>>,
}

impl Wheel {
    /// Where an entry goes, or none where it is not wanted.
    fn place(&self, entry: &Path) -> Option<PathBuf> {
        let name = entry.file_name()?.to_str()?;
        let folder = entry.parent()?;
        if folder.components().any(|part| part.as_os_str().to_string_lossy().ends_with(".dist-info")) {
            let inner: PathBuf =
                folder.components().skip(1).skip_while(|part| part.as_os_str() == "licenses").collect();
            return is_licence(name).then(|| Path::new("licenses").join(&self.name).join(inner).join(name));
        }
        let listed = self.libraries.as_ref().is_none_or(|libraries| libraries.iter().any(|library| library == name));
        (folder.file_name()? == "lib" && is_shared(name) && listed).then(|| Path::new("lib").join(name))
    }
}

impl Job<'_> {
    fn run(&self) -> Outcome<()> {
        let mut file = self.open()?;
        let bytes = file.metadata().map_or(0, |data| data.len());
        self.watch.expect(bytes);
        self.left.set(bytes.saturating_mul(EXPANSION).max(FREE_BYTES));
        let mut magic = [0; 4];
        let read = file.read(&mut magic).map_err(|error| self.io(self.archive, &error))?;
        match &magic[..read] {
            [b'P', b'K', 3, 4] => self.zip(),
            [0x1f, 0x8b, ..] => self.tar(true),
            _ => self.tar(false),
        }
    }

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

    /// The folder that holds `lib`, inside the archive; of a wheel all of it counts.
    fn root(&self, names: Vec<PathBuf>) -> Outcome<PathBuf> {
        if self.wheel.is_some() {
            return Ok(PathBuf::new());
        }
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
        let place = match &self.wheel {
            Some(wheel) => wheel.place(inner),
            None => is_wanted(inner).then(|| inner.to_path_buf()),
        };
        let Some(place) = place else { return Ok(()) };
        let path = self.target.join(place);
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
            self.left.set(self.left.get().checked_sub(count as u64).ok_or_else(|| self.endless())?);
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

    fn endless(&self) -> Failure {
        let text =
            format!("{}: unpacks to over {EXPANSION} times its size, so it is no libtorch", self.archive.display());
        Failure::new("Data", text)
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
    inner == Path::new(VERSION_FILE) || (top == "lib" && is_shared(name)) || top == "licenses" || is_licence(name)
}

fn is_shared(name: &str) -> bool {
    name.contains(".so") || name.ends_with(".dylib") || name.ends_with(".dll")
}

fn is_licence(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["licen", "notice", "copying"].iter().any(|word| name.contains(word))
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
