//! The recorded datasets beside the repository (`../shared/data`, or `DRCORL_DATA_DIR`), against numbers taken with
//! h5py 3.16 and NumPy. Absent files are counted as ignored.

use std::path::{Path, PathBuf};

use drcorl_data::{check, read_dsrl_with, ReadOptions, Summary};
use libtest_mimic::{Arguments, Failed, Trial};

struct Expected {
    file: &'static str,
    dims: (usize, usize, usize),
    episodes: usize,
    lengths: (usize, f64, usize),
    ends: (usize, usize),
    correlation: f64,
    /// Return deciles 0, 50 and 100 %.
    returns: [f64; 3],
    /// Cost deciles 10, 50 and 100 %.
    costs: [f64; 3],
    /// Episodes of cost at most 10, 20, 40, and the best return among them.
    best: [(usize, f64); 3],
    /// Checksums of observations, next_observations, actions, rewards and costs.
    sums: [u64; 5],
}

static EXPECTED: [Expected; 4] = [
    Expected {
        file: "SafetyBallCircle-v0-80-800.hdf5",
        dims: (160_000, 8, 2),
        episodes: 800,
        lengths: (200, 200.0, 200),
        ends: (0, 800),
        correlation: 0.356_321_335_433_451_7,
        returns: [6.548_718_260_717_578, 473.556_264_051_236_2, 962.696_752_607_822_4],
        costs: [5.9, 39.0, 80.0],
        best: [(145, 736.241_585_361_771_3), (235, 750.984_609_849_751), (407, 800.330_603_301_525_1)],
        sums: [
            0xb3ba_e556_ec95_20fa,
            0xa488_bc3e_57a5_6994,
            0xa4f8_1370_ce01_27a1,
            0x4720_7ace_5501_30ec,
            0xc748_da14_2a44_1600,
        ],
    },
    Expected {
        file: "SafetyCarRun-v0-40-650.hdf5",
        dims: (130_000, 7, 2),
        episodes: 650,
        lengths: (200, 200.0, 200),
        ends: (0, 650),
        correlation: 0.331_431_557_391_841,
        returns: [103.342_966_289_725_15, 448.387_726_166_518_4, 572.137_925_997_376_4],
        costs: [0.0, 0.0, 40.0],
        best: [(449, 566.031_491_228_612_1), (535, 566.269_615_732_133_4), (650, 572.137_925_997_376_4)],
        sums: [
            0x29ec_bfae_7607_54fc,
            0x2e56_7c7d_1e42_cbee,
            0x45a9_a525_17ca_4711,
            0xdab9_c266_4ae7_b431,
            0xfeec_208e_14e5_e860,
        ],
    },
    Expected {
        file: "SafetyHopperVelocityGymnasium-v1-250-300.hdf5",
        dims: (196_198, 11, 3),
        episodes: 300,
        lengths: (38, 740.0, 1000),
        ends: (174, 126),
        correlation: 0.231_892_920_257_329_77,
        returns: [29.660_437_463_714_05, 1_065.441_366_538_405_4, 1_648.198_092_401_027_7],
        costs: [10.8, 88.0, 250.0],
        best: [(30, 1_573.817_776_858_806_6), (47, 1_573.817_776_858_806_6), (76, 1_610.561_732_590_198_5)],
        sums: [
            0x368d_215d_e6ab_a216,
            0x2b7b_24cb_341b_4a16,
            0x9968_cf18_3a64_5896,
            0xd3c3_90e5_76d2_ac1f,
            0xb07e_76fb_a078_02be,
        ],
    },
    Expected {
        file: "SafetyPointGoal1Gymnasium-v0-100-165.hdf5",
        dims: (165_000, 60, 2),
        episodes: 165,
        lengths: (1000, 1000.0, 1000),
        ends: (0, 165),
        correlation: 0.128_469_378_156_765_82,
        returns: [0.418_809_173_803_879_3, 17.460_702_849_170_048, 25.521_449_807_851_24],
        costs: [0.0, 30.0, 99.0],
        best: [(41, 25.521_449_807_851_24), (64, 25.521_449_807_851_24), (105, 25.521_449_807_851_24)],
        sums: [
            0xa83f_ad7a_e0cf_b340,
            0xa599_7d45_a780_ab40,
            0x4d85_e989_a0be_bfe0,
            0xf39b_d5a8_e161_a06e,
            0x0f2c_be80_6220_f950,
        ],
    },
];

