//! A network namespace without a name.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace, and a mount namespace if files were put over the machine's own.
///
/// It lives as long as this value, a clone of it, or a process inside.
#[derive(Clone)]
pub struct Namespace {
    net: Arc<File>,
    mounts: Option<Arc<File>>,
}

impl Namespace {
    /// A new one with nothing but its loopback device.
    pub fn new() -> Result<Self> {
        let net = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("unshare(CLONE_NEWNET)")?;
            Ok(File::open("/proc/thread-self/ns/net")?)
        })?;
        let namespace = Self {
            net: Arc::new(net),
            mounts: None,
        };
        namespace.run("ip", ["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The same network, seen by a mount namespace of its own.
    pub fn with_own_mounts(&self) -> Result<Self> {
        let mounts = on_a_thread(|| {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
            // Or what is mounted here would show on the machine.
            super::host::private_mounts()?;
            Ok(File::open("/proc/thread-self/ns/mnt")?)
        })?;
        Ok(Self {
            net: Arc::clone(&self.net),
            mounts: Some(Arc::new(mounts)),
        })
    }

    /// A path by which a program of this machine can name the network namespace while we live.
    pub fn path(&self) -> PathBuf {
        let (pid, fd) = (std::process::id(), self.net.as_raw_fd());
        format!("/proc/{pid}/fd/{fd}").into()
    }

    /// Runs `work` on a thread inside: what it opens (sockets, also ones that resolve names) belongs to this network.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_a_thread(|| {
            self.join()?;
            Ok(work())
        })
    }

    /// Like [`enter`](Self::enter) for work that goes on beside us.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<Result<T>> {
        let namespace = self.clone();
        thread::spawn(move || {
            namespace.join()?;
            Ok(work())
        })
    }

    /// A command that will run inside.
    #[allow(unsafe_code)]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let namespace = self.clone();
        // SAFETY: between fork and exec only system calls are made, nothing is allocated.
        unsafe {
            command.pre_exec(move || Ok(namespace.enter_fds()?));
        }
        command
    }

    /// Runs a program inside to its end. A failure says what it printed.
    pub fn run<A: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String> {
        self.run_with(program, arguments, "")
    }

    /// Like [`run`](Self::run), with `input` on its standard input.
    pub fn run_with<A: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = A>,
        input: &str,
    ) -> Result<String> {
        let mut command = self.command(program);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| {
            format!("cannot start {program} (tests/setup.sh clients installs what the tests need)")
        })?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("{command:?} {}: {errors}{input}", output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Moves the calling thread inside, for good.
    fn join(&self) -> Result<()> {
        if self.mounts.is_some() {
            // A thread that shares its root and working directory with others may not change its mounts.
            unshare(CloneFlags::CLONE_FS)?;
        }
        self.enter_fds().context("setns")
    }

    fn enter_fds(&self) -> nix::Result<()> {
        setns(&*self.net, CloneFlags::CLONE_NEWNET)?;
        if let Some(mounts) = &self.mounts {
            setns(&**mounts, CloneFlags::CLONE_NEWNS)?;
        }
        Ok(())
    }
}

/// Namespaces belong to threads: a thread that changed its own must not serve anything else.
fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let name = thread::current().name().unwrap_or("namespace").to_owned();
        let thread = thread::Builder::new()
            .name(name)
            .spawn_scoped(scope, work)?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => match panic.downcast::<String>() {
                Ok(text) => Err(anyhow!("{text}")),
                Err(panic) => std::panic::resume_unwind(panic),
            },
        }
    })
}
