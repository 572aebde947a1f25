//! Which programs of this machine stand for which image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::rootfs::Mount;
use crate::tools;

/// Where Debian's own programs are in the containers; their names in /usr/bin are links to here.
const STORE: &str = "/usr/libexec/image";

/// What an image of that name brings, as far as this machine can stand for it.
pub struct Image {
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub uid: u32,
    pub gid: u32,
    pub directory: PathBuf,
    pub links: Vec<(PathBuf, PathBuf)>,
    pub mounts: Vec<Mount>,
    /// `name:uid` of the users that it knows besides root.
    pub users: Vec<(&'static str, u32)>,
}

impl Image {
    /// The image of this reference.
    pub fn find(reference: &str, dir: &Path) -> Result<Self> {
        let (name, tag) = split(reference);
        let mut image = match name {
            "redis" => Self::redis(dir)?,
            "envoyproxy/envoy" => Self::envoy(tag.contains("distroless"), dir)?,
            "nicolas/webdis" => Self::webdis(dir)?,
            "busybox" => Self::with_shell(dir)?,
            _ => bail!(
                "no program of this machine stands for the image {reference} (tests/src/pods/image.rs)"
            ),
        };
        image.mounts.extend(certificates());
        Ok(image)
    }

    /// Redis' official image: Debian, its own user, no curl, no netcat. Our command instead of its entrypoint's script.
    fn redis(dir: &Path) -> Result<Self> {
        let mut image = Self::with_shell(dir)?;
        for name in [
            "redis-server",
            "redis-sentinel",
            "redis-cli",
            "redis-benchmark",
            "redis-check-aof",
            "redis-check-rdb",
        ] {
            image.program(name, &tools::redis(name))?;
        }
        image.command = words(&["redis-server"]);
        image.directory = "/data".into();
        image.users = vec![("redis", 999)];
        Ok(image)
    }

    /// Envoy's: with a shell, or without one ("distroless").
    fn envoy(distroless: bool, dir: &Path) -> Result<Self> {
        let mut image = if distroless {
            Self::bare(dir)?
        } else {
            Self::with_shell(dir)?
        };
        image.program("envoy", &tools::envoy())?;
        image.entrypoint = words(&["/usr/local/bin/envoy"]);
        image.command = words(&["-c", "/etc/envoy/envoy.yaml"]);
        image.users = vec![("envoy", 101), ("nonroot", 65532)];
        if distroless {
            (image.uid, image.gid) = (65532, 65532);
        }
        Ok(image)
    }

    /// Webdis' own is Alpine with Webdis and Redis in it.
    fn webdis(dir: &Path) -> Result<Self> {
        let mut image = Self::with_shell(dir)?;
        image.program("webdis", &tools::webdis().join("webdis"))?;
        // Where its script looks for the libraries.
        image.mount(&tools::webdis().join("lib"), "/usr/local/bin/lib");
        Ok(image)
    }

    /// Debian's smallest system: the packages that are on every Debian, and nothing else that this machine may have.
    fn with_shell(dir: &Path) -> Result<Self> {
        let mut image = Self::bare(dir)?;
        let bin = dir.join("bin");
        if !bin.exists() {
            make_links(&bin)?;
        }
        image.mount(&bin, "/usr/bin");
        image.mount(Path::new("/usr/bin"), &format!("{STORE}/bin"));
        image.mount(Path::new("/usr/sbin"), &format!("{STORE}/sbin"));
        for (name, target) in [("bin", "usr/bin"), ("sbin", "usr/bin"), ("usr/sbin", "bin")] {
            image.links.push((name.into(), target.into()));
        }
        Ok(image)
    }

    /// Libraries, and no program.
    fn bare(_dir: &Path) -> Result<Self> {
        let mut image = Self {
            entrypoint: vec![],
            command: vec![],
            uid: 0,
            gid: 0,
            directory: "/".into(),
            links: vec![],
            mounts: vec![],
            users: vec![],
        };
        for dir in ["lib", "lib32", "lib64"] {
            let there = Path::new("/usr").join(dir);
            if there.is_dir() {
                image.mount(&there, &format!("/usr/{dir}"));
                image.links.push((dir.into(), Path::new("usr").join(dir)));
            }
        }
        Ok(image)
    }

    /// Adds a program of this machine as /usr/local/bin/`name`.
    fn program(&mut self, name: &str, file: &Path) -> Result<()> {
        let file = fs::canonicalize(file).with_context(|| format!("{}", file.display()))?;
        self.mount(&file, &format!("/usr/local/bin/{name}"));
        Ok(())
    }

    fn mount(&mut self, source: &Path, target: &str) {
        self.mounts.push(Mount {
            source: source.into(),
            target: target.into(),
            read_only: true,
        });
    }

    /// /etc/passwd and /etc/group.
    pub fn accounts(&self) -> (String, String) {
        let mut passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n".to_owned();
        let mut group = "root:x:0:\nnogroup:x:65534:\n".to_owned();
        for (name, id) in &self.users {
            passwd += &format!("{name}:x:{id}:{id}::/nonexistent:/usr/sbin/nologin\n");
            group += &format!("{name}:x:{id}:\n");
        }
        (passwd, group)
    }
}

/// The name without registry, tag and digest, and the tag.
fn split(reference: &str) -> (&str, &str) {
    let name = reference.split('@').next().unwrap_or(reference);
    let name = name
        .trim_start_matches("docker.io/")
        .trim_start_matches("library/");
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (name, "latest"),
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn certificates() -> Option<Mount> {
    let dir = PathBuf::from("/etc/ssl/certs");
    dir.is_dir().then(|| Mount {
        source: dir.clone(),
        target: dir,
        read_only: true,
    })
}

/// A directory with the names of the programs of Debian's essential packages.
fn make_links(bin: &Path) -> Result<()> {
    let essential = run("dpkg-query", &["-W", "-f", "${Package} ${Essential}\n"])?;
    let packages = essential
        .lines()
        .filter_map(|line| line.strip_suffix(" yes"));
    let mut arguments = vec!["-L"];
    arguments.extend(packages);
    let files = run("dpkg-query", &arguments)?;
    fs::create_dir_all(bin)?;
    for file in files.lines().map(Path::new) {
        let place = file
            .parent()
            .and_then(Path::file_name)
            .and_then(|dir| dir.to_str());
        let (Some(place @ ("bin" | "sbin")), Some(name)) = (place, file.file_name()) else {
            continue;
        };
        let target = Path::new(STORE).join(place).join(name);
        let _ = std::os::unix::fs::symlink(target, bin.join(name));
    }
    // Names that Debian leaves to its alternatives, as its smallest system answers them.
    for (name, target) in [("awk", "mawk"), ("sh", "dash")] {
        let _ = fs::remove_file(bin.join(name));
        std::os::unix::fs::symlink(Path::new(STORE).join("bin").join(target), bin.join(name))?;
    }
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| {
            format!("{program}: the images of the tests are made of Debian's packages")
        })?;
    Ok(String::from_utf8(output.stdout)?)
}
