//! An opened HDF5 file, and the decoder's failures in this crate's words.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdf5_reader::error::{Error as H5Error, Result as H5Result};
use hdf5_reader::group::Group;
use hdf5_reader::messages::layout::DataLayout;
use hdf5_reader::messages::HdfMessage;
use hdf5_reader::{Dataset, ExternalLinkResolver, Hdf5File, OpenOptions};

use super::filters;
use super::{io_error, Column, DAMAGED};
use crate::budget::Budget;
use crate::error::{Error, Result};

/// What to do about data that lie in another file: the hash of a dataset is that of one file.
const ONE_FILE: &str = "copy the data into one file (h5py: for key in f: g[key] = f[key][:])";

/// An HDF5 file with the name that its errors begin with.
pub(crate) struct H5 {
    file: Hdf5File,
    pub name: String,
    /// Files that external links asked for. They are not followed.
    links: Arc<Links>,
}

impl H5 {
    /// Opens a file that is as long as its header states. One chunk may take as much memory as the whole budget.
    pub fn open(path: &Path, name: &str, budget: &Budget) -> Result<H5> {
        let links = Arc::new(Links::default());
        // Every chunk is read once, so none is kept.
        let options = OpenOptions::default()
            .with_chunk_cache_bytes(0)
            .with_max_chunk_bytes(budget.bytes())
            .with_max_read_bytes(budget.bytes())
            .with_filter_registry(filters::registry(budget.bytes()))
            .with_external_link_resolver(Arc::clone(&links) as Arc<dyn ExternalLinkResolver>);
        let file = Hdf5File::open_with_options(path, options).map_err(|e| h5_error(name, None, &e))?;
        let (stated, bytes) = (file.superblock().eof_address, file.storage().len());
        if stated != u64::MAX && stated > bytes {
            let problem = format!("is truncated: {bytes} bytes are there, its header states {stated}");
            return Err(Error::data(name, None, &problem, DAMAGED));
        }
        Ok(H5 { file, name: name.to_owned(), links })
    }

    pub fn root(&self) -> Result<Group> {
        self.file.root_group().map_err(|e| h5_error(&self.name, None, &e))
    }

    /// Names of the datasets of the root group.
    pub fn datasets(&self) -> Result<Vec<String>> {
        let names = self.root()?.member_names();
        Ok(names.map_err(|e| h5_error(&self.name, None, &e))?.1)
    }

    /// A dataset of the root group.
    pub fn column(&self, key: &str) -> Result<Column<'_>> {
        self.member(&self.root()?, key, key)?.ok_or_else(|| self.missing(key))
    }

    /// The dataset `last` of a group, called `key` in errors; none if there is none.
    pub fn member(&self, group: &Group, last: &str, key: &str) -> Result<Option<Column<'_>>> {
        self.links.asked().clear();
        match group.dataset(last) {
            Ok(dataset) => self.wrap(key, dataset).map(Some),
            Err(error) => match (cause(&error), self.links.asked().pop()) {
                (H5Error::DatasetNotFound(_), None) => Ok(None),
                (H5Error::DatasetNotFound(_), Some(target)) => {
                    let problem = format!("is a link to another file, {target}");
                    Err(Error::data(&self.name, Some(key), &problem, ONE_FILE))
                }
                _ => Err(h5_error(&self.name, Some(key), &error)),
            },
        }
    }

    /// A dataset of this file under the name that its errors use.
    fn wrap(&self, key: &str, dataset: Dataset) -> Result<Column<'_>> {
        let header = self.file.get_or_parse_header(dataset.address());
        let header = header.map_err(|e| h5_error(&self.name, Some(key), &e))?;
        let error = |problem: &str, remedy: &str| Error::data(&self.name, Some(key), problem, remedy);
        let undefined = u64::MAX >> (64 - 8 * u32::from(self.file.superblock().offset_size.clamp(1, 8)));
        let empty = dataset.shape().contains(&0);
        for message in &header.messages {
            match message {
                HdfMessage::ExternalFiles(_) => return Err(error("keeps its data in files beside this one", ONE_FILE)),
                HdfMessage::DataLayout(message) if !empty => {
                    let stored = match message.layout {
                        DataLayout::Compact { ref data } => !data.is_empty(),
                        DataLayout::Contiguous { address, size } => address != undefined && size > 0,
                        DataLayout::Chunked { address, .. } => address != undefined,
                    };
                    if !stored {
                        return Err(error("was never written: the file has no storage for it", NEVER_WRITTEN));
                    }
                }
                _ => {}
            }
        }
        Ok(Column::new(&self.name, key, dataset))
    }

    fn missing(&self, key: &str) -> Error {
        let members = self.file.root_group().and_then(|root| root.member_names());
        let is_episode = |name: &String| name.strip_prefix("episode_").is_some_and(|n| n.parse::<u64>().is_ok());
        let found = match members {
            Ok((groups, _)) if groups.iter().any(is_episode) => {
                let problem = "is missing: the file has a group for each episode, as Minari writes them";
                let remedy = format!("convert it first: drcorl data convert {} OUT.hdf5", self.name);
                return Error::data(&self.name, Some(key), problem, &remedy);
            }
            Ok((groups, _)) if groups.iter().any(|name| name == key) => {
                let remedy = "store it as a dataset of the root group";
                return Error::data(&self.name, Some(key), "is a group, not a dataset", remedy);
            }
            Ok((_, names)) if names.is_empty() => "the file has no datasets".to_owned(),
            Ok((_, names)) => format!("found: {}", listing(&names)),
            Err(_) => "its list of names cannot be read".to_owned(),
        };
        let problem = format!("is missing ({found})");
        let remedy = match key {
            "costs" => {
                "D4RL files have no costs; use a DSRL file, or drcorl data convert with --map costs=NAME".to_owned()
            }
            "next_observations" => {
                format!("take successors from the next rows: drcorl data convert {} OUT.hdf5 --shift", self.name)
            }
            _ => format!("name it with --map {key}=NAME of drcorl data convert, or add the dataset"),
        };
        Error::data(&self.name, Some(key), &problem, &remedy)
    }
}

