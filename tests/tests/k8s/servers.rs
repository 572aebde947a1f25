//! Three plain Linux servers, as `systemd/README.md` sets them up: its own install commands, the units' own command lines, users,
//! environments and files, on three hosts with the addresses of the guide. And the two programs of the example, which know nothing
//! of Sentinel.

mod machine;
mod sandbox;
mod unit;

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use redis_sentinel_tests::net::{self, Network};
use redis_sentinel_tests::resp::{Connection, Value};
use redis_sentinel_tests::scratch::Scratch;
use redis_sentinel_tests::{tools, wait};
use serde_json::Value as Json;

use machine::{Machine, REDIS_PASSWORD, SENTINEL_PASSWORD, UNITS};
use unit::Unit;

const ADDRESSES: [Ipv4Addr; 3] = [
    Ipv4Addr::new(10, 0, 0, 1),
    Ipv4Addr::new(10, 0, 0, 2),
    Ipv4Addr::new(10, 0, 0, 3),
];

/// Carries out the guide's own install commands with `root` for the root directory.
fn install(root: &Path) -> Result<()> {
    let guide = fs::read_to_string(tools::root().join("systemd/README.md"))?;
    let blocks = guide
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let block = blocks
        .into_iter()
        .find(|block| block.contains("install -"))
        .context("no install commands")?;
    let script = block
        .replace(" /opt/", &format!(" {}/opt/", root.display()))
        .replace(" /etc/", &format!(" {}/etc/", root.display()));
    fs::create_dir_all(root.join("etc/systemd/system"))?;
    let path = std::env::var("PATH").unwrap_or_default();
    let envoy = tools::envoy();
    let tools_dir = envoy.parent().context("where envoy is")?;
    let output = Command::new("sh")
        .args(["-euc", &script])
        .current_dir(tools::root())
        .env("PATH", format!("{}:{path}", tools_dir.display()))
        .output()?;
    ensure!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    // The module under test may be another one.
    fs::copy(
        tools::module(),
        root.join("opt/redis-ha/redis_sentinel_filter.wasm"),
    )?;
    Ok(())
}

/// What an administrator changes, and what makes the test quicker.
fn configure(root: &Path) -> Result<()> {
    let edit = |file: &str, pairs: &[(&str, &str)]| -> Result<()> {
        let path = root.join("opt/redis-ha").join(file);
        let mut text = fs::read_to_string(&path)?;
        for (from, to) in pairs {
            ensure!(text.contains(from), "{file} has no {from}");
            text = text.replace(from, to);
        }
        Ok(fs::write(&path, text)?)
    };
    edit(
        "passwords.env",
        &[
            ("change-me-redis", REDIS_PASSWORD),
            ("change-me-sentinel", SENTINEL_PASSWORD),
        ],
    )?;
    edit(
        "sentinel.conf",
        &[(
            "down-after-milliseconds mymaster 5000",
            "down-after-milliseconds mymaster 1000",
        )],
    )?;
    edit(
        "redis.conf",
        &[
            ("min-replicas-max-lag 10", "min-replicas-max-lag 3"),
            ("maxmemory 1gb", "maxmemory 64mb"),
        ],
    )
}

/// The three servers.
struct Site {
    machines: Vec<Machine>,
    network: Network,
    _scratch: Scratch,
}

impl Site {
    /// Installed and configured, and off.
    fn new() -> Result<Self> {
        let scratch = Scratch::new()?;
        let network = Network::new()?;
        let root = scratch.file("installed");
        fs::create_dir_all(&root)?;
        install(&root)?;
        configure(&root)?;
        let machine = |address: &Ipv4Addr| {
            Machine::new(
                &network,
                *address,
                &root,
                &scratch.file(&address.to_string()),
            )
        };
        let machines = ADDRESSES.iter().map(machine).collect::<Result<_>>()?;
        Ok(Self {
            machines,
            network,
            _scratch: scratch,
        })
    }

    /// The index of the master that most Sentinels name, if it says so itself.
    fn master(&self) -> Option<usize> {
        let named: Vec<_> = self.machines.iter().filter_map(Machine::master).collect();
        let index = (0..3).find(|index| {
            let address = ADDRESSES[*index].to_string();
            named.iter().filter(|name| **name == address).count() >= 2
        })?;
        self.machines[index].is_master().then_some(index)
    }

    fn wait_for_master(&self, what: &str, mut test: impl FnMut(usize) -> bool) -> Result<usize> {
        wait::until(what, wait::LONG, || {
            self.master().filter(|index| test(*index))
        })
    }

