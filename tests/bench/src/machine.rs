//! What it was measured on, and with which versions of everything.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use redis_sentinel_tests::tools;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::peers;

/// The machine and the programs on it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// The processor, as it calls itself.
    pub processor: String,
    /// How many of it the system sees.
    pub processors: usize,
    /// Bytes.
    pub memory: u64,
    /// The kernel's release, without its builder's suffix.
    pub kernel: String,
    /// Each program and its version.
    pub versions: Vec<(String, String)>,
    /// Bytes of the module.
    pub module_bytes: u64,
    /// Its SHA-256.
    pub module_sha256: String,
}

/// When, and on which code, something was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Occasion {
    /// UTC.
    pub at: String,
    /// The commit.
    pub commit: String,
    /// Whether files that git knows differed from it.
    pub dirty: bool,
}

impl Machine {
    /// This one.
    pub fn this() -> Result<Self> {
        let info = fs::read_to_string("/proc/cpuinfo")?;
        let memory = fs::read_to_string("/proc/meminfo")?;
        let module = fs::read(tools::module()).context("the module is not built")?;
        let kb = field(&memory, "MemTotal").and_then(|value| value.split(' ').next()?.parse().ok());
        let hash = Sha256::digest(&module);
        Ok(Self {
            processor: field(&info, "model name").unwrap_or("unknown").to_owned(),
            processors: std::thread::available_parallelism()?.get(),
            memory: kb.unwrap_or(0u64) << 10,
            kernel: upstream_release(&said(Command::new("uname").arg("-r"))),
            versions: versions(),
            module_bytes: module.len() as u64,
            module_sha256: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

/// Without what a builder has appended: `6.1.0` of `6.1.0-28-amd64`.
fn upstream_release(release: &str) -> String {
    release.split('-').next().unwrap_or_default().to_owned()
}

impl Occasion {
    /// Now, and here.
    pub fn now() -> Self {
        let git = |arguments: &[&str]| {
            let mut command = Command::new("git");
            said(command.args(arguments).current_dir(tools::root()))
        };
        Self {
            at: said(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M"])),
            commit: git(&["rev-parse", "HEAD"]),
            // What the bench itself writes is no change of what it measured.
            dirty: !git(&[
                "status",
                "--porcelain",
                "-uno",
                "--",
                ".",
                ":!docs/benchmarks",
            ])
            .is_empty(),
        }
    }
}

fn versions() -> Vec<(String, String)> {
    let first = |program: &Path, argument: &str| said(Command::new(program).arg(argument));
    let python = tools::root().join("target/tools/python");
    let redis_py = said(
        Command::new("python3")
            .args(["-c", "import redis; print(redis.__version__)"])
            .env("PYTHONPATH", python),
    );
    let list = [
        ("Envoy", of_envoy(&first(&tools::envoy(), "--version"))),
        ("Redis", first(&tools::redis("redis-server"), "--version")),
        ("HAProxy", first(&peers::program("haproxy"), "-v")),
        ("nutcracker", first(&peers::program("nutcracker"), "-V")),
        ("redis-py", redis_py),
        ("rustc", first(Path::new("rustc"), "--version")),
    ];
    list.map(|(name, text)| (name.to_owned(), version(&text)))
        .to_vec()
}

/// `/where/it/is/envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`
fn of_envoy(text: &str) -> String {
    let parts = text.rsplit_once("version:").map(|(_, parts)| parts);
    let version = parts.and_then(|parts| parts.split('/').nth(1));
    version.unwrap_or(text).to_owned()
}

/// The first word that looks like a version.
fn version(text: &str) -> String {
    let is_version = |word: &&str| {
        let number = word.strip_prefix("v=").unwrap_or(word);
        number.contains('.') && number.starts_with(|first: char| first.is_ascii_digit())
    };
    let words = text.split_whitespace().map(|word| {
        let rest = word.strip_prefix("nutcracker-").unwrap_or(word);
        rest.strip_prefix("v=").unwrap_or(rest)
    });
    let mut words = words.filter(is_version);
    words.next().unwrap_or("unknown").to_owned()
}

/// What a command prints, in one line; nothing if it fails.
fn said(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let Ok(output) = output else {
        return String::new();
    };
    // nutcracker tells its version on the other stream.
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        let envoy =
            of_envoy("/opt/envoy-1.40/envoy  version: 0123abc/1.40.0/Clean/RELEASE/BoringSSL");
        for (said, expected) in [
            (envoy.as_str(), "1.40.0"),
            (
                "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0",
                "7.0.15",
            ),
            (
                "HAProxy version 2.6.12-1+deb12u3 2025/10/03 - https://haproxy.org/",
                "2.6.12-1+deb12u3",
            ),
            (
                "This is nutcracker-0.5.0\nasync event backend: epoll",
                "0.5.0",
            ),
            ("rustc 1.95.0 (59807616e 2026-04-14)", "1.95.0"),
            ("", "unknown"),
        ] {
            assert_eq!(version(said), expected, "{said}");
        }
    }

    #[test]
    fn the_processor_is_found() {
        let info = "processor\t: 0\nmodel name\t: Some CPU @ 2.90GHz\n";
        assert_eq!(field(info, "model name"), Some("Some CPU @ 2.90GHz"));
        assert_eq!(field(info, "bogomips"), None);
    }
}
