//! How much memory a file may ask for.
//!
//! Compression makes gigabytes of kilobytes, and headers state what they like, so every reader estimates what it would
//! hold and asks here before it allocates.

use crate::error::{Error, Result};

/// Decoded bytes allowed per byte of the file where the caller states no limit.
/// Recorded float32 columns compress 1 to 5 times.
const EXPANSION: u64 = 100;
/// Files too small for that rule: nobody's memory is short of this.
const FREE: u64 = 64 << 20;
/// Share of the memory that is free now, in percent.
const SHARE_OF_AVAILABLE: u64 = 80;

/// The most bytes that reading one file may hold at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    limit: u64,
    why: Why,
    file: u64,
}

#[derive(Debug, Clone, Copy)]
enum Why {
    Stated,
    Expansion,
    Available,
}

impl Budget {
    /// `stated` is the caller's own limit and wins;
    /// else the smaller of what the file's size makes plausible and what is free.
    pub fn new(stated: Option<u64>, file_bytes: u64) -> Self {
        let plausible = file_bytes.saturating_mul(EXPANSION).max(FREE);
        let available = available().map_or(u64::MAX, |bytes| bytes / 100 * SHARE_OF_AVAILABLE);
        let (limit, why) = match stated {
            Some(limit) => (limit, Why::Stated),
            None if plausible <= available => (plausible, Why::Expansion),
            None => (available, Why::Available),
        };
        Budget { limit, why, file: file_bytes }
    }

    /// The limit in bytes.
    pub fn bytes(&self) -> usize {
        usize::try_from(self.limit).unwrap_or(usize::MAX)
    }

    /// Refuses an estimate above the limit; `key` is the column that asks, if a single one does.
    pub fn check(&self, file: &str, key: Option<&str>, estimate: u64) -> Result<()> {
        if estimate <= self.limit {
            return Ok(());
        }
        let limit = human(self.limit);
        let why = match self.why {
            Why::Stated => format!("{limit}, the limit that was stated"),
            Why::Expansion => format!("{limit}, the limit for a file of {}", human(self.file)),
            Why::Available => format!("{limit}, {SHARE_OF_AVAILABLE} % of the memory that is free"),
        };
        let problem = format!("would take {} of memory, more than {why}", human(estimate));
        let remedy = format!(
            "check that the file is the one you mean; if it is, raise the limit (--max-memory {})",
            human(estimate.saturating_add(estimate / 10)).replace(' ', "")
        );
        Err(Error::data(file, key, &problem, &remedy))
    }

    /// The error of an allocation that the system refused all the same.
    pub fn refused(&self, file: &str, key: Option<&str>, bytes: u64) -> Error {
        refused(file, key, bytes)
    }
}

/// The error of an allocation that the system refused.
pub(crate) fn refused(file: &str, key: Option<&str>, bytes: u64) -> Error {
    let problem = format!("needs {} of memory, which the system refused", human(bytes));
    Error::data(file, key, &problem, "free some memory, or split the file")
}

/// Adds values to the end; where the memory is not there, the error of the file.
pub(crate) fn extend<T>(to: &mut Vec<T>, from: impl ExactSizeIterator<Item = T>, file: &str) -> Result<()> {
    let count = from.len();
    if to.try_reserve(count).is_err() {
        let bytes = to.len().saturating_add(count).saturating_mul(size_of::<T>());
        return Err(refused(file, None, bytes as u64));
    }
    to.extend(from);
    Ok(())
}

/// `n` zeroed values, or nothing if the memory is not there: `vec![0; n]` would end the process.
pub(crate) fn zeroed<T: Clone + Default>(n: usize) -> Option<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(n).ok()?;
    values.resize(n, T::default());
    Some(values)
}

/// Powers of 1024 with at most one decimal: `512 B`, `1.5 GB`.
pub(crate) fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}").replace(".0 ", " ") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TB")
}

/// Memory that is free or can be freed, in bytes, where the system says so: the machine's or the container's,
/// whichever is less.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.saturating_mul(1024);
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let container = number("/sys/fs/cgroup/memory.max")
        .zip(number("/sys/fs/cgroup/memory.current"))
        .map(|(most, used)| most.saturating_sub(used));
    Some(container.map_or(machine, |bytes| bytes.min(machine)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_grow_a_hundredfold_or_to_what_is_stated() {
        let small = Budget::new(None, 23 << 10);
        assert!(small.check("a.hdf5", None, 60 << 20).is_ok());
        let error = small.check("a.hdf5", Some("observations"), 279 << 20).unwrap_err();
        let text =
            "a.hdf5: observations: would take 279 MB of memory, more than 64 MB, the limit for a file of 23 kB; ";
        assert!(error.message.starts_with(text), "{error}");
        assert!(error.message.ends_with("(--max-memory 306.9MB)"), "{error}");
        assert!(Budget::new(Some(1 << 30), 23 << 10).check("a.hdf5", None, 279 << 20).is_ok());
        assert!(Budget::new(Some(1 << 20), 23 << 10).check("a.hdf5", None, 2 << 20).is_err());
    }

    #[test]
    fn what_is_not_there_is_no_abort() {
        assert!(zeroed::<f32>(usize::MAX / 8).is_none());
        assert_eq!(zeroed::<f32>(3), Some(vec![0.0; 3]));
        let mut rows = vec![7];
        for count in [usize::MAX / 16, 1 << 55] {
            let error = extend(&mut rows, (0..count).map(|row| row as u64), "a.csv").unwrap_err();
            assert!(error.message.starts_with("a.csv: needs ") && error.message.contains("refused"), "{error}");
        }
        extend(&mut rows, [0, 1].into_iter(), "a.csv").unwrap();
        assert_eq!(rows, [7, 0, 1]);
    }
}
