//! The commands that need no cluster, run as they stand beside a `make run` of their own: in a network namespace, where the
//! ports that `make run` uses are free.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use redis_sentinel_tests::process::Process;
use redis_sentinel_tests::scratch::Scratch;
use redis_sentinel_tests::state::State;
use redis_sentinel_tests::{tools, wait};

use crate::shell::{Block, Class, PAGES, blocks, class};

/// What Redis and Sentinel answer when they do not do what they are told; redis-cli ends well all the same.
const ERRORS: [&str; 9] = [
    "ERR ",
    "NOAUTH",
    "NOPERM",
    "WRONGPASS",
    "INPROG",
    "NOGOODSLAVE",
    "NOQUORUM",
    "MASTERDOWN",
    "READONLY",
];

/// A running `make run`.
struct System(Process);

impl System {
    fn start(scratch: &Scratch) -> Result<Self> {
        let run = recipe("make run")?;
        let mut command = Command::new("unshare");
        // No fork: the process that we hold is `run` itself, which loopback is brought up for.
        let script = format!("ip link set lo up && exec {run}");
        command.args(["--net", "sh", "-c", &script]);
        command.current_dir(tools::root());
        let system = Self(Process::start(&mut command, &scratch.file("run.log"))?);
        let up = wait::until_true("make run to be up", 2 * wait::LONG, || {
            system.0.log().contains("\nUp. ")
        });
        up.with_context(|| system.0.log())?;
        Ok(system)
    }

    /// Runs a script beside it; what it printed.
    fn run(&self, script: &str) -> Result<String> {
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        path.push(":");
        path.push(tools::root().join("target/tools/redis"));
        let pid = self.0.pid().to_string();
        let output = Command::new("nsenter")
            .args([
                "--target", &pid, "--net", "bash", "-euo", "pipefail", "-c", script,
            ])
            .env("PATH", path)
            .current_dir(tools::root())
            .output()
            .context("nsenter")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let problem = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{said}{problem}");
        ensure!(!said.trim().is_empty(), "it prints nothing: {problem}");
        let error = said
            .lines()
            .find(|line| ERRORS.iter().any(|error| line.starts_with(error)));
        ensure!(error.is_none(), "{said}");
        Ok(said)
    }

    /// Ctrl-C.
    fn stop(mut self) -> Result<()> {
        self.0.signal(Signal::SIGINT)?;
        wait::until_true("make run to end", wait::LONG, || self.0.exited().is_some())
    }
}

/// What `make` would run at last for this command, after it has built what there is already.
fn recipe(command: &str) -> Result<String> {
    let words = command.split_whitespace().skip(1);
    let output = Command::new("make")
        .arg("-n")
        .args(words)
        .current_dir(tools::root())
        // This test may run below a make of its own, which would have this one tell where it is.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .output()
        .context("make")?;
    let said = String::from_utf8(output.stdout)?;
    let last = said.lines().last().context("an empty recipe")?;
    Ok(last.trim_start_matches('@').to_owned())
}

/// What of a block is typed beside a running system.
fn script(block: &Block, done: &mut BTreeSet<String>) -> Result<String> {
    let mut lines = Vec::new();
    for command in &block.commands {
        match class(command) {
            Class::Local => lines.push(command.clone()),
            // Each target once: it takes seconds. The system itself was started by the recipe of `make run`.
            Class::Make if command != "make run" && done.insert(command.clone()) => {
                lines.push(recipe(command)?);
            }
            _ => {}
        }
    }
    Ok(lines.join("\n"))
}

#[test]
fn every_local_command_does_what_it_is_for() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: the commands of the pages need root here, for a network of their own");
        return Ok(());
    }
    if State::of_running().is_some() {
        eprintln!("SKIPPED: a `make run` is up, which this would disturb");
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let system = System::start(&scratch)?;
    let (mut done, mut tried) = (BTreeSet::new(), 0);
    for block in PAGES.iter().flat_map(|page| blocks(page)) {
        let script = script(&block, &mut done)?;
        if script.is_empty() {
            continue;
        }
        tried += 1;
        // What a failover before it has left may not be over.
        let mut problem = None;
        let fine = wait::until_true("the commands", wait::LONG, || {
            problem = system.run(&script).err();
            problem.is_none()
        });
        fine.with_context(|| format!("{}:\n{script}\n{problem:?}", block.page))?;
    }
    assert!(tried > 20, "only {tried} blocks were tried");
    // "The value is still there", says the first page, after the master was killed.
    assert!(done.contains("make failover"), "no failover was seen");
    assert_eq!(system.run("redis-cli get greeting")?.trim(), "hello");
    assert!(system.0.log().contains(": master is 127.0.0.1:"));
    system.stop()?;
    let state = tools::root().join("target/run/state.json");
    assert!(
        !Path::new(&state).exists(),
        "make run leaves its state behind"
    );
    Ok(())
}