/// Remedy for rows that are not in the file: a reader would take them for zeros, and an episode of zero costs for safe.
pub(super) const NEVER_WRITTEN: &str =
    "write those rows, or leave the column out and state its value (drcorl data convert --map KEY=0)";

/// Writes down what external links ask for and follows none: a dataset that lies elsewhere is not what the file's hash
/// names, and a link may point anywhere.
#[derive(Default)]
struct Links(Mutex<Vec<String>>);

impl Links {
    fn asked(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ExternalLinkResolver for Links {
    fn resolve_external_link(&self, filename: &str) -> H5Result<Option<Hdf5File>> {
        self.asked().push(filename.to_owned());
        Ok(None)
    }
}

fn cause(error: &H5Error) -> &H5Error {
    match error {
        H5Error::Context { source, .. } => cause(source),
        other => other,
    }
}

fn listing(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    let rest = if names.len() > SHOWN { ", .." } else { "" };
    format!("{}{rest}", shown.join(", "))
}

/// A failure of the decoder in this crate's terms.
pub(crate) fn h5_error(file: &str, key: Option<&str>, error: &H5Error) -> Error {
    let error = cause(error);
    let (problem, remedy) = match error {
        H5Error::Io(e) => return io_error(file, key, e),
        H5Error::InvalidMagic => (
            "is not an HDF5 file (its signature is missing)".to_owned(),
            "check that the download is the data itself, not a web page or a Git LFS pointer",
        ),
        H5Error::UnexpectedEof { .. } | H5Error::OffsetOutOfBounds(_) => {
            (format!("is truncated or damaged: {error}"), DAMAGED)
        }
        H5Error::DecompressionError(_) | H5Error::FilterError(_) | H5Error::ChecksumMismatch { .. } => {
            (format!("has a damaged chunk: {error}"), DAMAGED)
        }
        H5Error::UnsupportedFilter(text) => (filters::unsupported(text), filters::REMEDY),
        H5Error::UnsupportedLayoutClass(3) => {
            ("is a virtual dataset: its rows lie in other files".to_owned(), ONE_FILE)
        }
        H5Error::ResourceLimit(text) => (
            format!("has a chunk larger than the memory allowed: {text}"),
            "raise the limit (--max-memory), or write the file in smaller chunks",
        ),
        _ => (format!("cannot be decoded: {error}"), DAMAGED),
    };
    Error::data(file, key, &problem, remedy)
}
