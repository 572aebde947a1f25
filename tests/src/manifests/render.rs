//! Runs kustomize.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Document, parse};
use crate::scratch::Scratch;
use crate::tools;

/// What `make k8s` puts beside the manifests; git does not know it.
const MODULES: [&str; 2] = [
    "proxy/redis_sentinel_filter.wasm",
    "istio/module-file/redis_sentinel_filter.wasm",
];

/// What `make k8s` makes up; the tests take the example beside it.
const PASSWORDS: &str = "passwords/passwords.env";

/// Every directory below `k8s/` that `kubectl apply -k` can be given, relative to `k8s/`, in the order of their names.
pub fn kustomizations() -> Result<Vec<PathBuf>> {
    let root = tools::root().join("k8s");
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.ends_with("kustomization.yaml") && !is_component(&path)? {
                found.push(dir.strip_prefix(&root)?.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Components only change what another kustomization brings.
fn is_component(file: &Path) -> Result<bool> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Ok(parse(&text)?.iter().any(|part| part.kind() == "Component"))
}

/// What `kubectl apply -k k8s/<dir>` sends, with the module under test and the passwords of the example.
pub fn render(dir: impl AsRef<Path>) -> Result<Vec<Document>> {
    let (_scratch, root) = furnished()?;
    build(&root.join(dir.as_ref()))
}

/// What it sends for a kustomization of one's own, which stands beside the others: `k8s/mine/kustomization.yaml`.
pub fn render_own(text: &str) -> Result<Vec<Document>> {
    let (_scratch, root) = furnished()?;
    let dir = root.join("mine");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("kustomization.yaml"), text)?;
    build(&dir).with_context(|| text.to_owned())
}

/// A copy of `k8s/` after `make k8s`. So a test leaves no built file in the working tree, and takes none that is old.
fn furnished() -> Result<(Scratch, PathBuf)> {
    let scratch = Scratch::new()?;
    let root = scratch.file("k8s");
    copy(&tools::root().join("k8s"), &root)?;
    let built = tools::module();
    for file in MODULES.map(|file| root.join(file)) {
        if file.parent().is_some_and(Path::exists) {
            fs::copy(&built, &file).with_context(|| format!("{}: `make wasm`", built.display()))?;
        }
    }
    let passwords = root.join(PASSWORDS);
    let example = passwords.with_extension("env.example");
    if example.exists() {
        fs::copy(&example, &passwords)?;
    }
    Ok((scratch, root))
}

/// Renders a kustomization that stands anywhere.
pub fn build(dir: &Path) -> Result<Vec<Document>> {
    let output = Command::new(tools::kustomize())
        .arg("build")
        .arg(dir)
        .output()
        .context("kustomize: tests/setup.sh clients")?;
    // It warns of fields that are going away and still succeeds: a warning of today is a failure of tomorrow.
    if !output.status.success() || !output.stderr.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("kustomize build {}: {said}", dir.display());
    }
    parse(std::str::from_utf8(&output.stdout)?).with_context(|| dir.display().to_string())
}

/// A copy of a directory and all below it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            // `make k8s` writes passwords where the tree has an example.
            if target
                .extension()
                .is_some_and(|extension| extension == "example")
            {
                fs::copy(entry.path(), target.with_extension(""))?;
            }
        }
    }
    Ok(())
}
