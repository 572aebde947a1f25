//! A pod of an application, with its sidecar.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use super::discovery::{self, Identity};
use super::iptables;
use super::merge::{self, Hits};
use super::{Istiod, System};
use crate::manifests::Document;
use crate::net::Host;
use crate::process::Process;
use crate::resp::Connection;
use crate::{envoy, tools, wait};

/// The user (and group) of a sidecar, whom the redirection leaves alone.
pub const POD_UID: u32 = 1337;
/// The user of the application.
const APP_UID: u32 = 1000;
const NAMESPACE: &str = "my-app";
const ADMIN: u16 = 15000;
const STATE: &str = "/var/lib";

/// The running pod.
pub struct Pod {
    /// Its host.
    pub host: Host,
    /// What each patch of each EnvoyFilter found.
    pub hits: Vec<Hits>,
    files: Vec<(String, Value)>,
    envoy: Process,
}

impl Pod {
    /// Starts the sidecar that the EnvoyFilters, WasmPlugins and so on among `documents` make of what `istiod` sends to a pod
    /// with the labels, annotations and environment of Deployment `counter`.
    pub fn start(
        system: &System,
        name: &str,
        documents: &[Document],
        istiod: &Istiod,
        identity: Option<&Identity>,
    ) -> Result<Self> {
        let app = documents
            .iter()
            .find(|d| d.kind() == "Deployment")
            .context("no application")?;
        let labels = app
            .at("/spec/template/metadata/labels")
            .as_object()
            .context("no labels")?;
        let mut configuration = istiod.configure(documents)?;
        let hits = merge::apply(documents, NAMESPACE, labels, &mut configuration)?;
        let files = discovery::to_files(&mut configuration, identity)?;
        let host = system.network.host(name)?;
        system.resolve_names(&host)?;
        let bootstrap = json!({
            "node": { "id": format!("sidecar~{}~{name}.{NAMESPACE}", host.address()), "cluster": name },
            "admin": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": ADMIN } } },
            "static_resources": { "listeners": configuration.listeners, "clusters": configuration.clusters },
        });
        furnish(&host, app, &bootstrap, &files)?;
        iptables::redirect_outbound(&host)?;
        let log = system.scratch.file(&format!("{name}.log"));
        let mut envoy = start_envoy(&host, &log)?;
        wait_until_live(&host, &mut envoy)?;
        Ok(Self {
            host,
            hits,
            files,
            envoy,
        })
    }

    /// A connection of the application, logged in. It dials from this pod.
    pub fn connect(&self, to: SocketAddr, timeout: Duration) -> Result<Connection> {
        self.host.enter(|| Ok(Connection::open_at(to, timeout)?))?
    }

    /// Runs a program of the application to its end.
    pub fn run(
        &self,
        program: impl AsRef<Path>,
        change: impl FnOnce(&mut Command),
    ) -> Result<Output> {
        let mut command = as_user(&self.host, APP_UID);
        command.arg(program.as_ref());
        change(&mut command);
        Ok(command.output()?)
    }

    /// A page of the sidecar's admin interface.
    pub fn admin(&self, path: &str) -> Result<String> {
        Ok(self.get(ADMIN, path)?.1)
    }

    /// A GET on the pod itself.
    pub fn get(&self, port: u16, path: &str) -> Result<(u16, String)> {
        self.host.enter(|| envoy::get(port, path))?
    }

    /// The sum of the counters and gauges whose name matches.
    pub fn stat(&self, filter: &str) -> Result<u64> {
        let page = self.admin(&format!("/stats?filter={filter}"))?;
        let values = page
            .lines()
            .filter_map(|line| line.rsplit_once(": ")?.1.parse::<u64>().ok());
        Ok(values.sum())
    }

    /// What the sidecar logged.
    pub fn log(&self) -> String {
        self.envoy.log()
    }

    /// Has istiod and the agent send all filters that are asked for by name again, changed.
    pub fn send_extensions(&self, version: u32, change: impl Fn(&mut Value) + Sync) -> Result<()> {
        let extensions = self
            .files
            .iter()
            .filter(|(name, _)| name.starts_with("extension-"));
        self.host.enter(|| -> Result<()> {
            for (name, content) in extensions {
                let mut content = content.clone();
                content["version_info"] = version.to_string().into();
                change(&mut content["resources"][0]);
                // Envoy looks when a file is moved into place.
                let path = Path::new(discovery::DIR).join(name);
                fs::write(path.with_extension("new"), serde_json::to_vec(&content)?)?;
                fs::rename(path.with_extension("new"), path)?;
            }
            Ok(())
        })?
    }

