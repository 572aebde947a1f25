//! Passwords: the Sentinels' and Redis' own are different ones, and each may be wrong.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::resp::{Connection, Value};
use redis_sentinel_tests::secret::{MARK, password};
use redis_sentinel_tests::server::Server;
use redis_sentinel_tests::site::{Plan, Site};
use redis_sentinel_tests::wait;
use serde_json::{Value as Json, json};

const PATIENT: Duration = Duration::from_secs(20);
const MASTER: &str = "mymaster";
/// The user of the Redis documentation's example for Sentinel clients: it may ask, and not `subscribe`.
const ENVOY: &str = "user envoy on >hush-asking resetchannels -@all +auth +client|getname +client|id +client|setname +command +hello +ping +role +sentinel|get-master-addr-by-name +sentinel|master +sentinel|myid +sentinel|replicas +sentinel|sentinels +sentinel|masters";

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Sentinels that know two users: one for themselves, one for the proxy; nobody else may speak.
fn sentinel_users() -> Plan {
    Plan {
        sentinel: format!(
            "user default off\nuser admin on >hush-admin allchannels +@all\n{ENVOY}\nsentinel sentinel-user admin\nsentinel sentinel-pass hush-admin\n"
        ),
        sentinel_login: words("AUTH admin hush-admin"),
        ..Plan::default()
    }
}

fn config(site: &Site, ports: &mut PortBlock) -> Result<Config> {
    Config::from_shipped("envoy/redis.yaml", ports)?.seeds(&site.sentinel_ports())
}

fn inline(user: &str, name: &str) -> Json {
    json!({ "username": user, "password": { "inline": password(name) } })
}

/// The node that answers, to a client with or without a login of its own.
fn node_of(port: u16, login: &[String]) -> Result<u16> {
    let mut connection = Connection::open(port, PATIENT)?;
    if !login.is_empty() {
        let reply = connection.call(login)?;
        ensure!(!matches!(reply, Value::Error(_)), "{reply:?}");
    }
    let reply = connection.call(&["CONFIG", "GET", "port"])?;
    let node = reply.field("port").with_context(|| format!("{reply:?}"))?;
    Ok(node.parse()?)
}

/// How many logins this Sentinel has refused: its ACL log joins equal ones and counts them.
fn refused_logins(sentinel: &Server) -> Result<u64> {
    let log = sentinel.call(&["ACL", "LOG"])?;
    let of_auth = |entry: &&Value| entry.field("reason").as_deref() == Some("auth");
    let counts = log.items().iter().filter(of_auth);
    Ok(counts
        .filter_map(|entry| entry.field("count")?.parse::<u64>().ok())
        .sum())
}

#[test]
fn an_acl_user_without_subscribe_is_followed_by_polls() -> Result<()> {
    let mut ports = PortBlock::claim()?;
    let mut site = Site::start(&mut ports, sentinel_users())?;
    let config = config(&site, &mut ports)?.plugin(
        "sentinel_watch",
        "credentials",
        &inline("envoy", "asking"),
    );
    let envoy = Envoy::start(config, site.scratch.path())?;
    envoy.wait_until_ready()?;
    let log = || envoy.log();
    wait::until_true("all three to be watched", wait::LONG, || {
        log().matches("by polls alone: NOPERM").count() >= 3
    })?;
    let old = site.master(MASTER).context("no master")?;
    wait::until_true("reads from a replica", PATIENT, || {
        node_of(envoy.replicas_port, &[]).is_ok_and(|node| node != old)
    })?;
    assert_eq!(node_of(envoy.port, &[])?, old);
    site.at(old)?.process().kill();
    let new = site.wait_for_master_after(MASTER, old)?;
    wait::until_true("the new master", Duration::from_secs(5), || {
        node_of(envoy.port, &[]).is_ok_and(|node| node == new)
    })?;
    for sentinel in &site.sentinels {
        assert_eq!(refused_logins(sentinel)?, 0);
    }
    Ok(())
}

