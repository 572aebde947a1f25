//! `make partitions`: every link and every half of a system cut, as a table.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use redis_sentinel_tests::partition::{CASES, Outcome, run};
use redis_sentinel_tests::{net, wait};

fn main() -> ExitCode {
    match partitions() {
        Err(error) => {
            eprintln!("partitions: {error:#}");
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
    }
}

/// `partitions [PART-OF-A-NAME]`
fn partitions() -> Result<()> {
    ctrlc::set_handler(wait::interrupt)?;
    ensure!(!net::missing(), "no network of our own can be made here");
    let wanted = std::env::args().nth(1).unwrap_or_default();
    println!("{}", Outcome::HEAD);
    for case in CASES.iter().filter(|case| case.name.contains(&wanted)) {
        println!("{}", run(case)?);
    }
    Ok(())
}
