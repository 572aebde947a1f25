//! What SECURITY.md says of those who mean harm, tried on the real thing.

use std::fs;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use redis_sentinel_tests::cluster::Cluster;
use redis_sentinel_tests::envoy::{Envoy, get};
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::resp::{Connection, Value};
use redis_sentinel_tests::secret::{MARK, password};
use redis_sentinel_tests::site::{Plan, Site};
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::{tools, wait};

const HELLO: &str = "__sentinel__:hello";
const NOBODY: u32 = 65_534;

/// What a Sentinel publishes: itself, and which master it follows by which epoch. Sentinels believe whoever publishes it.
fn hello(master: u16) -> String {
    format!(
        "127.0.0.1,26999,{:040x},99,mymaster,127.0.0.1,{master},99",
        1
    )
}

/// The Sentinels fall for it, the proxy does not: nobody may reach its admin interface through it.
#[test]
fn a_forged_hello_leads_nobody_to_the_admin_interface() -> Result<()> {
    let trial = Trial::start()?;
    let admin = trial.envoy.admin_port();
    let mut client = Connection::open(trial.envoy.port, wait::LONG)?;
    client.call(&["PUBLISH", HELLO, &hello(admin)])?;
    let named = || {
        trial
            .cluster
            .sentinels
            .iter()
            .any(|s| s.master() == Some(admin))
    };
    wait::until_true("a Sentinel to believe it", wait::LONG, named)?;
    let refused = || trial.envoy.log().contains("which is this proxy itself");
    // Until Sentinel has found out that nobody answers there as a Redis does.
    wait::until_true("another master", wait::LONG, || {
        let page = get(trial.envoy.port, "/memory");
        assert!(page.is_err(), "{page:?}");
        refused() && !named()
    })?;
    wait::until_true("a Redis again", wait::LONG, || trial.answers().is_ok())
}

/// The users that SECURITY.md recommends, with passwords that the harness would recognise in a log.
fn recommended_users() -> Result<String> {
    let page = fs::read_to_string(tools::root().join("SECURITY.md"))?;
    let lines = page.lines().filter(|line| line.starts_with("user "));
    let users = lines.map(|line| line.replace(" >", &format!(" >{MARK}-")) + "\n");
    Ok(users.collect())
}

/// What keeps the Sentinels from falling for it: applications that may not publish there.
#[test]
fn an_acl_keeps_applications_from_forging_a_hello() -> Result<()> {
    let mut ports = PortBlock::claim()?;
    let (app, sentinel, admin) = (
        password("app-password"),
        password("sentinel-password"),
        password("admin"),
    );
    let users = recommended_users()?;
    assert!(users.contains(&app) && users.contains(&sentinel), "{users}");
    let plan = Plan {
        redis: format!(
            "{users}user admin on >{admin} ~* allchannels +@all\nmasteruser admin\nmasterauth {admin}\n"
        ),
        redis_login: ["AUTH", "admin", &admin].map(str::to_owned).into(),
        per_master: vec![
            ("auth-user".into(), "sentinel".into()),
            ("auth-pass".into(), sentinel),
        ],
        ..Plan::default()
    };
    let mut site = Site::start(&mut ports, plan)?;
    let config =
        Config::from_shipped("envoy/redis.yaml", &mut ports)?.seeds(&site.sentinel_ports())?;
    let envoy = Envoy::start(config, site.scratch.path())?;
    envoy.wait_until_ready()?;
    let said = |words: &[&str]| -> Result<Value> {
        let mut client = Connection::open(envoy.port, wait::LONG)?;
        client.call(&["AUTH", "app", &app])?;
        Ok(client.call(words)?)
    };
    let reply = said(&["PUBLISH", HELLO, &hello(1)])?;
    assert!(
        matches!(&reply, Value::Error(text) if text.starts_with("NOPERM")),
        "{reply:?}"
    );
    assert_eq!(said(&["PUBLISH", "app:news", "x"])?, Value::Int(0));
    // The Sentinels' user has what a failover takes.
    let old = site.master("mymaster").context("no master")?;
    site.fail_over("mymaster")?;
    let new = site.wait_for_master_after("mymaster", old)?;
    wait::until_true("a write to the new master", wait::LONG, || {
        let written =
            said(&["SET", "k", "v"]).is_ok_and(|reply| reply.text().as_deref() == Some("OK"));
        let there = site.at(new).and_then(|node| node.call(&["GET", "k"]));
        written && there.is_ok_and(|value| value.text().as_deref() == Some("v"))
    })
}

