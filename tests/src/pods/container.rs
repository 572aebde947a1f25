//! A container that runs.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::env::expand;
use super::image::Image;
use super::rootfs::Mount;
use super::runtime::{self, Order, Program};
use super::spec::{Container, PodSpec};
use crate::net::Host;
use crate::process::Process;
use crate::wait;

/// What a container runtime leaves to a container that asks for nothing.
const CAPABILITIES: [(&str, u8); 14] = [
    ("CHOWN", 0),
    ("DAC_OVERRIDE", 1),
    ("FOWNER", 3),
    ("FSETID", 4),
    ("KILL", 5),
    ("SETGID", 6),
    ("SETUID", 7),
    ("SETPCAP", 8),
    ("NET_BIND_SERVICE", 10),
    ("NET_RAW", 13),
    ("SYS_CHROOT", 18),
    ("MKNOD", 27),
    ("AUDIT_WRITE", 29),
    ("SETFCAP", 31),
];

/// Everything that a container is made of.
pub struct Setup<'a> {
    pub host: &'a Host,
    pub hostname: &'a str,
    pub spec: &'a PodSpec,
    pub container: &'a Container,
    pub image: &'a Image,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    /// For the pod's own files; ends with it.
    pub dir: &'a Path,
    pub log: PathBuf,
}

/// A running container; dropping it kills it.
pub struct Running {
    process: Process,
    pid: i32,
    program: Program,
    dir: PathBuf,
}

static NUMBER: AtomicUsize = AtomicUsize::new(0);

impl Running {
    /// Starts one: a new root file system, whatever ran before.
    pub fn start(setup: Setup<'_>) -> Result<Self> {
        let Setup {
            container, image, ..
        } = setup;
        let program = program(&setup)?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = setup.dir.join(format!("{}-{number}", container.name));
        let root = dir.join("root");
        fs::create_dir_all(&root)?;
        let mut mounts = image.mounts.clone();
        mounts.extend(etc(image, setup.dir, &dir)?);
        mounts.extend(setup.mounts);
        // A mount point inside of a mount comes after it.
        mounts.sort_by_key(|mount| mount.target.components().count());
        let pid_file = dir.join("pid");
        let order = Order::Run {
            program: program.clone(),
            hostname: setup.hostname.to_owned(),
            root,
            links: image.links.clone(),
            mounts,
            read_only_root: container.security_context.read_only_root_filesystem,
            pid_file: pid_file.clone(),
        };
        // The container may open /dev/stdout by its name, whoever it runs as.
        File::options().create(true).append(true).open(&setup.log)?;
        fs::set_permissions(&setup.log, Permissions::from_mode(0o666))?;
        let mut command = setup.host.command(runtime_program()?);
        command.arg(write_order(&dir, &order)?);
        let mut process = Process::start(&mut command, &setup.log)?;
        let pid = wait::until("a container's first process", wait::LONG, || {
            let pid = fs::read_to_string(&pid_file)
                .ok()
                .and_then(|text| text.parse().ok());
            pid.or_else(|| process.exited().map(|_| 0))
        })?;
        Ok(Self {
            process,
            pid,
            program,
            dir,
        })
    }

    /// Its first process, as this machine counts.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.exited()
    }

    /// Starts a command inside, as a probe or a hook is: with the container's user, rights and environment.
    pub fn execute(&self, command: &[String]) -> Result<Process> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (command, log) = self.prepare(command, number)?;
        let mut command = command;
        Process::start(&mut command, &log)
    }

    fn prepare(&self, argv: &[String], number: usize) -> Result<(Command, PathBuf)> {
        let order = Order::Execute {
            program: Program {
                argv: argv.to_vec(),
                ..self.program.clone()
            },
            pid: self.pid,
        };
        let dir = self.dir.join(format!("exec-{number}"));
        fs::create_dir_all(&dir)?;
        let mut command = Command::new(runtime_program()?);
        command.arg(write_order(&dir, &order)?);
        Ok((command, dir.join("log")))
    }

    /// SIGTERM to its first process, which has no default for it: who ignores it is killed later.
    pub fn terminate(&self) {
        let _ = runtime::signal(self.pid, Signal::SIGTERM);
    }

    /// SIGKILL to everything in it.
    pub fn kill(&mut self) {
        let _ = runtime::signal(self.pid, Signal::SIGKILL);
        // The runtime's process ends when it has seen the other one end; the kernel closes its sockets before that.
        let end = Instant::now() + wait::LONG;
        while self.process.exited().is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.process.kill();
    }
}

