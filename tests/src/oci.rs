//! The module as an OCI image, without Docker: what Istio's WasmPlugin pulls, and what Kubernetes mounts as an image volume.
//!
//! It is the "compat" variant of the Wasm image specification: one ordinary layer with `plugin.wasm` in its root, and an
//! annotation that says so. (The other variant has media types of its own, which image volumes and many registries refuse,
//! and Istio reads both.) The same module always makes the same bytes.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What was built.
pub struct Image {
    /// By which a registry and `WasmPlugin.spec.sha256` know it.
    pub digest: String,
    /// The SHA-256 of the module inside.
    pub module: String,
}

/// Writes `dir` (an OCI layout with one image, tagged `tag`) and `dir`.tar (the same as an archive).
pub fn build(module: &[u8], tag: &str, dir: &Path) -> Result<Image> {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir.join("blobs/sha256")).with_context(|| dir.display().to_string())?;

    let tar = archive(&[("plugin.wasm", module, 0o644)])?;
    let diff_id = sha256(&tar);
    let layer = blob(dir, LAYER, &compress(&tar)?)?;
    // Nothing here runs on a machine, but the fields are required, and these two are refused by no tool.
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff_id}")] },
    });
    let config = blob(dir, CONFIG, config.to_string().as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [layer],
        "annotations": {
            "module.wasm.image/variant": "compat",
            "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
            "org.opencontainers.image.title": "redis-sentinel-filter",
            "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
        },
    });
    let mut manifest = blob(dir, MANIFEST, manifest.to_string().as_bytes())?;
    let digest = manifest["digest"].as_str().unwrap_or_default().to_owned();
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(dir.join("index.json"), index.to_string())?;
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;

    pack(dir)?;
    let module = sha256(module);
    Ok(Image { digest, module })
}

/// Writes one blob, and describes it.
fn blob(dir: &Path, media_type: &str, bytes: &[u8]) -> Result<Value> {
    let digest = sha256(bytes);
    fs::write(dir.join("blobs/sha256").join(&digest), bytes)?;
    let digest = format!("sha256:{digest}");
    Ok(json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() }))
}

/// The SHA-256 of these bytes, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A tar of these files (name, bytes, mode) that says nothing of who made it, or when.
pub fn archive(files: &[(&str, &[u8], u32)]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes, mode) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(u64::try_from(bytes.len())?);
        header.set_mode(*mode);
        header.set_mtime(0);
        tar.append_data(&mut header, name, *bytes)?;
    }
    Ok(tar.into_inner()?)
}

/// By gzip, so that the same bytes always become the same.
pub fn compress(bytes: &[u8]) -> Result<Vec<u8>> {
    // No name, no time, and always the same system.
    let gzip = GzBuilder::new().mtime(0).operating_system(255);
    let mut gzip = gzip.write(Vec::new(), Compression::best());
    gzip.write_all(bytes)?;
    Ok(gzip.finish()?)
}

/// The layout as one file: `podman load`, `skopeo copy oci-archive:…`.
fn pack(dir: &Path) -> Result<()> {
    let mut names = vec!["oci-layout".to_owned(), "index.json".to_owned()];
    let mut blobs = Vec::new();
    for entry in fs::read_dir(dir.join("blobs/sha256"))? {
        blobs.push(format!(
            "blobs/sha256/{}",
            entry?.file_name().to_string_lossy()
        ));
    }
    blobs.sort();
    names.extend(blobs);
    let mut contents = Vec::new();
    for name in &names {
        contents.push(fs::read(dir.join(name))?);
    }
    let files: Vec<_> = names
        .iter()
        .map(String::as_str)
        .zip(contents.iter().map(Vec::as_slice))
        .map(|(name, bytes)| (name, bytes, 0o644))
        .collect();
    let file = dir.with_extension("tar");
    fs::write(&file, archive(&files)?).with_context(|| file.display().to_string())
}
