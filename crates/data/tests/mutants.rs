//! Seeded damage to a file of every format: whatever the bytes are, they are read or refused by name, soon,
//! and within bounded memory.

use std::path::Path;
use std::time::{Duration, Instant};

use drcorl_data::{convert, read_dsrl, ConvertOptions, Watch};

/// Mutants of each file. All of them take seconds.
const ROUNDS: usize = 60;
/// Far above what any mutant takes, on a machine that does other work too.
const PATIENCE: Duration = Duration::from_secs(10);

/// Seeded xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }
}

fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    match random.below(6) {
        0 => bytes.truncate(random.below(bytes.len())),
        1 => {
            let start = random.below(bytes.len());
            let end = (start + 1 + random.below(64)).min(bytes.len());
            bytes[start..end].fill([0x00, 0xff, 0x7f][random.below(3)]);
        }
        2 => {
            // A number of eight bytes becomes huge.
            let start = random.below(bytes.len().saturating_sub(8));
            let huge = [u64::MAX, 1 << 62, 1 << 40, 1 << 31][random.below(4)].to_le_bytes();
            bytes[start..start + 8].copy_from_slice(&huge);
        }
        3 => {
            let (from, to) = (random.below(bytes.len()), random.below(bytes.len()));
            let count = random.below(200).min(bytes.len() - from.max(to));
            bytes.copy_within(from..from + count, to);
        }
        4 => bytes.extend_from_within(..random.below(bytes.len())),
        _ => {
            for _ in 0..1 + random.below(20) {
                let index = random.below(bytes.len());
                bytes[index] ^= 1 << random.below(8);
            }
        }
    }
    bytes
}

/// Peak of this process's resident memory in bytes, where the system tells it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn options() -> [ConvertOptions; 3] {
    let plain = ConvertOptions { missing_cost: Some(0.0), ..ConvertOptions::default() };
    let map = [("observations", "observations/observation,observations/desired_goal")];
    let map = map.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect();
    let ordered = ConvertOptions { shift: true, episode: Some("env".into()), ..plain.clone() };
    [ConvertOptions { map, ..plain.clone() }, ordered, plain]
}

#[test]
fn no_damage_ends_in_a_panic_a_hang_or_much_memory() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let log = "time,env,obs_0,obs_1,action_0,reward,cost,terminated,truncated\n2026-01-01,a,0.5,1,2,3.5,0,0,0\n2026-01-02,a,1,1,2,3,,0,1\n";
    let mut files: Vec<(String, Vec<u8>)> = vec![("log.csv".to_owned(), log.as_bytes().to_vec())];
    for folder in [fixtures.clone(), fixtures.join("convert")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files.push((path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(20_261_128);
    let (mut read, mut refused, mut guarded) = (0, 0, Vec::new());
    for (name, bytes) in &files {
        let path = folder.path().join(name);
        for round in 0..ROUNDS {
            std::fs::write(&path, mutate(bytes, &mut random)).unwrap();
            let start = Instant::now();
            let output = folder.path().join("out.hdf5");
            let mut results: Vec<Result<(), drcorl_data::Error>> = Vec::new();
            if name.ends_with(".hdf5") {
                results.push(read_dsrl(&path).map(|_| ()));
            }
            let options = &options()[random.below(3)];
            results.push(convert(&path, &output, options, &Watch::default()).map(|_| ()));
            assert!(start.elapsed() < PATIENCE, "{name}, mutant {round}: {:?}", start.elapsed());
            for result in results {
                match result {
                    Ok(()) => read += 1,
                    Err(error) => {
                        assert!(
                            error.message.contains(name.as_str()) && error.message.contains("; "),
                            "{name}: {error}"
                        );
                        // The guard's message: a panic inside a decoder shows here.
                        if error.message.contains("decoder failed") {
                            guarded.push(format!("{name}, mutant {round}"));
                        }
                        refused += 1;
                    }
                }
            }
            let _ = std::fs::remove_file(output);
        }
        std::fs::remove_file(path).unwrap();
    }
    println!(
        "{} files, {read} mutants read, {refused} refused, {} by the guard {guarded:?}",
        files.len(),
        guarded.len()
    );
    assert!(read > 100 && refused > 500, "{read} read, {refused} refused");
    assert!(std::fs::read_dir(folder.path()).unwrap().count() == 0, "files are left");
    // Elsewhere nothing tells it.
    if cfg!(target_os = "linux") {
        let peak = peak_memory().expect("/proc tells the peak");
        assert!(peak < 1 << 30, "{peak} bytes of memory");
    }
}
