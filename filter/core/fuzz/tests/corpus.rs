//! Replays every target's corpus, then tries changed copies of it for a moment: what `make fuzz` does for hours, on any
//! toolchain. `FUZZ_SECONDS=60` takes longer.

use redis_sentinel_fuzz::TARGETS;
use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Longest input that is tried.
const LONGEST: usize = 4096;

/// xorshift64*: the same inputs in every run, as far as the time allows.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound.max(1)
    }
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort_unstable();
    let read = |path: PathBuf| (path.clone(), fs::read(path).expect("a file"));
    files.into_iter().map(read).collect()
}

/// A copy with a few changes, or parts of two.
fn changed(inputs: &[(PathBuf, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    let mut input = inputs[random.below(inputs.len())].1.clone();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        match random.below(6) {
            0 => input.truncate(at),
            1 if at < input.len() => input[at] ^= 1 << random.below(8),
            2 if at < input.len() => input[at] = random.below(256) as u8,
            3 => {
                let other = &inputs[random.below(inputs.len())].1;
                let from = random.below(other.len() + 1);
                let part = &other[from..(from + random.below(64)).min(other.len())];
                drop(input.splice(at..at, part.iter().copied()));
            }
            4 => {
                let end = (at + random.below(32)).min(input.len());
                let part = input[at..end].to_vec();
                drop(input.splice(at..at, part.repeat(1 + random.below(4))));
            }
            _ => drop(input.splice(at..(at + random.below(8)).min(input.len()), [])),
        }
    }
    input.truncate(LONGEST);
    input
}

fn attack(name: &str) {
    let (_, run) = TARGETS
        .iter()
        .find(|(target, _)| *target == name)
        .expect("a target");
    let inputs = corpus(name);
    assert!(!inputs.is_empty(), "no corpus");
    let attempt = |what: &str, input: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(input))) {
            eprintln!("{name}, {what}: {:?}", input.escape_ascii().to_string());
            resume_unwind(panic);
        }
    };
    for (path, input) in &inputs {
        attempt(&path.display().to_string(), input);
    }
    let seconds = env::var("FUZZ_SECONDS").map_or(1, |text| text.parse().expect("seconds"));
    let (begun, mut runs, mut random) = (Instant::now(), 0_u64, Random(0x9E37_79B9_7F4A_7C15));
    while begun.elapsed() < Duration::from_secs(seconds) {
        attempt("changed", &changed(&inputs, &mut random));
        runs += 1;
    }
    println!("{name}: {} files, {runs} changed copies", inputs.len());
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { attack(stringify!($name)); })*

        #[test]
        fn every_target_is_here() {
            assert_eq!([$(stringify!($name)),*], TARGETS.map(|(name, _)| name));
        }
    };
}

targets!(stream conversation event topology stored roster role configuration plugin admission);
