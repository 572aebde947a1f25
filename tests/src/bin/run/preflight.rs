//! Whether `make run` may start at all.

use std::fs;

use anyhow::{Result, bail};
use redis_sentinel_tests::state::State;
use redis_sentinel_tests::{owner, ports};

/// Refuses to start beside another `make run`, or while any of `ports` is taken: nothing was changed by then.
pub fn check(ports: impl Iterator<Item = u16>) -> Result<()> {
    if let Some(state) = State::of_running() {
        bail!(
            "another `make run` is up (process {}); stop it with Ctrl-C there or: kill {}",
            state.run,
            state.run
        );
    }
    if let Some(state) = State::left_behind() {
        let ours = state
            .dir
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("redis-sentinel-"));
        if ours {
            let _ = fs::remove_dir_all(&state.dir); // of a run that was killed
        }
        State::remove();
    }
    let taken: Vec<_> = ports
        .filter(|port| !ports::is_free(*port))
        .map(describe)
        .collect();
    if !taken.is_empty() {
        bail!(
            "cannot start while these ports of 127.0.0.1 are taken; nothing was changed\n  {}",
            taken.join("\n  ")
        );
    }
    Ok(())
}

fn describe(port: u16) -> String {
    match owner::of_port(port) {
        Some((pid, name)) if name.starts_with("redis") => format!(
            "{port}: {name}, process {pid} (a service of the system: sudo systemctl stop {name}; otherwise: kill {pid})"
        ),
        Some((pid, name)) => format!("{port}: {name}, process {pid}"),
        None => {
            format!("{port}: a process that you may not see; try: sudo ss -ltnp 'sport = :{port}'")
        }
    }
}
