//! `make picture`: docs/failover.svg, what clients see of a planned failover and of a kill. Drawn from two real runs.

mod svg;

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use redis_sentinel_tests::fault::Fault;
use redis_sentinel_tests::outcome::Outcome;
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::workload::Ack;
use redis_sentinel_tests::{tools, wait};

use svg::{Bar, Mark, Panel};

const CLIENTS: usize = 50;
/// What is shown of the time before and after the fault.
const BEFORE: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_secs(4);
/// Writes are counted in steps of so long: what one client takes from one write to the next, or the picture would flicker.
const STEP: Duration = Duration::from_millis(40);

fn main() -> Result<()> {
    ctrlc::set_handler(wait::interrupt)?;
    let panels = [Fault::Planned, Fault::Kill].map(watch);
    let [planned, kill] = panels;
    let file = tools::root().join("docs/failover.svg");
    fs::write(&file, svg::draw(&[planned?, kill?]))?;
    println!("docs/failover.svg: drawn anew");
    Ok(())
}

/// One failover under load.
fn watch(fault: Fault) -> Result<Panel> {
    let mut trial = Trial::start()?;
    let old = trial.cluster.master().context("no master")?;
    let load = trial.load(CLIENTS)?;
    wait::until_true("every client to write", wait::LONG, || {
        load.all_write_to(old)
    })?;
    std::thread::sleep(2 * BEFORE); // what is shown of the time before
    let begun = Instant::now();
    trial.strike(fault, old)?;
    let promoted = trial.events.wait_for("+promoted-slave", begun)?.at;
    let new = trial.cluster.wait_for_master_after(old)?;
    wait::until_true("every client to write again", wait::LONG, || {
        load.all_write_to(new)
    })?;
    std::thread::sleep(AFTER); // what is shown of the time after
    let records = load.stop();
    let outcome = Outcome::of(&records, begun, promoted, new)?;
    eprintln!("{fault}: {outcome}");
    ensure!(outcome.is_transparent(), "no picture of that: {outcome}");

    let second = |at: Instant| match at.checked_duration_since(begun) {
        Some(after) => after.as_secs_f64(),
        None => -begun.duration_since(at).as_secs_f64(),
    };
    let step = STEP.as_secs_f64();
    let mut bars: Vec<Bar> = Vec::new();
    let mut from = -BEFORE.as_secs_f64();
    while from < AFTER.as_secs_f64() {
        let acks = records.iter().flat_map(|record| &record.acks);
        let here = acks.filter(|ack| (from..from + step).contains(&second(ack.at)));
        let (of_old, of_new): (Vec<&Ack>, Vec<&Ack>) = here.partition(|ack| ack.node == old);
        let rate = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / step;
        bars.push(Bar {
            from,
            to: from + step,
            old: rate(of_old.len()),
            new: rate(of_new.len()),
        });
        from += step;
    }
    let mut marks = vec![Mark {
        at: 0.0,
        text: match fault {
            Fault::Planned => "SENTINEL FAILOVER".to_owned(),
            _ => "kill -9".to_owned(),
        },
    }];
    for (name, text) in [
        ("+odown", "most Sentinels see it down: new clients wait"),
        ("+selected-slave", "a replica is chosen: the fence"),
        ("+promoted-slave", "it is the master: everybody goes on"),
    ] {
        if let Some(event) = trial.events.first(name, begun) {
            marks.push(Mark {
                at: second(event.at),
                text: text.to_owned(),
            });
        }
    }
    let ms = |time: Duration| time.as_millis();
    Ok(Panel {
        title: match fault {
            Fault::Planned => "A planned failover".to_owned(),
            _ => "The master is killed".to_owned(),
        },
        summary: format!(
            "silent for {} ms, {} of them Sentinel's · refused {} · error replies {} · closes per client {} · writes lost {}",
            ms(outcome.silence),
            ms(outcome.sentinel),
            outcome.refused,
            outcome.errors.len(),
            outcome.closes,
            outcome.lost
        ),
        bars,
        marks,
    })
}
