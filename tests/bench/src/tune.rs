//! What settings change about plain Envoy's relay: each variant beside the shipped settings, in turn.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use redis_sentinel_tests::cluster::Cluster;
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::plain::to_node;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::tools;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contenders::{Contender, HAPROXY, PLAIN};
use crate::cpu::{self, Cell};
use crate::peers;
use crate::plan::Plan;
use crate::redis_benchmark::Load;

/// One variant of plain Envoy.
struct Variant {
    /// Its name.
    name: &'static str,
    /// What it is.
    what: &'static str,
    change: fn(Config) -> Result<Config>,
    /// Worker threads; 0 for as many as everybody has.
    workers: usize,
    /// Whether Envoy is started without `--disable-hot-restart`.
    hot_restart: bool,
}

const SAME: Variant = Variant {
    name: "",
    what: "",
    change: Ok,
    workers: 0,
    hot_restart: false,
};

/// The first row of the table.
pub const AGAIN: &str = "the same again";

const VARIANTS: &[Variant] = &[
    Variant {
        name: AGAIN,
        what: "nothing else: how far two equal ones differ",
        ..SAME
    },
    Variant {
        name: "buffers of 32 KiB",
        what: "`per_connection_buffer_limit_bytes: 32768` on both sides in place of 262144",
        change: |config| buffers(config, 32 << 10),
        ..SAME
    },
    Variant {
        name: "buffers of 1 MiB",
        what: "`per_connection_buffer_limit_bytes: 1048576` (Envoy's default)",
        change: |config| buffers(config, 1 << 20),
        ..SAME
    },
    Variant {
        name: "no socket options",
        what: "neither keepalive nor `TCP_USER_TIMEOUT`",
        change: no_socket_options,
        ..SAME
    },
    Variant {
        name: "socket buffers of 256 KiB",
        what: "`SO_RCVBUF` and `SO_SNDBUF` of the listener",
        change: socket_buffers,
        ..SAME
    },
    Variant {
        name: "exact balance",
        what: "`connection_balance_config: exact_balance`",
        change: |config| {
            listener(
                config,
                "connection_balance_config",
                json!({ "exact_balance": {} }),
            )
        },
        ..SAME
    },
    Variant {
        name: "one socket for all workers",
        what: "`enable_reuse_port: false`",
        change: |config| listener(config, "enable_reuse_port", json!(false)),
        ..SAME
    },
    Variant {
        name: "io_uring",
        what: "`default_socket_interface` with `io_uring_options`",
        change: io_uring,
        ..SAME
    },
    Variant {
        name: "no statistics",
        what: "`stats_config.stats_matcher.reject_all: true`",
        change: no_statistics,
        ..SAME
    },
    Variant {
        name: "no overload manager",
        what: "no `global_downstream_max_connections`",
        change: no_overload_manager,
        ..SAME
    },
    Variant {
        name: "hot restart",
        what: "without `--disable-hot-restart`, which all others have",
        hot_restart: true,
        ..SAME
    },
    Variant {
        name: "one worker",
        what: "`--concurrency 1` in place of 2",
        workers: 1,
        ..SAME
    },
];

/// A variant beside the shipped settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tuned {
    /// Its name; also the contender's name in the samples.
    pub name: String,
    /// What it is.
    pub what: String,
    /// Why it could not be measured, if so.
    pub failed: Option<String>,
    /// The shipped settings and the variant, in turn.
    pub cells: Vec<Cell>,
}

/// Measures them, and HAProxy as the aim.
pub fn measure(plan: &Plan) -> Result<Vec<Tuned>> {
    let mut ports = PortBlock::claim()?;
    let cluster = Cluster::start(&mut ports, 1, 1)?;
    let node = cluster.redis.first().context("no Redis")?.port;
    let (plain, _envoy, _ports) = start(&cluster, &SAME, plan.workers)?;
    let mut tuned = vec![];
    for variant in VARIANTS {
        let mut entry = Tuned {
            name: variant.name.to_owned(),
            what: variant.what.to_owned(),
            failed: None,
            cells: vec![],
        };
        eprintln!("tune: {}", variant.name);
        match start(&cluster, variant, plan.workers) {
            Ok((contender, envoy, _ports)) => {
                entry.cells = cells(&[plain.clone(), contender], plan)?;
                drop(envoy);
            }
            Err(error) => entry.failed = Some(first_line(&error)),
        }
        tuned.push(entry);
    }
    eprintln!("tune: HAProxy");
    let peer = peers::haproxy(&mut ports, &[node], plan.workers, cluster.scratch.path())?;
    let haproxy = Contender {
        name: HAPROXY,
        port: peer.port,
        pids: vec![peer.process.pid()],
    };
    tuned.push(Tuned {
        name: HAPROXY.to_owned(),
        what: "for comparison".to_owned(),
        failed: None,
        cells: cells(&[plain, haproxy], plan)?,
    });
    Ok(tuned)
}

