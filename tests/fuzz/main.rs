//! The built module under the wasmtime host, led by bytes: connections, failovers, hostile bytes, callbacks in orders that
//! Envoy does not have, shared data overwritten, listeners replaced. No order of them traps it, lets its memory or its
//! queues grow, or keeps it from finding the master once everything is well again.
//!
//! `make test` replays `corpus/` and goes on for some seconds, the same way every time; `FUZZ_SECONDS=3600` for longer.
//! What leads to a log line or a metric that was not seen before is built upon: a poor man's coverage.

#[path = "../tests/wasm/failover.rs"]
#[allow(dead_code)]
mod failover;
mod run;
#[path = "../tests/wasm/site.rs"]
#[allow(dead_code)]
mod site;

use std::{
    collections::BTreeSet,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    time::{Duration, Instant},
};

/// Longest input: each byte is about half a decision.
const LONGEST: usize = 240;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound.max(1)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.below(256) as u8).collect()
    }
}

fn attempt(what: &str, input: &[u8]) -> BTreeSet<String> {
    match catch_unwind(AssertUnwindSafe(|| run::run(input))) {
        Ok(seen) => seen,
        Err(panic) => {
            let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("{what}: again with FUZZ_INPUT={hex}");
            resume_unwind(panic)
        }
    }
}

/// A copy with changes, parts of two, or something new.
fn changed(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    if inputs.is_empty() || random.below(8) == 0 {
        let length = 20 + random.below(LONGEST - 20);
        return random.bytes(length);
    }
    let mut input = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(3) {
        let at = random.below(input.len() + 1);
        match random.below(4) {
            0 => {
                let length = random.below(12);
                let bytes = random.bytes(length);
                drop(input.splice(at..at, bytes));
            }
            1 if at < input.len() => input[at] = random.below(256) as u8,
            2 => {
                let other = &inputs[random.below(inputs.len())];
                let from = random.below(other.len() + 1);
                let part = other[from..].to_vec();
                drop(input.splice(at.., part));
            }
            _ => drop(input.splice(at..(at + random.below(8)).min(input.len()), [])),
        }
    }
    input.truncate(LONGEST);
    input
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
    (0..text.len() / 2).map(|n| byte(n * 2)).collect()
}

#[test]
fn no_order_of_anything_breaks_the_module() {
    if let Ok(hex) = env::var("FUZZ_INPUT") {
        run::run(&unhex(&hex));
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort_unstable();
    let (mut inputs, mut seen) = (Vec::new(), BTreeSet::new());
    for file in &files {
        let input = unhex(fs::read_to_string(file).expect("a file").trim());
        seen.extend(attempt(&file.display().to_string(), &input));
        inputs.push(input);
    }
    let seconds = env::var("FUZZ_SECONDS").map_or(4, |text| text.parse().expect("seconds"));
    let (begun, mut runs) = (Instant::now(), 0_u64);
    let mut random =
        Random(env::var("FUZZ_SEED").map_or(1, |text| text.parse().expect("a seed")) | 1);
    let kept = env::var_os("FUZZ_KEEP");
    while begun.elapsed() < Duration::from_secs(seconds) {
        let input = changed(&inputs, &mut random);
        let new = attempt("changed", &input);
        runs += 1;
        if !new.is_subset(&seen) {
            seen.extend(new);
            if let Some(kept) = &kept {
                let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
                fs::write(Path::new(kept).join(format!("{:04}", seen.len())), hex)
                    .expect("written");
            }
            inputs.push(input);
        }
    }
    println!(
        "{} files, {runs} runs, {} lines and metrics seen",
        files.len(),
        seen.len()
    );
}
