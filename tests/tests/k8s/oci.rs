//! The image that `make oci` builds, as tools that are not ours see it.

use std::fs;
use std::path::Path;
use std::process::Command;

use redis_sentinel_tests::scratch::Scratch;
use redis_sentinel_tests::{oci, tools};
use serde_json::Value;

/// Runs a program, which must succeed; what it printed.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program}: {error}: tests/setup.sh clients"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn sha256(file: &Path) -> String {
    let said = run("sha256sum", &[&file.display().to_string()]);
    said.split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn build(dir: &Path) -> oci::Image {
    let module = fs::read(tools::module()).expect("the module");
    oci::build(&module, "test", dir).expect("an image")
}

#[test]
fn umoci_unpacks_the_module() {
    let scratch = Scratch::new().expect("a scratch directory");
    let layout = scratch.file("image");
    let image = build(&layout);
    let bundle = scratch.file("bundle").display().to_string();
    // It checks every digest and size on the way.
    let from = format!("{}:test", layout.display());
    run(
        "umoci",
        &["unpack", "--rootless", "--image", &from, &bundle],
    );
    let root = Path::new(&bundle).join("rootfs");
    let files: Vec<_> = fs::read_dir(&root)
        .expect("the root")
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(files, ["plugin.wasm"]);
    let unpacked = sha256(&root.join("plugin.wasm"));
    assert_eq!(unpacked, sha256(&tools::module()));
    assert_eq!(unpacked, image.module);
}

/// What Istio's agent asks of an image: the last layer an ordinary one, and the module in it.
#[test]
fn skopeo_and_tar_find_what_istio_looks_for() {
    let scratch = Scratch::new().expect("a scratch directory");
    let layout = scratch.file("image");
    let image = build(&layout);
    let copy = scratch.file("copy");
    let [from, to] = [
        format!("oci-archive:{}.tar:test", layout.display()),
        format!("dir:{}", copy.display()),
    ];
    run(
        "skopeo",
        &["--insecure-policy", "copy", "--quiet", &from, &to],
    );
    let manifest = copy.join("manifest.json");
    assert_eq!(format!("sha256:{}", sha256(&manifest)), image.digest);

    let manifest: Value =
        serde_json::from_slice(&fs::read(&manifest).expect("a manifest")).expect("JSON");
    assert_eq!(
        manifest["annotations"]["module.wasm.image/variant"],
        "compat"
    );
    let layers = manifest["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 1);
    assert_eq!(
        layers[0]["mediaType"],
        "application/vnd.oci.image.layer.v1.tar+gzip"
    );
    let digest = layers[0]["digest"]
        .as_str()
        .expect("a digest")
        .trim_start_matches("sha256:");
    let layer = copy.join(digest).display().to_string();
    assert_eq!(run("tar", &["-tzf", &layer]), "plugin.wasm\n");
    let out = scratch.path().display().to_string();
    run("tar", &["-xzf", &layer, "-C", &out]);
    assert_eq!(
        sha256(&scratch.file("plugin.wasm")),
        sha256(&tools::module())
    );
}

#[test]
fn the_same_module_makes_the_same_image() {
    let scratch = Scratch::new().expect("a scratch directory");
    let [one, two] = ["one", "two"].map(|name| scratch.file(name));
    build(&one);
    build(&two);
    let archives = [&one, &two].map(|dir| fs::read(dir.with_extension("tar")).expect("an archive"));
    assert!(archives[0] == archives[1], "the archives differ");
    run(
        "diff",
        &["-r", &one.display().to_string(), &two.display().to_string()],
    );
}

/// What the tools above do when a byte is not what it was: so they can fail.
#[test]
fn a_changed_byte_is_found() {
    let scratch = Scratch::new().expect("a scratch directory");
    let layout = scratch.file("image");
    build(&layout);
    let largest = fs::read_dir(layout.join("blobs/sha256"))
        .expect("blobs")
        .flatten()
        .map(|entry| entry.path())
        .max_by_key(|path| fs::metadata(path).map_or(0, |meta| meta.len()))
        .expect("a blob");
    let mut bytes = fs::read(&largest).expect("a blob");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).expect("a blob");
    let from = format!("{}:test", layout.display());
    let bundle = scratch.file("bundle").display().to_string();
    let status = Command::new("umoci")
        .args(["unpack", "--rootless", "--image", &from, &bundle])
        .output()
        .expect("umoci")
        .status;
    assert!(!status.success());
}
