//! A container's root file system: in memory, with what its image and its pod bring mounted in it.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::pivot_root;
use serde::{Deserialize, Serialize};

/// Something mounted in a container.
#[derive(Serialize, Deserialize, Clone)]
pub struct Mount {
    pub source: PathBuf,
    /// From the container's root on.
    pub target: PathBuf,
    pub read_only: bool,
}

/// Mounts what the container sees, below `root`.
pub fn make_root(root: &Path, links: &[(PathBuf, PathBuf)], mounts: &[Mount]) -> Result<()> {
    let none = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).context("private mounts")?;
    tmpfs(root, "mode=755")?;
    // As every image has them, owned by root.
    for (name, mode) in [
        ("tmp", 0o1777),
        ("var/tmp", 0o1777),
        ("run", 0o755),
        ("root", 0o700),
    ] {
        make_dir(&root.join(name), mode)?;
    }
    for (name, target) in links {
        let name = root.join(name);
        make_dir(name.parent().unwrap_or(root), 0o755)?;
        symlink(target, &name).with_context(|| name.display().to_string())?;
    }
    devices(root)?;
    for (kind, flags) in [("proc", MsFlags::empty()), ("sysfs", MsFlags::MS_RDONLY)] {
        let target = root.join(kind.trim_end_matches("fs"));
        make_dir(&target, 0o755)?;
        mount(Some(kind), &target, Some(kind), flags, none).context(kind)?;
    }
    for one in mounts {
        bind(root, one).with_context(|| {
            format!("mount {} on {}", one.source.display(), one.target.display())
        })?;
    }
    Ok(())
}

fn devices(root: &Path) -> Result<()> {
    let dev = root.join("dev");
    make_dir(&dev, 0o755)?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let source = Path::new("/dev").join(name);
        File::create(dev.join(name))?;
        let flags = MsFlags::MS_BIND;
        mount(
            Some(&source),
            &dev.join(name),
            None::<&str>,
            flags,
            None::<&str>,
        )
        .context(name)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, dev.join(name))?;
    }
    make_dir(&dev.join("shm"), 0o1777)?;
    tmpfs(&dev.join("shm"), "mode=1777,size=64m")
}

fn tmpfs(target: &Path, options: &str) -> Result<()> {
    mount(
        Some("tmpfs"),
        target,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options),
    )
    .with_context(|| format!("tmpfs on {}", target.display()))
}

/// Like mkdir -p, with a mode that no umask changes.
fn make_dir(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)?;
    Ok(())
}

fn bind(root: &Path, one: &Mount) -> Result<()> {
    let target = root.join(one.target.strip_prefix("/").unwrap_or(&one.target));
    if fs::metadata(&one.source)?.is_dir() {
        make_dir(&target, 0o755)?;
    } else if !target.exists() {
        make_dir(target.parent().unwrap_or(root), 0o755)?;
        File::create(&target)?;
    }
    let none = None::<&str>;
    mount(Some(&one.source), &target, none, MsFlags::MS_BIND, none)?;
    if one.read_only {
        // A bind mount takes flags only when it is mounted again.
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &target, none, flags, none)?;
    }
    Ok(())
}

/// Makes it the root, and lets go of this machine's.
pub fn enter_root(root: &Path, read_only: bool) -> Result<()> {
    std::env::set_current_dir(root)?;
    // The old root lands on top of the new one, and is taken away at once.
    pivot_root(".", ".").context("pivot_root")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")?;
    if read_only {
        let none = None::<&str>;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(none, "/", none, flags, none).context("read-only root")?;
    }
    Ok(())
}