fn cells(pair: &[Contender], plan: &Plan) -> Result<Vec<Cell>> {
    let mut cells = vec![];
    for (pipeline, size) in [(1, 64), (16, 64)] {
        let load = Load {
            command: "set",
            size,
            pipeline,
            clients: 50,
            requests: 50 * pipeline * 2,
        };
        let load = cpu::sized(load, pair, plan.cpu_time / 2)?;
        cells.push(Cell {
            command: load.command.to_owned(),
            size,
            pipeline,
            clients: load.clients,
            requests: load.requests,
            samples: cpu::rounds_of(&load, pair, plan.tune_rounds)?,
        });
    }
    Ok(cells)
}

fn start(
    cluster: &Cluster,
    variant: &Variant,
    workers: usize,
) -> Result<(Contender, Envoy, PortBlock)> {
    let mut ports = PortBlock::claim()?;
    let node = cluster.redis.first().context("no Redis")?.port;
    let shipped = Config::from_shipped("envoy/redis.yaml", &mut ports)?;
    let mut config = (variant.change)(to_node(shipped, node)?)?;
    let name = if variant.name.is_empty() {
        PLAIN
    } else {
        variant.name
    };
    let dir = cluster.scratch.file(&name.replace(' ', "-"));
    fs::create_dir_all(&dir)?;
    let port = config.port("redis")?;
    let workers = if variant.workers == 0 {
        workers
    } else {
        variant.workers
    };
    let mut envoy = Envoy::start_by(config, &dir, |command| {
        restarted(&command, variant, workers)
    })?;
    let contender = Contender {
        name,
        port,
        pids: vec![envoy.process().pid()],
    };
    Ok((contender, envoy, ports))
}

/// The same command with the variant's arguments.
fn restarted(command: &Command, variant: &Variant, workers: usize) -> Command {
    let mut changed = Command::new(command.get_program());
    changed.current_dir(tools::root());
    let mut arguments = command.get_args();
    while let Some(argument) = arguments.next() {
        if argument == "--concurrency" {
            arguments.next();
            changed.args(["--concurrency", &workers.to_string()]);
        } else if argument == "--disable-hot-restart" && variant.hot_restart {
            changed.arg("--use-dynamic-base-id");
        } else {
            changed.arg(argument);
        }
    }
    changed
}

/// The line that says why.
fn first_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let telling = text
        .lines()
        .find(|line| line.contains("critical") || line.contains("error"));
    let line = telling.or_else(|| text.lines().next()).unwrap_or_default();
    line.chars().take(300).collect()
}

fn listener(mut config: Config, field: &str, value: Value) -> Result<Config> {
    config.item("listeners", "redis")?[field] = value;
    Ok(config)
}

fn buffers(mut config: Config, bytes: usize) -> Result<Config> {
    config.item("clusters", "redis")?["per_connection_buffer_limit_bytes"] = json!(bytes);
    listener(config, "per_connection_buffer_limit_bytes", json!(bytes))
}

fn no_socket_options(mut config: Config) -> Result<Config> {
    let cluster = config.item("clusters", "redis")?;
    let cluster = cluster.as_object_mut().context("cluster redis")?;
    cluster.remove("upstream_connection_options");
    cluster.remove("upstream_bind_config");
    listener(config, "socket_options", json!([]))
}

fn socket_buffers(config: Config) -> Result<Config> {
    let option = |name: u8| json!({ "level": 1, "name": name, "int_value": 262_144, "state": "STATE_PREBIND" });
    let (sndbuf, rcvbuf) = (7, 8);
    listener(
        config,
        "socket_options",
        json!([option(sndbuf), option(rcvbuf)]),
    )
}

fn io_uring(mut config: Config) -> Result<Config> {
    let name = "envoy.extensions.network.socket_interface.default_socket_interface";
    let json = config.json();
    json["default_socket_interface"] = json!(name);
    json["bootstrap_extensions"] = json!([{
        "name": name,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.network.socket_interface.v3.DefaultSocketInterface",
            "io_uring_options": {},
        },
    }]);
    Ok(config)
}

fn no_statistics(mut config: Config) -> Result<Config> {
    config.json()["stats_config"] = json!({ "stats_matcher": { "reject_all": true } });
    Ok(config)
}

fn no_overload_manager(mut config: Config) -> Result<Config> {
    let json = config.json().as_object_mut().context("no object")?;
    json.remove("overload_manager");
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_changes_the_arguments_that_it_means() {
        let mut command = Command::new("envoy");
        command.args([
            "-c",
            "a",
            "--disable-hot-restart",
            "--concurrency",
            "2",
            "--log-level",
            "info",
        ]);
        let arguments = |variant, workers| -> Vec<String> {
            let changed = restarted(&command, variant, workers);
            changed
                .get_args()
                .map(|text| text.to_string_lossy().into_owned())
                .collect()
        };
        let same = arguments(&SAME, 2);
        assert_eq!(
            same,
            [
                "-c",
                "a",
                "--disable-hot-restart",
                "--concurrency",
                "2",
                "--log-level",
                "info"
            ]
        );
        let hot = Variant {
            hot_restart: true,
            ..SAME
        };
        let changed = arguments(&hot, 1);
        assert_eq!(
            changed,
            [
                "-c",
                "a",
                "--use-dynamic-base-id",
                "--concurrency",
                "1",
                "--log-level",
                "info"
            ]
        );
    }
}
