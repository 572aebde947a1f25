//! `make failover`: what a live client of a running `make run` sees while its master goes away.

mod table;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis_sentinel_tests::events::Events;
use redis_sentinel_tests::fault::Fault;
use redis_sentinel_tests::outcome::Outcome;
use redis_sentinel_tests::sentinel::MASTER;
use redis_sentinel_tests::state::{State, is_process};
use redis_sentinel_tests::workload::{Plan, Workload};
use redis_sentinel_tests::{redis, wait};

use crate::table::Table;

const PROXY: u16 = 6379;
const SENTINELS: [u16; 3] = [26379, 26380, 26381];
const SECOND: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match failover() {
        Err(error) if !wait::interrupted() => {
            eprintln!("make failover: {error:#}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn failover() -> Result<()> {
    let how = std::env::args()
        .nth(1)
        .unwrap_or_else(|| Fault::Kill.to_string())
        .parse()?;
    ctrlc::set_handler(wait::interrupt)?;
    let state = State::of_running().context("start `make run` in another terminal first")?;
    let old = settled_master()?;
    let events = Events::of(&SENTINELS)?;
    println!(
        "One client writes through 127.0.0.1:{PROXY} (INCR, one after the other), reconnecting whenever it must.\n"
    );
    let pause = Duration::from_millis(1);
    let client = Workload::start(Plan {
        port: PROXY,
        clients: 1,
        pause,
        timeout: 10 * SECOND,
    })?;
    let mut table = Table::begin();
    table.show_until(&client, |elapsed| elapsed >= 2 * SECOND);
    let begun = Instant::now();
    let hung = strike(how, &state, old)?;
    let end = table.show_until(&client, |elapsed| {
        let writes_again = !client.all_write_to(old);
        (writes_again && elapsed > 5 * SECOND) || elapsed > 60 * SECOND
    });
    table.show_until(&client, |elapsed| elapsed >= end + SECOND);
    let records = client.stop();
    let promoted = events
        .first("+promoted-slave", begun)
        .context("no Sentinel promoted a replica")?
        .at;
    let new = records[0].acks.last().map_or(old, |ack| ack.node);
    println!(
        "\n{}",
        summary(&Outcome::of(&records, begun, promoted, new)?)
    );
    drop(hung);
    if how == Fault::Kill && !wait::interrupted() {
        println!("\n`make run` starts the killed node again; waiting for it ...");
    }
    // Not always the one of before: on a busy machine two Sentinels may lead a failover each, one right after the other.
    let mut last = None;
    wait::until_true("all nodes to follow one master", 60 * SECOND, || {
        last = settled_master().ok();
        last.is_some_and(|master| master != old)
    })?;
    let last = last.unwrap_or(new);
    if last != new {
        println!("\nSentinel has failed over once more: the master is 127.0.0.1:{last} now.");
    }
    println!(
        "\n127.0.0.1:{old} follows the new master, 127.0.0.1:{last}. Once more? make failover"
    );
    redis::call(last, &["DEL", "counter:0"]).map(drop)
}

/// The master's port, when all is well: two replicas follow the node that the Sentinels name.
fn settled_master() -> Result<u16> {
    let named = |sentinel| redis::call(sentinel, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
    let master = named(SENTINELS[0])?
        .items()
        .get(1)
        .and_then(|port| port.text()?.parse().ok())
        .context("no master")?;
    let role = redis::call(master, &["ROLE"])?;
    let replicas = role
        .items()
        .get(2)
        .map_or(0, |replicas| replicas.items().len());
    if replicas < 2 {
        bail!(
            "the last failover is not over yet ({replicas} of 2 replicas follow the master); try again in some seconds"
        );
    }
    Ok(master)
}

/// Continues a process that was stopped, whichever way we end.
struct Hung(Pid);

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

fn strike(how: Fault, state: &State, master: u16) -> Result<Option<Hung>> {
    // Only ever a process that `make run` started.
    let pid = *state
        .redis
        .get(&master)
        .with_context(|| format!("`make run` did not start the master on {master}"))?;
    if !is_process(pid, "redis-server") {
        bail!("process {pid}, which was the master on {master}, is gone");
    }
    let process = Pid::from_raw(i32::try_from(pid)?);
    Ok(match how {
        Fault::Kill => {
            kill(process, Signal::SIGKILL)?;
            println!("      kill -9 {pid}: the master, 127.0.0.1:{master}");
            None
        }
        Fault::Hang => {
            let hung = Hung(process);
            kill(process, Signal::SIGSTOP)?;
            println!("      kill -STOP {pid}: the master, 127.0.0.1:{master}, hangs");
            Some(hung)
        }
        Fault::Planned => {
            redis::call(SENTINELS[0], &["SENTINEL", "FAILOVER", MASTER])?;
            println!("      SENTINEL FAILOVER {MASTER}: away from 127.0.0.1:{master}");
            None
        }
    })
}

fn summary(outcome: &Outcome) -> String {
    let ms = |duration: Duration| duration.as_millis();
    format!(
        "Silent for {} ms: {} ms until Sentinel had promoted a replica, {} ms from there to the first acknowledged write.\n\
         Connections refused: {}. Error replies: {}. Closes: {}. Acknowledged writes that the new master lacks: {}.",
        ms(outcome.silence),
        ms(outcome.sentinel),
        ms(outcome.ours),
        outcome.refused,
        outcome.errors.len(),
        outcome.closes,
        outcome.lost,
    )
}