    /// One master, two replicas in step with it, and every Sentinel knows all that.
    fn wait_until_whole(&self) -> Result<()> {
        let field = |machine: &Machine, name: &str| {
            let reply = machine.sentinel(&["SENTINEL", "MASTER", "mymaster"]).ok()?;
            reply.field(name)
        };
        wait::until_true("three servers in step", 2 * wait::LONG, || {
            let Some(master) = self.master() else {
                return false;
            };
            let connected = self.machines[master].redis(&["INFO", "replication"]);
            let text = connected
                .ok()
                .and_then(|reply| reply.text())
                .unwrap_or_default();
            text.matches("state=online").count() == 2
                && self.machines.iter().all(|machine| {
                    field(machine, "flags").as_deref() == Some("master")
                        && field(machine, "num-slaves").as_deref() == Some("2")
                        && field(machine, "num-other-sentinels").as_deref() == Some("2")
                })
        })
    }

    /// Waits until the master refuses to be alone, and the replicas would not.
    fn wait_until_guarded(&self) -> Result<()> {
        let wanted = |machine: &Machine| {
            let reply = machine
                .redis(&["CONFIG", "GET", "min-replicas-to-write"])
                .ok()?;
            reply.field("min-replicas-to-write")
        };
        wait::until_true("the guards to see their Redis", wait::LONG, || {
            let master = self.master();
            self.machines.iter().enumerate().all(|(index, machine)| {
                let right = if master == Some(index) { "1" } else { "0" };
                wanted(machine).as_deref() == Some(right)
            })
        })
    }

    /// What the sender of one server has been told, in order.
    fn counted(&self, index: usize) -> Vec<u64> {
        let said = self.machines[index].said(0);
        said.lines()
            .filter_map(|line| line.strip_prefix("counted ")?.parse().ok())
            .collect()
    }

    /// Waits until the senders of these servers have each been answered `more` times from now on.
    fn wait_for_more(&self, servers: &[usize], more: usize) -> Result<()> {
        let before: Vec<_> = servers
            .iter()
            .map(|index| self.counted(*index).len())
            .collect();
        let all = || {
            let mut pairs = servers.iter().zip(&before);
            pairs.all(|(index, before)| self.counted(*index).len() >= before + more)
        };
        wait::until_true("the senders to go on", wait::LONG, all).with_context(|| {
            let tail = |index: &usize| {
                let said = self.machines[*index].said(0);
                let lines: Vec<_> = said.lines().rev().take(5).map(str::to_owned).collect();
                format!("{index}: {}", lines.join(" < "))
            };
            servers.iter().map(tail).collect::<Vec<_>>().join("\n")
        })
    }

    /// Both programs on a server.
    fn run_examples(&mut self, index: usize) -> Result<()> {
        self.machines[index].run_example("sender")?;
        self.machines[index].run_example("receiver")
    }

    /// No two acknowledged increments have the same number, and no reader saw the count go back: so none was lost.
    fn assert_nothing_lost(&self, servers: &[usize]) {
        let mut seen = BTreeSet::new();
        for index in servers {
            for number in self.counted(*index) {
                assert!(
                    seen.insert(number),
                    "{number} was counted twice: an increment was lost"
                );
            }
            let said = self.machines[*index].said(1);
            assert!(!said.contains("WENT BACK"), "server {index}: {said}");
            assert!(
                said.contains("read "),
                "server {index} read nothing: {said}"
            );
        }
    }
}

