//! `make soak`: one trouble after the other, by chance and from a seed, under load; after each of them everything that is
//! promised is looked at.

mod links;
mod promises;
mod summary;
mod trouble;

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use redis_sentinel_tests::sentinel::Sentinel;
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;

use crate::links::Links;
use crate::promises::{Promises, Round};
use crate::summary::Summary;
use crate::trouble::{Chance, Trouble};

const MINUTES: u64 = 30;
const CLIENTS: usize = 20;

fn main() -> ExitCode {
    match soak() {
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
    }
}

/// `soak [MINUTES [SEED]]`
fn soak() -> Result<()> {
    ctrlc::set_handler(wait::interrupt)?;
    let mut arguments = std::env::args().skip(1);
    let minutes = match arguments.next() {
        Some(text) => text.parse().context("MINUTES is a number")?,
        None => MINUTES,
    };
    let seed = match arguments.next() {
        Some(text) => text.parse().context("SEED is a number")?,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let links = Links::own();
    println!(
        "{minutes} minutes, SEED={seed}, links can{} be cut\n",
        if links.is_some() { "" } else { "not" }
    );
    let mut trial = Trial::start()?;
    let mut promises = Promises::of(&mut trial)?;
    let (mut chance, mut summary) = (Chance::new(seed), Summary::default());
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(minutes * 60) && !wait::interrupted() {
        let trouble = Trouble::by(&mut chance, links.is_some());
        let number = summary.rounds() + 1;
        let what = || format!("round {number} ({trouble}) of SEED={seed}");
        let round = match round(&mut trial, &trouble, links.as_ref()) {
            Err(_) if wait::interrupted() => break,
            round => round.with_context(what).inspect_err(|_| tell_log(&trial))?,
        };
        println!(
            "{:>5} s  {number:>4}  {trouble}: {round}",
            begun.elapsed().as_secs()
        );
        let kept = promises.check(&trouble, &round, &mut trial);
        kept.with_context(what).inspect_err(|_| tell_log(&trial))?;
        summary.add(&trouble, round);
    }
    println!("\n{summary}\n{promises}");
    ensure!(!wait::interrupted(), "interrupted");
    Ok(())
}

/// One trouble, from a system in step to a system in step.
fn round(trial: &mut Trial, trouble: &Trouble, links: Option<&Links>) -> Result<Round> {
    // The promise is one of Sentinels that are heard: after all of them were away, that takes the module some tenths of a second.
    wait::until_true("every Sentinel to be watched", wait::LONG, || {
        trial.cluster.sentinels.iter().all(Sentinel::is_watched)
    })?;
    let old = trial.cluster.master().context("no master")?;
    let load = trial.load(CLIENTS)?;
    wait::until_true("every client to write", wait::LONG, || {
        load.all_write_to(old)
    })?;
    let begun = Instant::now();
    trouble.strike(trial, old, links)?;
    let mended = Instant::now();
    let back = wait::until(
        "every client to write to the master",
        2 * wait::LONG,
        || {
            let master = trial.cluster.master()?;
            let moved = !trouble.moves_the_master() || master != old;
            (moved && load.all_write_to(master)).then_some(master)
        },
    );
    let after = mended.elapsed();
    std::thread::sleep(Duration::from_secs(1)); // whatever still goes wrong now is part of it
    let records = load.stop();
    let master = back.with_context(|| format!("{:?}", promises::without_acks(&records)))?;
    let round = Round::judge(&records, begun, after, old, master)?;
    trouble.clean_up(trial, master)?;
    trial.settle()?;
    // On a busy machine the Sentinels may have gone on to another one since.
    let master = trial.cluster.master().context("no master")?;
    trial.cluster.wait_until_settled(master)?;
    Ok(round)
}

fn tell_log(trial: &Trial) {
    let log = trial.envoy.log();
    let lines: Vec<_> = log.lines().collect();
    eprintln!(
        "---- the end of Envoy's log\n{}",
        lines[lines.len().saturating_sub(60)..].join("\n")
    );
}
