//! One of three plain servers: a network namespace with its own address, the files that the guide installs, and each unit's own
//! command, environment and directories, in as much of its sandbox as [`sandbox`] makes. Nothing here starts it again when it ends.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use redis_sentinel_tests::net::{Host, Network};
use redis_sentinel_tests::process::Process;
use redis_sentinel_tests::resp::{Connection, Value};
use redis_sentinel_tests::{tools, wait};

use super::sandbox;
use super::unit::{Unit, environment};

/// Passwords as the guide asks for: letters and digits.
pub const REDIS_PASSWORD: &str = "redisForTheServers1";
pub const SENTINEL_PASSWORD: &str = "sentinelForTheServers1";

/// Of the range that systemd takes for DynamicUser=.
const USER: u32 = 61184;
const TIMEOUT: Duration = Duration::from_secs(2);

/// The units, in no order that anybody promised.
pub const UNITS: [&str; 4] = [
    "redis-guard",
    "redis-proxy",
    "redis-sentinel-node",
    "redis-node",
];

/// A server that is on or off; its disk outlives that.
pub struct Machine {
    /// Its place in the network.
    pub host: Host,
    units: PathBuf,
    disk: PathBuf,
    running: BTreeMap<String, Process>,
    /// Its applications.
    pub applications: Vec<Process>,
}

impl Machine {
    /// A server with the files of `installed` (a root directory), its own `server.env` and an empty disk in `disk`. Off.
    pub fn new(
        network: &Network,
        address: Ipv4Addr,
        installed: &Path,
        disk: &Path,
    ) -> Result<Self> {
        let name = address.to_string();
        let host = network.host_at(&name, address)?;
        fs::create_dir_all(disk)?;
        let files = installed.join("opt/redis-ha");
        let settings = fs::read_to_string(files.join("server.env"))?;
        let own = settings.replace("\nADDRESS=10.0.0.1\n", &format!("\nADDRESS={address}\n"));
        let own_file = disk.join("server.env");
        fs::write(&own_file, own)?;

        host.tmpfs(Path::new("/opt"))?;
        host.tmpfs(Path::new("/var/lib"))?;
        let program = Path::new("/opt/bin/redis-server");
        host.enter(|| -> Result<()> {
            fs::create_dir_all("/opt/redis-ha")?;
            fs::create_dir_all("/opt/bin")?;
            Ok(fs::write(program, "")?)
        })??;
        host.bind(&fs::canonicalize(tools::redis("redis-server"))?, program)?;
        host.bind(&files, Path::new("/opt/redis-ha"))?;
        host.bind(&own_file, Path::new("/opt/redis-ha/server.env"))?;
        Ok(Self {
            host,
            units: installed.join("etc/systemd/system"),
            disk: disk.to_owned(),
            running: BTreeMap::new(),
            applications: vec![],
        })
    }

    /// Starts a unit, as `systemctl start` does, and comes back when it says that it is ready.
    pub fn start(&mut self, name: &str) -> Result<()> {
        let unit = Unit::read(&self.units.join(format!("{name}.service")))?;
        let mut variables = self.variables(&unit)?;
        let say = self.notify_socket(&unit, name, &mut variables)?;
        if let Some(words) = unit.command("Service.ExecStartPre")? {
            // Restart=always, RestartSec=1: a start that fails is tried again.
            wait::until("the preparation to succeed", wait::LONG, || {
                let status = self.command(&unit, &words, &variables).ok()?.status();
                match status {
                    Ok(status) if status.success() => Some(()),
                    _ => {
                        std::thread::sleep(Duration::from_secs(1));
                        None
                    }
                }
            })?;
        }
        let words = unit.command("Service.ExecStart")?.context("no ExecStart")?;
        let log = self.disk.join(format!("{name}.log"));
        let mut process = self
            .host
            .start(&mut self.command(&unit, &words, &variables)?, &log)?;
        if let Some(socket) = say {
            wait::until_true(&format!("READY=1 of {name}"), wait::LONG, || {
                let mut text = [0; 4096];
                let read = socket.recv(&mut text).unwrap_or(0);
                process.exited().is_some()
                    || String::from_utf8_lossy(&text[..read]).contains("READY=1")
            })?;
        }
        if let Some(status) = process.exited() {
            bail!("{name} ended at once ({status}):\n{}", process.log());
        }
        self.running.insert(name.to_owned(), process);
        Ok(())
    }