#[test]
fn the_units_carry_a_failover() -> Result<()> {
    if net::missing() {
        return Ok(());
    }
    let mut site = Site::new()?;
    for machine in &mut site.machines {
        machine.boot()?;
    }
    site.wait_until_whole()?;
    assert_eq!(site.master(), Some(0), "FIRST_MASTER");
    for machine in &site.machines {
        wait::until_true("each server's own proxy", wait::LONG, || {
            machine.through_proxy(&["SET", "greeting", "hello"]).is_ok()
        })?;
    }
    strangers_are_refused(&site.machines[1])?;
    for index in 0..3 {
        site.run_examples(index)?;
    }
    site.wait_for_more(&[0, 1, 2], 10)?;

    // Planned: nothing that was acknowledged is lost, on no server, and nobody hears an error but that connections end.
    site.wait_until_guarded()?;
    site.machines[0].sentinel(&["SENTINEL", "FAILOVER", "mymaster"])?;
    let second = site.wait_for_master("another master", |index| index != 0)?;
    site.wait_for_more(&[0, 1, 2], 20)?;
    site.assert_nothing_lost(&[0, 1, 2]);
    for machine in &site.machines {
        let said = machine.said(0);
        assert!(!refused(&said), "{said}");
        let failed = said.matches("no answer").count();
        assert!(failed <= 1, "{failed} times no answer: {said}");
    }
    site.wait_until_whole()?;

    // The whole server of the master loses power, applications and all.
    site.network.unplug(&site.machines[second].host)?;
    site.machines[second].power_off();
    let rest: Vec<_> = (0..3).filter(|index| *index != second).collect();
    let third = site.wait_for_master("a master on the servers that are left", |index| {
        index != second
    })?;
    site.wait_for_more(&rest, 20)?;
    // And comes back: as a replica, not as the master that it was.
    site.network.plug(&site.machines[second].host)?;
    site.machines[second].boot()?;
    site.wait_until_whole()?;
    assert_eq!(site.master(), Some(third));
    site.run_examples(second)?;
    site.wait_for_more(&[0, 1, 2], 10)
}

#[test]
fn a_partition_leaves_one_master_that_counts() -> Result<()> {
    if net::missing() {
        return Ok(());
    }
    let mut site = Site::new()?;
    for machine in &mut site.machines {
        machine.boot()?;
    }
    site.wait_until_whole()?;
    for index in 0..3 {
        site.run_examples(index)?;
    }
    site.wait_for_more(&[0, 1, 2], 5)?;

    // The master's server is alone, and its applications with it.
    site.wait_until_guarded()?;
    let hosts: Vec<_> = site.machines.iter().map(|machine| &machine.host).collect();
    site.network.partition(&hosts[..1], &hosts[1..])?;
    let new = site.wait_for_master("a master of the other two", |index| index != 0)?;
    site.wait_for_more(&[1, 2], 20)?;
    site.assert_nothing_lost(&[1, 2]);
    // min-replicas-to-write: it takes no more of what would be lost.
    wait::until_true("the lonely master to refuse writes", wait::LONG, || {
        refused(&site.machines[0].said(0))
    })
    .with_context(|| site.machines[0].said(0))?;

    site.network.heal_all()?;
    site.wait_until_whole()?;
    assert_eq!(site.master(), Some(new));
    site.wait_for_more(&[0, 1, 2], 10)?;
    // The power fails everywhere; what was acknowledged a second ago is there afterwards.
    let before = site.counted(1).last().copied().unwrap_or_default();
    for machine in &mut site.machines {
        machine.power_off();
    }
    for machine in site.machines.iter_mut().rev() {
        machine.boot()?;
    }
    site.wait_until_whole()?;
    let after = wait::until("the count", wait::LONG, || {
        site.machines[0]
            .through_proxy(&["GET", "counter"])
            .ok()?
            .text()?
            .parse::<u64>()
            .ok()
    })?;
    ensure!(after >= before, "the count was {before}, and is {after}");
    Ok(())
}

/// Whether a sender was answered -NOREPLICAS, as redis-py says it.
fn refused(said: &str) -> bool {
    said.contains("NOREPLICAS") || said.contains("Not enough good replicas")
}

/// Redis and Sentinel want their passwords, and answer on the server's own address alone.
fn strangers_are_refused(machine: &Machine) -> Result<()> {
    let address = machine.host.address();
    for port in [6379, 26379] {
        let reply = machine.host.enter(|| -> Result<Value> {
            let mut connection =
                Connection::open_at(SocketAddr::from((address, port)), wait::LONG)?;
            Ok(connection.call(&["PING"])?)
        })??;
        ensure!(
            matches!(&reply, Value::Error(text) if text.contains("NOAUTH")),
            "{port}: {reply:?}"
        );
    }
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 26379));
    ensure!(
        machine
            .host
            .enter(|| Connection::open_at(local, wait::LONG).is_err())?,
        "Sentinel on loopback"
    );
    Ok(())
}

/// systemd's own opinion, where it is installed.
#[test]
fn systemd_understands_the_units() -> Result<()> {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("\n!!! SKIPPED: systemd_understands_the_units: there is no systemd-analyze\n");
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let root = scratch.file("root");
    install(&root)?;
    // The programs that the units name, and what every system has.
    fs::create_dir_all(root.join("usr/bin"))?;
    fs::copy("/bin/true", root.join("usr/bin/redis-server"))?;
    for target in [
        "network-online",
        "multi-user",
        "sysinit",
        "basic",
        "shutdown",
    ] {
        let file = root.join(format!("etc/systemd/system/{target}.target"));
        fs::write(file, "[Unit]\nDescription=as on every system\n")?;
    }
    for name in UNITS {
        let file = root.join(format!("etc/systemd/system/{name}.service"));
        analyze(
            &["verify", "--man=no", "--root", &root.display().to_string()],
            &file,
        )?;
        // In tenths: 0 is a service that may do nothing, 100 one that may do everything.
        analyze(&["security", "--offline=yes", "--threshold=15"], &file)?;
    }
    Ok(())
}

