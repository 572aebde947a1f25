//! What a container runtime does for one container: its own processes, mounts and rights, then the program.
//!
//! This runs as a program of its own (`container`, from `bin/container.rs`): once for a container, where it becomes its first
//! process, and once for every command executed in one.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Pid, Uid, execve, fork, setgroups, sethostname};
use serde::{Deserialize, Serialize};

use super::rootfs::{Mount, enter_root, make_root};

/// What a program in a container is started with.
#[derive(Serialize, Deserialize, Clone)]
pub struct Program {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub directory: PathBuf,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    /// Numbers of the capabilities that it may have at most.
    pub capabilities: Vec<u8>,
    pub no_new_privileges: bool,
}

/// A container to start, or a command to execute in one.
#[derive(Serialize, Deserialize)]
pub enum Order {
    Run {
        program: Program,
        hostname: String,
        /// An empty directory of this machine on which the root is made.
        root: PathBuf,
        links: Vec<(PathBuf, PathBuf)>,
        mounts: Vec<Mount>,
        read_only_root: bool,
        /// Where to write which process it is.
        pid_file: PathBuf,
    },
    Execute {
        program: Program,
        /// The container's first process.
        pid: i32,
    },
}

/// Carries out the order in the file that is the only argument; returns how the program ended.
pub fn main() -> Result<i32> {
    let file = std::env::args().nth(1).context("which order?")?;
    let order: Order = serde_json::from_str(&fs::read_to_string(&file)?)?;
    match &order {
        Order::Run { .. } => unshare(
            CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWPID
                | CloneFlags::CLONE_NEWIPC
                | CloneFlags::CLONE_NEWUTS,
        )?,
        Order::Execute { pid, .. } => join(*pid)?,
    }
    supervise(&order)
}

fn join(pid: i32) -> Result<()> {
    let open = |name| File::open(format!("/proc/{pid}/ns/{name}"));
    // All opened before the first is joined: afterwards this machine's /proc is out of sight.
    let (ipc, uts, net) = (open("ipc")?, open("uts")?, open("net")?);
    let (processes, mounts) = (open("pid")?, open("mnt")?);
    setns(ipc, CloneFlags::CLONE_NEWIPC)?;
    setns(uts, CloneFlags::CLONE_NEWUTS)?;
    setns(net, CloneFlags::CLONE_NEWNET)?;
    setns(processes, CloneFlags::CLONE_NEWPID)?;
    setns(mounts, CloneFlags::CLONE_NEWNS)?;
    Ok(())
}

#[allow(unsafe_code)]
fn supervise(order: &Order) -> Result<i32> {
    // Opened now: the child exchanges the root of its mount namespace, and so ours.
    let pid_file = match order {
        Order::Run { pid_file, .. } => Some(File::create(pid_file)?),
        Order::Execute { .. } => None,
    };
    // SAFETY: this program has one thread.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(pid_file);
            // The whole container ends with this: it is the first process of its process namespace.
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            let error = match become_it(order) {
                Ok(never) => match never {},
                Err(error) => error,
            };
            eprintln!("container: {error:#}");
            std::process::exit(127)
        }
        ForkResult::Parent { child } => {
            if let Some(mut file) = pid_file {
                file.write_all(child.to_string().as_bytes())?;
            }
            wait_for(child)
        }
    }
}

fn wait_for(child: Pid) -> Result<i32> {
    loop {
        match waitpid(child, None)? {
            WaitStatus::Exited(_, code) => return Ok(code),
            WaitStatus::Signaled(_, signal, _) => return Ok(128 + signal as i32),
            _ => {}
        }
    }
}

fn become_it(order: &Order) -> Result<std::convert::Infallible> {
    let program = match order {
        Order::Execute { program, .. } => program,
        Order::Run {
            program,
            hostname,
            root,
            links,
            mounts,
            read_only_root,
            ..
        } => {
            sethostname(hostname)?;
            make_root(root, links, mounts)?;
            // Images bring their working directory, and where not, runtimes make it.
            let directory = program.directory.strip_prefix("/")?;
            fs::create_dir_all(root.join(directory))?;
            enter_root(root, *read_only_root)?;
            program
        }
    };
    let directory = &program.directory;
    std::env::set_current_dir(directory).with_context(|| directory.display().to_string())?;
    give_up_rights(program)?;
    execute(program)
}

#[allow(unsafe_code)]
fn give_up_rights(program: &Program) -> Result<()> {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    for capability in 0..=63_u8 {
        if program.capabilities.contains(&capability) {
            continue;
        }
        // SAFETY: takes and returns numbers. EINVAL: beyond the kernel's last capability.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability)) } != 0 {
            break;
        }
    }
    let groups: Vec<_> = program
        .groups
        .iter()
        .map(|&gid| Gid::from_raw(gid))
        .collect();
    setgroups(&groups)?;
    let (uid, gid) = (Uid::from_raw(program.uid), Gid::from_raw(program.gid));
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)?;
    if program.no_new_privileges {
        prctl::set_no_new_privs()?;
    }
    // The change of the user ended this wish.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    Ok(())
}

fn execute(program: &Program) -> Result<std::convert::Infallible> {
    let name = program.argv.first().context("no command")?;
    let path = find(name, &program.env)
        .with_context(|| format!("{name}: not found in the image's $PATH"))?;
    let argv = program.argv.iter().map(|one| CString::new(one.as_str()));
    let argv = argv.collect::<Result<Vec<_>, _>>()?;
    let env = program
        .env
        .iter()
        .map(|(key, value)| CString::new(format!("{key}={value}")));
    let env = env.collect::<Result<Vec<_>, _>>()?;
    execve(&CString::new(path.as_os_str().as_bytes())?, &argv, &env)
        .with_context(|| format!("{}", path.display()))
}

fn find(name: &str, env: &[(String, String)]) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(name.into());
    }
    let path = env
        .iter()
        .find(|(key, _)| key == "PATH")
        .map(|(_, value)| value.as_str())?;
    std::env::split_paths(path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Sends a signal to a container's first process.
pub fn signal(pid: i32, signal: Signal) -> Result<()> {
    if pid <= 1 {
        bail!("no process {pid}");
    }
    kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to {pid}"))
}