    /// Its EnvironmentFile=s and StateDirectory=.
    fn variables(&self, unit: &Unit) -> Result<BTreeMap<String, String>> {
        let mut variables = BTreeMap::new();
        for file in unit.all("Service.EnvironmentFile") {
            // Read as root, as systemd does it: the service itself may not.
            let text = self.host.enter(|| fs::read_to_string(file))?;
            variables.extend(environment(&text.with_context(|| file.to_owned())?));
        }
        if let Some(name) = unit.one("Service.StateDirectory") {
            let (mine, seen) = (self.disk.join(name), Path::new("/var/lib").join(name));
            if !mine.exists() {
                fs::create_dir_all(&mine)?;
                let mode = unit.one("Service.StateDirectoryMode").unwrap_or("0755");
                fs::set_permissions(
                    &mine,
                    fs::Permissions::from_mode(u32::from_str_radix(mode, 8)?),
                )?;
                chown(&mine, Some(USER), Some(USER))?;
            }
            if self.host.enter(|| fs::create_dir(&seen).is_ok())? {
                self.host.bind(&mine, &seen)?;
            }
            variables.insert("STATE_DIRECTORY".into(), seen.display().to_string());
        }
        let dirs = ["/usr/local/bin", "/usr/bin", "/bin"].map(str::to_owned);
        variables.insert("PATH".into(), dirs.join(":"));
        Ok(variables)
    }

    /// Where a unit of Type=notify says that it is ready.
    fn notify_socket(
        &self,
        unit: &Unit,
        name: &str,
        variables: &mut BTreeMap<String, String>,
    ) -> Result<Option<UnixDatagram>> {
        if unit.one("Service.Type") != Some("notify") {
            return Ok(None);
        }
        let address = UnixAddress::from_abstract_name(name)?;
        let socket = self.host.enter(|| UnixDatagram::bind_addr(&address))??;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        variables.insert("NOTIFY_SOCKET".into(), format!("@{name}"));
        Ok(Some(socket))
    }

    /// A command of a unit, in the unit's sandbox, with nothing of our environment.
    fn command(
        &self,
        unit: &Unit,
        words: &[String],
        variables: &BTreeMap<String, String>,
    ) -> Result<Command> {
        let (program, arguments) = words.split_first().context("an empty command")?;
        // Where it is on this machine depends on how it was installed.
        let known = program == "/usr/bin/redis-server";
        let program = if known {
            "/opt/bin/redis-server"
        } else {
            program
        };
        let mut command = self.host.command(program);
        command.args(arguments).env_clear().envs(variables);
        sandbox::enter(&mut command, USER, unit)?;
        Ok(command)
    }

    /// Starts everything.
    pub fn boot(&mut self) -> Result<()> {
        UNITS.iter().try_for_each(|name| self.start(name))
    }

    /// The power goes: nothing gets to say goodbye.
    pub fn power_off(&mut self) {
        self.applications.clear();
        self.running.clear();
    }

    /// Starts `systemd/example/<name>.py` as an application of this server.
    pub fn run_example(&mut self, name: &str) -> Result<()> {
        let mut command = self.host.command("python3");
        command
            .arg(fs::canonicalize(
                tools::root().join(format!("systemd/example/{name}.py")),
            )?)
            .env(
                "PYTHONPATH",
                fs::canonicalize(tools::root().join("target/tools/python"))?,
            )
            .env("REDIS_PASSWORD", REDIS_PASSWORD);
        let log = self
            .disk
            .join(format!("{name}-{}.log", self.applications.len()));
        self.applications.push(self.host.start(&mut command, &log)?);
        Ok(())
    }

    /// What application number `index` has printed.
    pub fn said(&self, index: usize) -> String {
        self.applications
            .get(index)
            .map(Process::log)
            .unwrap_or_default()
    }

    /// One command to a port of this server, from this server, with this password.
    pub fn call(&self, to: SocketAddr, password: &str, command: &[&str]) -> Result<Value> {
        self.host.enter(|| -> Result<Value> {
            let mut connection = Connection::open_at(to, TIMEOUT)?;
            connection.call(&["AUTH", password])?;
            match connection.call(command)? {
                Value::Error(text) => bail!("{command:?}: {text}"),
                reply => Ok(reply),
            }
        })?
    }

    /// Through the Envoy of this server.
    pub fn through_proxy(&self, command: &[&str]) -> Result<Value> {
        self.call(
            SocketAddr::from((Ipv4Addr::LOCALHOST, 6379)),
            REDIS_PASSWORD,
            command,
        )
    }

    /// To the Redis of this server.
    pub fn redis(&self, command: &[&str]) -> Result<Value> {
        self.call(
            SocketAddr::from((self.host.address(), 6379)),
            REDIS_PASSWORD,
            command,
        )
    }

    /// To the Sentinel of this server.
    pub fn sentinel(&self, command: &[&str]) -> Result<Value> {
        self.call(
            SocketAddr::from((self.host.address(), 26379)),
            SENTINEL_PASSWORD,
            command,
        )
    }

    /// The address of the master that its Sentinel names.
    pub fn master(&self) -> Option<String> {
        let reply = self.sentinel(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"]);
        reply.ok()?.items().first()?.text()
    }

    /// Whether its Redis says that it is a master.
    pub fn is_master(&self) -> bool {
        let role = self.redis(&["ROLE"]).ok();
        role.and_then(|role| role.items().first()?.text())
            .as_deref()
            == Some("master")
    }
}
