//! What a unit takes away from its programs, as far as one process can take it away from itself: root, capabilities, new
//! privileges, and by seccomp system calls, address families and executable memory. systemd's own file system views
//! (ProtectSystem= and the like) are not made here.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::libc::{self, sock_filter};
use syscalls::Sysno;

use super::unit::Unit;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
/// Where `struct seccomp_data` has the number, the architecture and the lower half of an argument (little endian).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;

/// Has `command` run as `user` in the sandbox of `unit`.
#[allow(unsafe_code)]
pub fn enter(command: &mut Command, user: u32, unit: &Unit) -> Result<()> {
    let filter = filter(unit)?;
    let length = u16::try_from(filter.len())?;
    // SAFETY: between fork and exec only system calls are made, nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog {
                len: length,
                filter: filter.as_ptr().cast_mut(),
            };
            for capability in 0..64 {
                libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0); // fails from the last one on
            }
            check(libc::setgroups(0, std::ptr::null()))?;
            check(libc::setresgid(user, user, user))?;
            check(libc::setresuid(user, user, user))?;
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            // Another user has forgotten it.
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            check(libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ))
        });
    }
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The unit's seccomp program.
pub fn filter(unit: &Unit) -> Result<Vec<sock_filter>> {
    let mut program = vec![
        load(ARCHITECTURE),
        jump_equal(NATIVE, 1, 0),
        give(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
    ];
    if let Some(families) = unit.one("Service.RestrictAddressFamilies") {
        let families: Vec<_> = families
            .split_whitespace()
            .map(family)
            .collect::<Result<_>>()?;
        let count = u8::try_from(families.len())?;
        program.extend([
            jump_equal(number("socket")?, 0, count + 3),
            load(argument(0)),
        ]);
        for (family, left) in families.iter().zip((0..count).rev()) {
            program.push(jump_equal(*family, left + 1, 0));
        }
        program.extend([refuse(libc::EAFNOSUPPORT), load(NUMBER)]);
    }
    if unit.one("Service.MemoryDenyWriteExecute") == Some("yes") {
        let [write, execute] = [libc::PROT_WRITE, libc::PROT_EXEC].map(i32::cast_unsigned);
        program.extend([
            jump_equal(number("mmap")?, 0, 5),
            load(argument(2)),
            statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, write | execute),
            jump_equal(write | execute, 0, 1),
            refuse(libc::EPERM),
            load(NUMBER),
        ]);
        for name in ["mprotect", "pkey_mprotect"] {
            program.extend([
                jump_equal(number(name)?, 0, 5),
                load(argument(2)),
                statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, execute),
                jump_equal(execute, 0, 1),
                refuse(libc::EPERM),
                load(NUMBER),
            ]);
        }
    }
    match allowed(unit)? {
        Some(names) => {
            for number in names.iter().filter_map(|name| number(name).ok()) {
                program.extend([jump_equal(number, 0, 1), give(ALLOW)]);
            }
            program.push(refuse(libc::EPERM));
        }
        None => program.push(give(ALLOW)),
    }
    Ok(program)
}

/// The system calls of SystemCallFilter=; none where systemd's lists are not to be had.
fn allowed(unit: &Unit) -> Result<Option<BTreeSet<String>>> {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!(
            "\n!!! NOT CHECKED: SystemCallFilter= of {}: there is no systemd-analyze\n",
            unit.name
        );
        return Ok(None);
    }
    // systemd always allows these to a list of what is allowed.
    let mut names = group("@default")?;
    for list in unit.all("Service.SystemCallFilter") {
        match list.strip_prefix('~') {
            Some(taken) => {
                let taken = group(taken)?;
                names.retain(|name| !taken.contains(name));
            }
            None => names.extend(group(list)?),
        }
    }
    Ok(Some(names))
}

/// The calls of one of systemd's groups, and of the groups in it.
fn group(name: &str) -> Result<BTreeSet<String>> {
    let output = Command::new("systemd-analyze")
        .args(["--no-pager", "syscall-filter", name])
        .output()?;
    ensure!(output.status.success(), "systemd knows no {name}");
    let text = String::from_utf8(output.stdout)?;
    let mut names = BTreeSet::new();
    for line in text
        .lines()
        .skip(1)
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
    {
        if line.starts_with('@') {
            names.extend(group(line)?);
        } else if !line.is_empty() {
            names.insert(line.to_owned());
        }
    }
    Ok(names)
}

fn number(name: &str) -> Result<u32> {
    let call: Sysno = name
        .parse()
        .ok()
        .with_context(|| format!("no system call {name}"))?;
    Ok(u32::try_from(call.id())?)
}

fn family(name: &str) -> Result<u32> {
    Ok(match name {
        "AF_UNIX" => libc::AF_UNIX,
        "AF_INET" => libc::AF_INET,
        "AF_INET6" => libc::AF_INET6,
        "AF_NETLINK" => libc::AF_NETLINK,
        other => bail!("{other} is not known here"),
    }
    .cast_unsigned())
}

fn statement(code: u32, k: u32) -> sock_filter {
    let code = u16::try_from(code).unwrap_or_default();
    sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn give(action: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, action)
}

fn refuse(error: i32) -> sock_filter {
    give(libc::SECCOMP_RET_ERRNO | error.cast_unsigned())
}

/// Skips `then` instructions if the loaded value is `k`, else `otherwise`.
fn jump_equal(k: u32, then: u8, otherwise: u8) -> sock_filter {
    let code = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let code = u16::try_from(code).unwrap_or_default();
    sock_filter {
        code,
        jt: then,
        jf: otherwise,
        k,
    }
}
