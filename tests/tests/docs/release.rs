//! What `make release` makes, unpacked by others' tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use redis_sentinel_tests::release::{self, Release, VERSION};
use redis_sentinel_tests::scratch::Scratch;
use redis_sentinel_tests::{manifests, tools};
use serde_json::Value;

fn run(program: impl AsRef<Path>, arguments: &[&str], dir: &Path) -> Result<String, String> {
    let program = program.as_ref();
    let mut command = Command::new(program);
    let output = command.args(arguments).current_dir(dir).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(said)
    }
}

fn build(scratch: &Scratch, name: &str) -> Release {
    release::build(&scratch.file(name)).expect("a release: `tests/setup.sh clients`, `make wasm`")
}

/// One test, as a release takes seconds to make. It is made twice: the same source makes the same bytes.
#[test]
fn a_release_is_what_it_says() {
    let scratch = Scratch::new().expect("a scratch directory");
    let [one, two] = ["one", "two"].map(|name| build(&scratch, name));
    assert_eq!(one.sha256, two.sha256);
    let dirs = [&one.dir, &two.dir].map(|dir| dir.display().to_string());
    run("diff", &["-r", &dirs[0], &dirs[1]], scratch.path()).expect("no difference");

    let [archive, out] = [&one.archive, scratch.path()].map(|path| path.display().to_string());
    run("tar", &["-xzf", &archive, "-C", &out], scratch.path()).expect("tar");
    let dir = scratch.file(&format!("envoy-redis-sentinel-{VERSION}"));
    it_has_one_version(&dir);
    it_can_be_used(&dir);
    it_makes_passwords(&dir);
    it_is_whole(&dir);
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The keys that the manifests read, and none of the example's values.
fn it_makes_passwords(dir: &Path) {
    let file = dir.join("k8s/passwords/passwords.env");
    run(dir.join("k8s/passwords/generate.sh"), &[], dir).expect("passwords");
    let made = fs::read_to_string(&file).expect("passwords.env");
    let example = fs::read_to_string(file.with_extension("env.example")).expect("an example");
    let keys = |text: &str| -> Vec<String> {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(key, _)| key.to_owned()).collect()
    };
    assert_eq!(keys(&made), keys(&example));
    assert!(!made.contains("change-me"), "{made}");
    fs::remove_file(file).expect("it was there");
}

fn it_is_whole(dir: &Path) {
    run("sha256sum", &["--strict", "-c", "SHA256SUMS"], dir).expect("the sums");
    let module = "redis_sentinel_filter.wasm";
    run("sha256sum", &["-c", &format!("{module}.sha256")], dir).expect("the module's sum");
    assert!(fs::read(dir.join(module)).expect("it") == fs::read(tools::module()).expect("it"));

    // Each file has its sum, and there is no password, not even an example's.
    let sums = fs::read_to_string(dir.join("SHA256SUMS")).expect("the sums");
    let mut all = Vec::new();
    files(dir, &mut all);
    assert_eq!(sums.lines().count(), all.len() - 1);
    for file in &all {
        let text = String::from_utf8_lossy(&fs::read(file).expect("a file")).into_owned();
        let rendered = file.parent().is_some_and(|parent| parent.ends_with("k8s"));
        assert!(!rendered || !text.contains("kind: Secret\n"), "{file:?}");
    }
    let sender = dir.join("systemd/prepare");
    let mode = run("stat", &["-c", "%a", &sender.display().to_string()], dir);
    assert_eq!(mode.as_deref(), Ok("755\n"));

    // A changed byte is found.
    fs::write(dir.join("LICENSE"), "do as you like\n").expect("it");
    assert!(run("sha256sum", &["--strict", "-c", "SHA256SUMS"], dir).is_err());
}

fn it_has_one_version(dir: &Path) {
    let text = |name: &str| fs::read_to_string(dir.join(name)).expect(name);
    let about: Value = serde_json::from_str(&text("release.json")).expect("JSON");
    assert_eq!(about["version"], VERSION);
    let sha256 = about["module"]["sha256"].as_str().expect("a sum");
    let head = format!("# envoy-redis-sentinel {VERSION}, module sha256:{sha256}\n");
    for name in ["envoy/redis.yaml", "systemd/envoy.yaml", "k8s/all.yaml"] {
        assert!(text(name).starts_with(&head), "{name}");
    }
    let image = format!("redis-sentinel-filter:{VERSION}");
    assert!(text("k8s/overlays-module-image.yaml").contains(&image));
    assert!(text("CHANGELOG.md").contains(&format!("[{VERSION}]")));
    let archive = format!("redis-sentinel-filter-{VERSION}.oci.tar");
    let from = format!("oci-archive:{archive}:{VERSION}");
    let digest = run(
        "skopeo",
        &["inspect", "--format", "{{.Digest}}", &from],
        dir,
    );
    let digest = digest.expect("an image");
    assert_eq!(
        digest.trim(),
        about["image"]["digest"].as_str().expect("one")
    );
}

fn it_can_be_used(dir: &Path) {
    // Where there is no clone around it.
    for entry in fs::read_dir(dir.join("envoy")).expect("envoy/") {
        let file = entry.expect("an entry").path();
        let arguments = ["--mode", "validate", "-c", &file.display().to_string()];
        run(tools::envoy(), &arguments, dir).expect("a valid configuration");
    }
    let mut rendered = 0;
    for entry in fs::read_dir(dir.join("k8s")).expect("k8s/") {
        let file = entry.expect("an entry").path();
        if file.is_file() {
            let text = fs::read_to_string(&file).expect("a file");
            let documents = manifests::parse(&text).expect("YAML");
            assert!(!documents.is_empty(), "{file:?}");
            rendered += 1;
        }
    }
    assert!(rendered >= 8, "only {rendered} manifests");
    // The rest is rendered by whoever uses it.
    manifests::build(&dir.join("k8s/istio/example")).expect("the example of a mesh");
}
