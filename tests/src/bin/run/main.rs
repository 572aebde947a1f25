//! `make run`: three Redis, three Sentinels and Envoy with the shipped configuration, in the foreground.

mod preflight;

use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use redis_sentinel_tests::cluster::Cluster;
use redis_sentinel_tests::envoy::get;
use redis_sentinel_tests::process::Process;
use redis_sentinel_tests::state::{State, is_process};
use redis_sentinel_tests::tail::Tail;
use redis_sentinel_tests::{tools, wait};

const REDIS: [u16; 3] = [7001, 7002, 7003];
const SENTINELS: [u16; 3] = [26379, 26380, 26381];
/// The master, the replicas, Envoy's admin interface, /ready.
const ENVOY: [u16; 4] = [6379, 6380, 9901, 9902];

fn main() -> ExitCode {
    match run() {
        Err(error) if !wait::interrupted() => {
            eprintln!("make run: {error:#}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn run() -> Result<()> {
    // Ends every wait below; what was started so far is stopped on the way out.
    ctrlc::set_handler(wait::interrupt)?;
    preflight::check(REDIS.into_iter().chain(SENTINELS).chain(ENVOY))?;
    println!("Starting Redis on 7001, 7002, 7003 and Sentinels on 26379, 26380, 26381 ...");
    let mut cluster = Cluster::start_on(&REDIS, &SENTINELS)?;
    let _state = StateFile;
    save_state(&mut cluster)?;
    println!("Starting Envoy with envoy/redis.yaml ...");
    let mut envoy = start_envoy(&cluster)?;
    let mut log = Tail::of(&cluster.scratch.file("envoy.log"));
    wait_until_ready(&mut envoy, &mut log)?;
    say_what_to_type();
    let mut dead_since = None;
    while !wait::interrupted() {
        sleep(Duration::from_millis(50));
        log.show();
        if let Some(status) = envoy.exited() {
            bail!("Envoy ended ({status}):\n{}", last_lines(&envoy.log(), 20));
        }
        bring_back(&mut cluster, &mut dead_since)?;
    }
    println!("\nStopping everything.");
    // The clients' connections first: Envoy would otherwise report a failover of the nodes that we take away.
    drop(envoy);
    Ok(())
}

fn start_envoy(cluster: &Cluster) -> Result<Process> {
    let mut command = Command::new(tools::envoy());
    // Only the module's own lines, and warnings of the rest. Hot restart would share memory with other Envoys here.
    command.args([
        "-c",
        "envoy/redis.yaml",
        "--concurrency",
        "2",
        "--disable-hot-restart",
        "--log-format",
        "%l %v",
    ]);
    command.args([
        "--log-level",
        "warning",
        "--component-log-level",
        "wasm:info",
    ]);
    Process::start(
        command.current_dir(tools::root()),
        &cluster.scratch.file("envoy.log"),
    )
}

fn wait_until_ready(envoy: &mut Process, log: &mut Tail) -> Result<()> {
    wait::until_true("Envoy to know the master", wait::LONG, || {
        log.show();
        envoy.exited().is_some() || get(9902, "/ready").is_ok_and(|(status, _)| status == 200)
    })
    .with_context(|| last_lines(&envoy.log(), 20))?;
    if let Some(status) = envoy.exited() {
        bail!(
            "Envoy ended at once ({status}):\n{}",
            last_lines(&envoy.log(), 20)
        );
    }
    Ok(())
}

fn say_what_to_type() {
    println!(
        "
Up. Redis through Envoy: 127.0.0.1:6379 is the master, 127.0.0.1:6380 the replicas. In another terminal:

    redis-cli set k v                  answered by the master, whichever that is
    redis-cli -p 6380 get k            answered by a replica
    make failover                      kills the master under a live client (HOW=hang, HOW=planned: the other ways)
    curl -i 127.0.0.1:9902/ready       200 while a master is known
    curl -s 127.0.0.1:9901/stats       Envoy's numbers

Ctrl-C stops everything. What the proxy learns from the Sentinels:
"
    );
}

/// A Redis that died is started again, as a replica, once the others go on without it: `make failover` can be repeated.
fn bring_back(cluster: &mut Cluster, dead_since: &mut Option<Instant>) -> Result<()> {
    let Some(port) = cluster
        .redis
        .iter_mut()
        .find_map(|node| node.process().exited().map(|_| node.port))
    else {
        *dead_since = None;
        return Ok(());
    };
    let since = *dead_since.get_or_insert_with(Instant::now);
    // Long enough for a client's view of the failover to be complete before another node joins.
    let Some(master) = cluster.master().filter(|master| *master != port) else {
        return Ok(());
    };
    if since.elapsed() > Duration::from_secs(6) {
        cluster.node(port)?.restart(Some(master))?;
        println!(
            "Redis 127.0.0.1:{port} had died and runs again, as a replica of 127.0.0.1:{master}"
        );
        save_state(cluster)?;
    }
    Ok(())
}

fn save_state(cluster: &mut Cluster) -> Result<()> {
    let dir = cluster.scratch.path().to_owned();
    let redis = cluster
        .redis
        .iter_mut()
        .map(|node| (node.port, node.process().pid()))
        .collect();
    let state = State {
        run: std::process::id(),
        dir,
        redis,
    };
    debug_assert!(
        is_process(state.run, "run"),
        "`make failover` looks for this name"
    );
    state.save()
}

/// Removed whichever way `run` ends.
struct StateFile;

impl Drop for StateFile {
    fn drop(&mut self) {
        State::remove();
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