/// Clients in any number take nothing from the heartbeats or from readiness.
#[test]
fn clients_at_the_limit_leave_the_watch_alone() -> Result<()> {
    const LIMIT: usize = 40;
    let trial = Trial::start_with(|config| {
        Ok(config.each(|object| {
            if let Some(limit) = object.get_mut("max_active_downstream_connections") {
                *limit = LIMIT.into();
            }
        }))
    })?;
    let old = trial.cluster.master().context("no master")?;
    let timeout = Duration::from_millis(500);
    let mut clients: Vec<_> = (0..3 * LIMIT)
        .filter_map(|_| Connection::open(trial.envoy.port, timeout).ok())
        .collect();
    let served = clients.iter_mut().filter_map(|c| c.call(&["PING"]).ok());
    let served = served.count();
    assert!(served > 0 && served <= LIMIT, "{served} were served");
    // Every conversation has to be opened anew while the clients are there.
    for sentinel in &trial.cluster.sentinels {
        for kind in ["normal", "pubsub"] {
            sentinel.call(&["CLIENT", "KILL", "TYPE", kind])?;
        }
    }
    let watched = || {
        trial
            .counter("sentinel_conversations_total")
            .unwrap_or_default()
    };
    let before = watched();
    wait::until_true("every Sentinel to be watched again", wait::LONG, || {
        watched() >= before + 3
    })?;
    assert_eq!(trial.envoy.ready_status(), Some(200));
    trial.cluster.fail_over()?;
    trial.cluster.wait_for_master_after(old)?;
    wait::until_true("the switch", wait::LONG, || {
        trial.envoy.log().contains("+promoted-slave")
    })?;
    let refused = trial.envoy.stats("downstream_global_cx_overflow")?;
    let (at_redis, elsewhere): (Vec<_>, Vec<_>) = refused
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .partition(|(name, _)| name.contains(&trial.envoy.port.to_string()));
    assert!(at_redis.len() == 1 && elsewhere.is_empty(), "{elsewhere:?}");
    Ok(())
}

/// Any process of the network namespace can connect to an abstract socket. It learns nothing there, and nobody hears it.
#[test]
fn a_stranger_at_the_watch_is_neither_heard_nor_answered() -> Result<()> {
    let trial = Trial::start()?;
    let name = SocketAddr::from_abstract_name(format!("{}-watch-0", trial.ports.socket_prefix()))?;
    let mut heard = Vec::new();
    let set = "SENTINEL SET mymaster parallel-syncs 7
";
    for said in [set, ".", &format!(".{set}")] {
        let mut stranger = UnixStream::connect_addr(&name)?;
        stranger.set_read_timeout(Some(Duration::from_millis(100)))?;
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end && stranger.write_all(said.as_bytes()).is_ok() {
            let mut bytes = [0; 4096];
            match stranger.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => heard.extend_from_slice(&bytes[..count]),
                Err(_) => {}
            }
        }
    }
    let words = String::from_utf8_lossy(&heard).into_owned();
    assert!(words.bytes().all(|byte| byte == b'.'), "{words}");
    for sentinel in &trial.cluster.sentinels {
        let syncs = sentinel.master_field("parallel-syncs");
        assert_eq!(syncs.as_deref(), Some("1"), "a Sentinel heard the stranger");
    }
    wait::until_true("every Sentinel to be watched", wait::LONG, || {
        trial
            .counter("sentinel_conversations_total")
            .is_ok_and(|n| n >= 3)
    })
}

/// Where others share the network namespace the sockets may be files, which have an owner.
#[test]
fn sockets_can_be_files_that_only_envoy_may_open() -> Result<()> {
    let mut ports = PortBlock::claim()?;
    let prefix = format!("@{}-", ports.socket_prefix());
    let cluster = Cluster::start(&mut ports, 3, 3)?;
    let dir = cluster.scratch.file("sockets");
    fs::create_dir(&dir)?;
    let abstract_name = format!("{}-watch-0", ports.socket_prefix());
    let config = |ports: &mut PortBlock| {
        Config::from_shipped("envoy/redis.yaml", ports)?.seeds(&cluster.sentinel_ports())
    };
    let as_files = config(&mut ports)?.each(|object| {
        let path = object.get_mut("path").filter(|path| path.is_string());
        if let Some(path) = path {
            let name = path.as_str().and_then(|path| path.strip_prefix(&prefix));
            if let Some(name) = name {
                *path = dir.join(name).display().to_string().into();
            }
        }
    });
    // Whoever gets as far as the directory is stopped by the sockets themselves.
    for open in [cluster.scratch.path(), &dir] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o755))?;
    }
    let envoy = Envoy::start(as_files, cluster.scratch.path())?;
    envoy.wait_until_ready()?;
    let socket = dir.join("watch-0").display().to_string();
    let old = cluster.master().context("no master")?;
    cluster.fail_over()?;
    cluster.wait_for_master_after(old)?;
    wait::until_true("the switch", wait::LONG, || {
        envoy.log().contains("+promoted-slave")
    })?;
    if !nix::unistd::geteuid().is_root() {
        println!("NOT TRIED without root: another user at the sockets");
        return Ok(());
    }
    assert!(!connects(&socket)?, "anybody may connect to {socket}");
    drop(envoy);
    let envoy = Envoy::start(config(&mut ports)?, cluster.scratch.path())?;
    envoy.wait_until_ready()?;
    assert!(connects(&format!("\\0{abstract_name}"))?, "the look itself");
    Ok(())
}

/// Whether a process of another user may connect to this socket.
fn connects(socket: &str) -> Result<bool> {
    let program = format!("import socket; socket.socket(socket.AF_UNIX).connect('{socket}')");
    let status = Command::new("python3")
        .args(["-c", &program])
        .uid(NOBODY)
        .current_dir("/")
        .stderr(std::process::Stdio::null())
        .status()?;
    Ok(status.success())
}
