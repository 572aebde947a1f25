//! The schemas that Kubernetes publishes for each version, by a tool that is not ours.

use std::fs;
use std::process::Command;

use redis_sentinel_tests::manifests::Document;
use redis_sentinel_tests::scratch::Scratch;
use redis_sentinel_tests::tools;

/// The oldest version that these files are for, and the newest that there is.
pub const VERSIONS: [&str; 2] = ["1.31", "1.37"];

/// What it says against the documents, a line each.
pub fn check(documents: &[Document], version: &str) -> Vec<String> {
    let scratch = Scratch::new().expect("a scratch directory");
    let file = scratch.file("documents.yaml");
    let texts: Vec<_> = documents.iter().map(|d| d.json().to_string()).collect();
    fs::write(&file, texts.join("\n---\n")).expect("the scratch directory");
    let dir = tools::root().join("target/tools/kubernetes-validate");
    let output = Command::new("python3")
        .arg(dir.join("bin/kubernetes-validate"))
        .args(["--strict", "--kubernetes-version", version])
        .arg(&file)
        .env("PYTHONPATH", &dir)
        .output()
        .expect("python3");
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let lines = said.iter().flat_map(|text| text.lines());
    // A kind that it does not know is only a warning to it. `INFO … passed` is all that we want to hear.
    let complaints: Vec<_> = lines
        .filter(|line| !line.starts_with("INFO"))
        .map(str::to_owned)
        .collect();
    assert!(
        output.status.success() || !complaints.is_empty(),
        "it failed without a word"
    );
    complaints
}
