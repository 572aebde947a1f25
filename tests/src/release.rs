//! `make release`: what somebody needs who has no clone, in one directory and in one archive.
//!
//! The same source makes the same bytes: nothing here knows the time, the machine or the user. Passwords are never part of
//! it, not even the examples'.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::manifests::{self, Document};
use crate::scratch::Scratch;
use crate::{oci, tools};

/// What is released.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

const MODULE: &str = "redis_sentinel_filter.wasm";
/// Where the configurations of the clone find the module.
const BUILT: &str = "target/wasm32-wasip1/release/redis_sentinel_filter.wasm";

/// The files of a release by their place in it: bytes and mode.
type Files = BTreeMap<String, (Vec<u8>, u32)>;

/// What was made.
pub struct Release {
    /// The directory.
    pub dir: PathBuf,
    /// The same as one file.
    pub archive: PathBuf,
    /// Its SHA-256.
    pub sha256: String,
}

/// Writes `<parent>/<version>/` and `<parent>/envoy-redis-sentinel-<version>.tar.gz`.
pub fn build(parent: &Path) -> Result<Release> {
    let files = files()?;
    let dir = parent.join(VERSION);
    let _ = fs::remove_dir_all(&dir);
    for (name, (bytes, mode)) in &files {
        let file = dir.join(name);
        fs::create_dir_all(file.parent().context("no directory")?)?;
        fs::write(&file, bytes).with_context(|| file.display().to_string())?;
        fs::set_permissions(&file, fs::Permissions::from_mode(*mode))?;
    }
    let top = format!("envoy-redis-sentinel-{VERSION}");
    let names: Vec<_> = files.keys().map(|name| format!("{top}/{name}")).collect();
    let entries = names.iter().zip(files.values());
    let entries: Vec<_> = entries
        .map(|(name, (bytes, mode))| (name.as_str(), bytes.as_slice(), *mode))
        .collect();
    let packed = oci::compress(&oci::archive(&entries)?)?;
    let archive = parent.join(format!("{top}.tar.gz"));
    fs::write(&archive, &packed).with_context(|| archive.display().to_string())?;
    Ok(Release {
        dir,
        archive,
        sha256: oci::sha256(&packed),
    })
}

fn files() -> Result<Files> {
    let built = tools::module();
    let module = fs::read(&built).with_context(|| format!("{}: `make wasm`", built.display()))?;
    ensure!(
        !holds(&module, b"\x04name") && !holds(&module, b".debug_"),
        "{} is not stripped",
        built.display()
    );
    let sha256 = oci::sha256(&module);
    let head = format!("# envoy-redis-sentinel {VERSION}, module sha256:{sha256}\n");
    let mut files = Files::new();
    let mut add = |name: String, bytes: Vec<u8>, mode: u32| {
        files.insert(name, (bytes, mode));
    };

    let scratch = Scratch::new()?;
    let layout = scratch.file("image");
    let image = oci::build(&module, VERSION, &layout)?;
    let archive = fs::read(layout.with_extension("tar"))?;
    add(
        format!("redis-sentinel-filter-{VERSION}.oci.tar"),
        archive,
        0o644,
    );
    let about = json!({
        "version": VERSION,
        "module": { "file": MODULE, "sha256": sha256 },
        "image": { "digest": image.digest },
    });
    add("release.json".into(), format!("{about:#}\n").into(), 0o644);
    add(
        format!("{MODULE}.sha256"),
        format!("{sha256}  {MODULE}\n").into(),
        0o644,
    );

    for name in [
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "DESIGN.md",
        "SECURITY.md",
    ] {
        let file = tools::root().join(name);
        add(name.into(), fs::read(file).context(name)?, 0o644);
    }
    for dir in ["docs", "envoy", "systemd", "k8s/istio", "k8s/passwords"] {
        for (name, path) in tree(&tools::root().join(dir))? {
            let mode = 0o644 | fs::metadata(&path)?.permissions().mode() & 0o111;
            let mut bytes = fs::read(&path).with_context(|| path.display().to_string())?;
            if name.ends_with("envoy.yaml") || dir == "envoy" {
                let text = String::from_utf8(bytes)?.replace(BUILT, MODULE);
                bytes = (head.clone() + &text).into();
            }
            add(format!("{dir}/{name}"), bytes, mode);
        }
    }
    add(
        format!("k8s/istio/module-file/{MODULE}"),
        module.clone(),
        0o644,
    );
    for dir in manifests::kustomizations()? {
        if let Some(text) = rendered(&dir, &head)? {
            let name = dir.display().to_string().replace('/', "-");
            add(format!("k8s/{name}.yaml"), text.into(), 0o644);
        }
    }
    add(MODULE.into(), module, 0o644);

    let mut sums = String::new();
    for (name, (bytes, _)) in &files {
        writeln!(sums, "{}  {name}", oci::sha256(bytes))?;
    }
    files.insert("SHA256SUMS".into(), (sums.into(), 0o644));
    Ok(files)
}

/// What `kubectl apply -k` would send, without Secrets. None, if nothing is left.
fn rendered(dir: &Path, head: &str) -> Result<Option<String>> {
    let mut documents = manifests::render(dir)?;
    documents.retain(|document: &Document| document.kind() != "Secret");
    if documents.is_empty() {
        return Ok(None);
    }
    let mut text = head.to_owned();
    for document in documents {
        write!(text, "---\n{}", yaml_serde::to_string(document.json())?)?;
    }
    Ok(Some(text))
}

/// All files below a directory, but those that git does not know: what `make k8s` has put there.
fn tree(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if !path.ends_with(MODULE) && !path.ends_with("passwords/passwords.env") {
                let name = path.strip_prefix(root)?.display().to_string();
                found.push((name, path));
            }
        }
    }
    Ok(found)
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