    /// What the module logged.
    pub fn told(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log
            .lines()
            .filter(|line| line.contains("wasm log"))
            .collect();
        lines.join("\n")
    }

    /// How often the patches of an EnvoyFilter found what they look for.
    pub fn hits(&self, patch: &str) -> usize {
        let found = self.hits.iter().find(|hits| hits.patch == patch);
        found.map_or(0, |hits| hits.hits)
    }
}

/// What the sidecar finds in its container: the module where the annotations mount it, and what is discovered.
pub(super) fn furnish(
    host: &Host,
    app: &Document,
    bootstrap: &Value,
    files: &[(String, Value)],
) -> Result<()> {
    host.tmpfs(Path::new(STATE))?;
    let mounts = mounts(app)?;
    host.enter(|| -> Result<()> {
        fs::create_dir_all(discovery::DIR)?;
        for file in [discovery::MODULE, discovery::NEXT_MODULE] {
            fs::copy(tools::module(), file)?;
        }
        for dir in &mounts {
            fs::create_dir_all(dir)?;
            fs::copy(
                tools::module(),
                Path::new(dir).join("redis_sentinel_filter.wasm"),
            )?;
        }
        for (name, content) in files {
            fs::write(
                Path::new(discovery::DIR).join(name),
                serde_json::to_vec(content)?,
            )?;
        }
        fs::write(format!("{STATE}/envoy"), "")?;
        Ok(fs::write(
            format!("{STATE}/envoy.json"),
            serde_json::to_vec_pretty(bootstrap)?,
        )?)
    })??;
    // Users other than root need not be able to look into the directory that we were built in.
    host.bind(&tools::envoy(), Path::new(STATE).join("envoy").as_path())
}

/// The directories where the pod's annotations mount ConfigMaps into its sidecar.
fn mounts(app: &Document) -> Result<Vec<String>> {
    let annotations = app.at("/spec/template/metadata/annotations");
    let read = |kind: &str| -> Result<Map<String, Value>> {
        let text = annotations[format!("sidecar.istio.io/{kind}")].as_str();
        text.map_or(Ok(Map::new()), |text| {
            serde_json::from_str(text).with_context(|| kind.to_owned())
        })
    };
    let (volumes, mounts) = (read("userVolume")?, read("userVolumeMount")?);
    ensure!(
        volumes.keys().eq(mounts.keys()),
        "volumes and mounts differ: {volumes:?}, {mounts:?}"
    );
    let path = |mount: &Value| mount["mountPath"].as_str().map(str::to_owned);
    mounts
        .values()
        .map(|mount| path(mount).context("no mountPath"))
        .collect()
}

/// A command that will run on `host` as somebody else, and ends with us.
fn as_user(host: &Host, uid: u32) -> Command {
    let mut command = host.command("setpriv");
    let user = uid.to_string();
    command.args([
        "--reuid",
        &user,
        "--regid",
        &user,
        "--clear-groups",
        "--pdeathsig",
        "KILL",
    ]);
    command
}

/// Starts the Envoy that was furnished.
pub(super) fn start_envoy(host: &Host, log: &Path) -> Result<Process> {
    let mut command = as_user(host, POD_UID);
    command
        .arg(format!("{STATE}/envoy"))
        .args([
            "-c",
            &format!("{STATE}/envoy.json"),
            "--disable-hot-restart",
        ])
        // As many as Istio gives it.
        .args([
            "--concurrency",
            "2",
            "--log-level",
            "info",
            "--log-format",
            "%Y-%m-%d %T.%e %l %v",
        ])
        .envs([
            ("SENTINEL_PASSWORD", super::system::SENTINEL_PASSWORD),
            ("REDIS_PASSWORD", super::system::REDIS_PASSWORD),
        ]);
    host.start(&mut command, log)
}

pub(super) fn wait_until_live(host: &Host, process: &mut Process) -> Result<()> {
    let live = || host.enter(|| envoy::get(ADMIN, "/ready").is_ok_and(|(status, _)| status == 200));
    wait::until_true("the sidecar to be live", wait::LONG, || {
        process.exited().is_some() || live().unwrap_or_default()
    })
    .with_context(|| process.log())?;
    ensure!(
        process.exited().is_none(),
        "the sidecar ended at once:\n{}",
        process.log()
    );
    Ok(())
}