#[test]
fn wrong_credentials_are_told_once_and_cause_no_storm() -> Result<()> {
    let mut ports = PortBlock::claim()?;
    let site = Site::start(&mut ports, sentinel_users())?;
    let config = config(&site, &mut ports)?.plugin(
        "sentinel_watch",
        "credentials",
        &inline("envoy", "guessing"),
    );
    let envoy = Envoy::start(config, site.scratch.path())?;
    wait::until_true("the refusal to be told", wait::LONG, || {
        envoy
            .log()
            .contains("it refuses the credentials: WRONGPASS")
    })?;
    let end = Instant::now() + Duration::from_secs(6);
    let mut refused = 0;
    while Instant::now() < end {
        refused = 0;
        for sentinel in &site.sentinels {
            refused += refused_logins(sentinel)?;
        }
        assert!(refused <= 6, "{refused} logins were tried");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(refused > 0);
    let lines = envoy.log();
    let lines = lines.matches("it refuses the credentials").count();
    assert!(lines <= 3, "{lines} lines for one problem");
    let failures = envoy.stats("sentinel_auth_failures_total")?;
    assert!(failures.values().sum::<u64>() > 0, "{failures:?}");
    assert_eq!(envoy.ready_status(), Some(503));
    // The one place that shows it, as the documentation says.
    let dump = envoy.admin("/config_dump")?;
    assert!(dump.contains(&password("guessing")));
    Ok(())
}

#[test]
fn passwords_from_the_environment_and_clients_with_their_own() -> Result<()> {
    let mut ports = PortBlock::claim()?;
    let plan = Plan {
        redis:
            "requirepass hush-apps\nmasterauth hush-apps\nuser probe on >hush-roles -@all +role\n"
                .into(),
        redis_login: words("AUTH hush-apps"),
        sentinel: "requirepass hush-sentinels\n".into(),
        sentinel_login: words("AUTH hush-sentinels"),
        per_master: vec![("auth-pass".into(), password("apps"))],
        ..Plan::default()
    };
    let site = Site::start(&mut ports, plan)?;
    let names = ["SENTINEL_PASSWORD", "PROBE_PASSWORD"];
    let config = config(&site, &mut ports)?
        .each(|object| {
            if let Some(vm) = object.get_mut("vm_config") {
                vm["environment_variables"] = json!({ "host_env_keys": names });
            }
        })
        .plugin(
            "sentinel_watch",
            "credentials",
            &json!({ "password": { "environment": names[0] } }),
        )
        .plugin(
            "role_probe",
            "credentials",
            &json!({ "username": "probe", "password": { "environment": names[1] } }),
        );
    let envoy = Envoy::start_by(config, site.scratch.path(), |mut command| {
        command.env(names[0], password("sentinels"));
        command.env(names[1], password("roles"));
        command
    })?;
    envoy.wait_until_ready()?;
    let old = site.master(MASTER).context("no master")?;
    let login = words("AUTH hush-apps");
    assert_eq!(node_of(envoy.port, &login)?, old);
    let mut stranger = Connection::open(envoy.port, PATIENT)?;
    let reply = stranger.call(&["GET", "k"])?;
    assert!(
        matches!(&reply, Value::Error(text) if text.starts_with("NOAUTH")),
        "{reply:?}"
    );
    wait::until_true("the role probe's question", PATIENT, || {
        site.group(0)
            .iter()
            .any(|node| node.port == old && node.calls_of("role") > 0)
    })?;
    site.fail_over(MASTER)?;
    let new = site.wait_for_master_after(MASTER, old)?;
    wait::until_true("the new master", Duration::from_secs(5), || {
        node_of(envoy.port, &login).is_ok_and(|node| node == new)
    })?;
    assert!(!envoy.log().contains("AUTH"));
    let dump = envoy.admin("/config_dump")?;
    assert!(dump.contains(names[0]) && !dump.contains(MARK));
    Ok(())
}

/// The watch's filter as a file that Envoy reloads when it is replaced.
fn write_filter(dir: &Path, filter: &Json, password: &str) -> Result<()> {
    let mut typed = filter["typed_config"].clone();
    typed["config"]["configuration"]["value"]["credentials"] = inline("envoy", password);
    let resource = json!({
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": "sentinel_watch",
        "typed_config": typed,
    });
    let file = json!({ "version_info": password, "resources": [resource] });
    fs::write(dir.join("new.json"), serde_json::to_vec(&file)?)?;
    fs::rename(dir.join("new.json"), dir.join("sentinel-watch.json"))?;
    Ok(())
}

#[test]
fn a_password_in_a_file_is_rotated_without_a_restart() -> Result<()> {
    let mut ports = PortBlock::claim()?;
    let mut plan = sentinel_users();
    plan.nodes = 2;
    let site = Site::start(&mut ports, plan)?;
    let mut config = config(&site, &mut ports)?;
    let dir = site.scratch.path().join("mounted");
    fs::create_dir(&dir)?;
    let slot = config
        .item("listeners", "sentinel_watch")?
        .pointer_mut("/filter_chains/0/filters/0")
        .context("no filter")?;
    let filter = slot.clone();
    *slot = json!({
        "name": "sentinel_watch",
        "config_discovery": {
            "config_source": { "path_config_source": {
                "path": dir.join("sentinel-watch.json"), "watched_directory": { "path": dir } } },
            "type_urls": ["type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm"],
        },
    });
    // Envoy asks for a name where it discovers anything.
    config.json()["node"] = json!({ "id": "sidecar", "cluster": "apps" });
    write_filter(&dir, &filter, "asking")?;
    let envoy = Envoy::start(config, site.scratch.path())?;
    envoy.wait_until_ready()?;
    // The new password, and the end of what was opened with the old one.
    for sentinel in &site.sentinels {
        sentinel.call(&["ACL", "SETUSER", "envoy", "resetpass", ">hush-asking2"])?;
        sentinel.call(&["CLIENT", "KILL", "USER", "envoy"])?;
    }
    wait::until_true("the old password to be refused", wait::LONG, || {
        envoy.log().contains("it refuses the credentials")
    })?;
    let master = site.master(MASTER).context("no master")?;
    assert_eq!(node_of(envoy.port, &[])?, master, "the last known master");
    write_filter(&dir, &filter, "asking2")?;
    let rewritten = Instant::now();
    site.fail_over(MASTER)?;
    let new = site.wait_for_master_after(MASTER, master)?;
    wait::until_true("the new master to be found", 2 * wait::LONG, || {
        node_of(envoy.port, &[]).is_ok_and(|node| node == new)
    })?;
    let taken = rewritten.elapsed();
    assert!(taken < Duration::from_secs(40), "it took {taken:?}");
    println!("followed {taken:?} after the file was replaced");
    Ok(())
}