/// Runs systemd-analyze, which may say nothing but its table.
fn analyze(arguments: &[&str], unit: &Path) -> Result<()> {
    let output = Command::new("systemd-analyze")
        .arg("--no-pager")
        .args(arguments)
        .arg(unit)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() || !said.is_empty() {
        // Of the table only what counts against it.
        let table = String::from_utf8_lossy(&output.stdout);
        let bad: Vec<_> = table.lines().filter(|line| !line.contains('✓')).collect();
        bail!(
            "{arguments:?} {}: {said}{}",
            unit.display(),
            bad.join(
                "
"
            )
        );
    }
    Ok(())
}

/// The check above can fail.
#[test]
fn systemd_finds_a_mistake() -> Result<()> {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let file = scratch.file("wrong.service");
    fs::write(
        &file,
        "[Service]\nExecStart=/bin/true\nProtectSytem=strict\n",
    )?;
    let said = analyze(&["verify", "--man=no"], &file).expect_err("a key that there is not");
    ensure!(format!("{said:#}").contains("ProtectSytem"), "{said:#}");
    ensure!(analyze(&["security", "--offline=yes", "--threshold=15"], &file).is_err());
    Ok(())
}

/// Every unit is for a program of its own user, with its passwords from a file that only root reads.
#[test]
fn the_units_keep_passwords_to_themselves() -> Result<()> {
    let scratch = Scratch::new()?;
    let root = scratch.file("root");
    install(&root)?;
    let mode = |file: &str| -> Result<u32> {
        use std::os::unix::fs::PermissionsExt;
        Ok(fs::metadata(root.join("opt/redis-ha").join(file))?
            .permissions()
            .mode()
            & 0o777)
    };
    assert_eq!(mode("passwords.env")?, 0o600);
    for name in UNITS {
        let unit = Unit::read(&root.join(format!("etc/systemd/system/{name}.service")))?;
        assert_eq!(unit.one("Service.DynamicUser"), Some("yes"), "{name}");
        for file in unit.all("Service.EnvironmentFile") {
            assert!(
                root.join(file.trim_start_matches('/')).exists(),
                "{name}: {file}"
            );
        }
        let commands = ["Service.ExecStart", "Service.ExecStartPre"].map(|key| unit.command(key));
        for words in commands.into_iter().flatten().flatten() {
            assert!(
                !words.join(" ").to_lowercase().contains("password"),
                "{name}: {words:?}"
            );
        }
    }
    Ok(())
}

/// `systemd/envoy.yaml` is `envoy/redis.yaml` with the Sentinels' addresses, passwords and the module's place: what is mended in one
/// must not be forgotten in the other.
#[test]
fn the_proxy_is_the_one_that_everything_else_tests() -> Result<()> {
    let read = |file: &str| -> Result<Json> {
        let text = fs::read_to_string(tools::root().join(file))?;
        Ok(yaml_serde::from_str(&text)?)
    };
    let [mut ours, mut theirs] = [read("systemd/envoy.yaml")?, read("envoy/redis.yaml")?];
    for json in [&mut ours, &mut theirs] {
        forget_place(json);
    }
    let [ours, theirs] =
        [ours, theirs].map(|json| serde_json::to_string_pretty(&json).unwrap_or_default());
    let differs = ours
        .lines()
        .zip(theirs.lines())
        .find(|(one, other)| one != other);
    ensure!(ours == theirs, "they differ: {differs:?}");
    Ok(())
}

/// Takes away what one place has and another has not.
fn forget_place(json: &mut Json) {
    match json {
        Json::Array(items) => items.iter_mut().for_each(forget_place),
        Json::Object(fields) => {
            for field in ["environment_variables", "credentials", "filename"] {
                fields.remove(field);
            }
            if fields
                .get("name")
                .is_some_and(|name| name == "sentinel_seeds")
            {
                fields.remove("load_assignment");
            }
            fields.values_mut().for_each(forget_place);
        }
        _ => {}
    }
}