fn folder() -> PathBuf {
    match std::env::var_os("DRCORL_DATA_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
    }
}

/// Sum over (bits + 1) times odd multiples of the golden ratio, modulo 2^64: each value counts, at its place.
fn checksum(values: &[f32]) -> u64 {
    let term = |(i, v): (usize, &f32)| {
        let weight = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (u64::from(v.to_bits()) + 1).wrapping_mul(weight)
    };
    let terms = values.iter().enumerate().map(term);
    terms.fold(0, u64::wrapping_add)
}

fn assert_close(found: f64, expected: f64, what: &str) {
    let error = (found - expected).abs();
    assert!(error <= 1e-9 * expected.abs().max(1.0), "{what}: {found}, expected {expected}");
}

fn main() {
    let trials = EXPECTED.iter().map(|expected| {
        let path = folder().join(expected.file);
        let present = path.exists();
        let test = move || {
            if !present {
                return Err(Failed::from(format!("{} is absent", path.display())));
            }
            reads_as_with_h5py(expected, &path);
            Ok(())
        };
        Trial::test(expected.file, test).with_kind("as with h5py").with_ignored_flag(!present)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}

fn reads_as_with_h5py(expected: &Expected, path: &Path) {
    let options = ReadOptions { episode_length: Some(expected.lengths.2), ..ReadOptions::default() };
    let columns = read_dsrl_with(path, &options).unwrap();
    let sums = [&columns.observations, &columns.next_observations, &columns.actions, &columns.rewards, &columns.costs]
        .map(|column| checksum(column));
    assert_eq!(sums, expected.sums, "{}", expected.file);
    compare(expected, &columns.summary());
    let found: Vec<String> = check(&columns).iter().map(|f| format!("{} {}", f.code, f.place())).collect();
    let odd =
        if expected.file.contains("PointGoal1") { &["constant_observation observations[2,5,6,7,11]"][..] } else { &[] };
    assert_eq!(found, odd, "{}", expected.file);

    let shorter = ReadOptions { episode_length: Some(expected.lengths.2 - 1), ..ReadOptions::default() };
    assert!(read_dsrl_with(path, &shorter).is_err());
}

fn compare(expected: &Expected, summary: &Summary) {
    let file = expected.file;
    let dims = (summary.transitions, summary.obs_dim, summary.act_dim);
    assert_eq!(dims, expected.dims, "{file}");
    assert_eq!((summary.episodes, summary.incomplete_episodes), (expected.episodes, 0), "{file}");
    let lengths = summary.episode_length;
    assert_eq!((lengths.min, lengths.median, lengths.max), expected.lengths, "{file}");
    assert_eq!((summary.terminals, summary.timeouts), expected.ends, "{file}");
    assert!(summary.action_min.iter().all(|&v| v == -1.0), "{file}");
    assert!(summary.action_max.iter().all(|&v| v == 1.0), "{file}");
    assert_close(summary.return_cost_correlation.unwrap(), expected.correlation, file);
    for (decile, value) in [0, 5, 10].into_iter().zip(expected.returns) {
        assert_close(summary.return_deciles[decile], value, file);
    }
    for (decile, value) in [1, 5, 10].into_iter().zip(expected.costs) {
        assert_close(summary.cost_deciles[decile], value, file);
    }
    for (found, (episodes, best)) in summary.best_returns.iter().zip(expected.best) {
        assert_eq!(found.episodes, episodes, "{file}");
        assert_close(found.best_return.unwrap(), best, file);
    }
}