fn program(setup: &Setup<'_>) -> Result<Program> {
    let Setup {
        container,
        spec,
        image,
        env,
        ..
    } = setup;
    let (own, pod) = (&container.security_context, &spec.security_context);
    // A command replaces the image's entrypoint and with it its arguments.
    let mut argv = container
        .command
        .clone()
        .unwrap_or_else(|| image.entrypoint.clone());
    argv.extend(match (&container.command, &container.args) {
        (_, Some(args)) => args.clone(),
        (Some(_), None) => vec![],
        (None, None) => image.command.clone(),
    });
    let uid = own.run_as_user.or(pod.run_as_user).unwrap_or(image.uid);
    if uid == 0 && own.run_as_non_root.unwrap_or(pod.run_as_non_root) {
        bail!("runAsNonRoot, and the image would run as root");
    }
    let mut groups = pod.supplemental_groups.clone();
    groups.extend(pod.fs_group);
    Ok(Program {
        argv: argv.iter().map(|word| expand(word, env)).collect(),
        env: env.clone(),
        directory: container
            .working_dir
            .as_ref()
            .map_or_else(|| image.directory.clone(), PathBuf::from),
        uid,
        gid: own.run_as_group.or(pod.run_as_group).unwrap_or(image.gid),
        groups,
        capabilities: capabilities(&own.capabilities.drop, &own.capabilities.add)?,
        no_new_privileges: own.allow_privilege_escalation == Some(false),
    })
}

fn capabilities(drop: &[String], add: &[String]) -> Result<Vec<u8>> {
    let all = drop.iter().any(|name| name == "ALL");
    let kept = CAPABILITIES
        .iter()
        .filter(|(name, _)| !all && !drop.iter().any(|other| other == name));
    let mut numbers: Vec<_> = kept.map(|(_, number)| *number).collect();
    for name in add {
        let known = CAPABILITIES
            .iter()
            .chain(&[("NET_ADMIN", 12)])
            .find(|(other, _)| other == name);
        numbers.push(known.with_context(|| format!("capability {name}"))?.1);
    }
    Ok(numbers)
}

/// The files of /etc that every container has; the pod's directory holds those that all its containers share.
fn etc(image: &Image, pod: &Path, dir: &Path) -> Result<Vec<Mount>> {
    let (passwd, group) = image.accounts();
    let nsswitch = "passwd: files\ngroup: files\nhosts: files dns\n".to_owned();
    for (name, text) in [
        ("passwd", passwd),
        ("group", group),
        ("nsswitch.conf", nsswitch),
    ] {
        fs::write(dir.join(name), text)?;
    }
    let own = ["passwd", "group", "nsswitch.conf"].map(|name| (dir.join(name), name));
    let shared = ["resolv.conf", "hosts", "hostname"].map(|name| (pod.join(name), name));
    let files = own.into_iter().chain(shared);
    Ok(files
        .map(|(source, name)| Mount {
            source,
            target: Path::new("/etc").join(name),
            read_only: true,
        })
        .collect())
}

fn write_order(dir: &Path, order: &Order) -> Result<PathBuf> {
    let file = dir.join("order.json");
    fs::write(&file, serde_json::to_vec(order)?)?;
    Ok(file)
}

/// The program beside the one that runs the tests.
fn runtime_program() -> Result<PathBuf> {
    let tests = std::env::current_exe()?;
    let built = tests
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("container"));
    built
        .into_iter()
        .find(|file| file.is_file())
        .context("the program `container` is not built: cargo build -p redis-sentinel-tests --bins")
}

/// Executes a command in the container whose first process is `pid`, to its end.
pub fn execute_in(pod: &Path, pid: i32, container: &str, argv: &[&str]) -> Result<Output> {
    // What it was started with is in its order.
    let program = fs::read_dir(pod)?.filter_map(|entry| {
        let dir = entry.ok()?.path();
        let is_it = fs::read_to_string(dir.join("pid")).ok()? == pid.to_string();
        is_it.then(|| fs::read(dir.join("order.json")).ok())?
    });
    let order = program
        .last()
        .with_context(|| format!("container {container} does not run"))?;
    let Order::Run { program, .. } = serde_json::from_slice(&order)? else {
        bail!("not a container");
    };
    let order = Order::Execute {
        program: Program {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            ..program
        },
        pid,
    };
    let dir = pod.join(format!("exec-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir_all(&dir)?;
    let mut command = Command::new(runtime_program()?);
    command.arg(write_order(&dir, &order)?);
    Ok(command.output()?)
}
