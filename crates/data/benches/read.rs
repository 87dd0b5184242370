//! Time to read and check DSRL files: `cargo bench -p drcorl-data -- [--json] FILE..`. The fastest of 5 reads each, so
//! the file is in the operating system's cache.

use std::path::Path;
use std::time::Instant;

use drcorl_data::{read_dsrl, Error};

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|arg| arg == "--json");
    // Cargo adds `--bench`.
    for file in arguments.iter().filter(|arg| !arg.starts_with("--")) {
        let mut best = f64::INFINITY;
        let mut rows = 0;
        for _ in 0..5 {
            let start = Instant::now();
            rows = read_dsrl(Path::new(file))?.len();
            best = best.min(start.elapsed().as_secs_f64());
        }
        if json {
            println!("{{\"file\": {file:?}, \"transitions\": {rows}, \"seconds\": {best:.4}}}");
        } else {
            println!("{best:.3} s  {rows} transitions  {file}");
        }
    }
    Ok(())
}
