//! The shell blocks of the pages: which command is tried where.

use redis_sentinel_tests::tools;

use crate::markdown::read;

/// Every page with commands to type.
pub const PAGES: [&str; 11] = [
    "README.md",
    "SECURITY.md",
    "docs/getting-started.md",
    "docs/configuration.md",
    "docs/operations.md",
    "docs/migration.md",
    "docs/comparison.md",
    "docs/release.md",
    "k8s/README.md",
    "k8s/istio/README.md",
    "systemd/README.md",
];

/// Who tries a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Class {
    /// `live.rs`, as it stands, beside a running `make run`.
    Local,
    /// `live.rs` by the recipe's last line, or by the test that the table below names.
    Make,
    /// `kubectl.rs`, against the rendered manifests.
    Kubectl,
    /// The test of the table below.
    Elsewhere,
}

/// Commands that cannot be tried beside `make run`: how they begin, the test that does the same, and a word of it.
const ELSEWHERE: [(&str, &str, &str); 15] = [
    // Builds, which are there when tests run.
    ("make wasm", "Makefile", "$(MODULE)"),
    (
        "make k8s",
        "tests/src/manifests/render.rs",
        "after `make k8s`",
    ),
    // The guide's own commands are carried out from the page itself.
    (
        "install -",
        "tests/tests/k8s/servers.rs",
        "block.contains(\"install -\")",
    ),
    (
        "systemctl ",
        "tests/tests/docs/shell.rs",
        "fn every_unit_exists",
    ),
    (
        "journalctl ",
        "tests/tests/docs/shell.rs",
        "fn every_unit_exists",
    ),
    (
        "export REDIS_PASSWORD=",
        "tests/tests/k8s/servers.rs",
        "REDIS_PASSWORD",
    ),
    (
        "python3 systemd/example/",
        "tests/tests/k8s/servers.rs",
        "run_example(\"sender\")",
    ),
    // In the unpacked release.
    (
        "sha256sum --strict -c SHA256SUMS",
        "tests/tests/docs/release.rs",
        "\"--strict\", \"-c\", \"SHA256SUMS\"",
    ),
    (
        "envoy --mode validate -c",
        "tests/tests/docs/release.rs",
        "\"--mode\", \"validate\", \"-c\"",
    ),
    (
        "k8s/passwords/generate.sh",
        "tests/tests/docs/release.rs",
        "fn it_makes_passwords",
    ),
    // Needs a registry; the image itself is read by skopeo.
    ("skopeo copy ", "tests/tests/k8s/oci.rs", "oci-archive:"),
    // Needs a mesh; what it would print are the listeners that these tests merge and run.
    (
        "istioctl ",
        "tests/tests/k8s/sidecar/shapes.rs",
        "fn every_shape_",
    ),
    // A name for what the next line asks for; what it stands for is looked at by itself.
    ("P=$(kubectl ", "tests/tests/docs/kubectl.rs", "fn inner"),
    ("make oci", "tests/tests/k8s/oci.rs", "oci::build"),
    (
        "make release",
        "tests/tests/docs/release.rs",
        "release::build",
    ),
];

/// One fenced block of shell.
pub struct Block {
    pub page: &'static str,
    pub commands: Vec<String>,
}

pub fn class(command: &str) -> Class {
    if ELSEWHERE
        .iter()
        .any(|(begins, ..)| command.starts_with(begins))
    {
        Class::Elsewhere
    } else if command.starts_with("kubectl ") {
        Class::Kubectl
    } else if command.starts_with("make ") {
        Class::Make
    } else {
        Class::Local
    }
}

/// The blocks of a page, in their order.
pub fn blocks(page: &'static str) -> Vec<Block> {
    let text = read(page);
    let mut found = Vec::new();
    let mut open: Option<Vec<&str>> = None;
    for line in text.lines() {
        match (line.trim(), &mut open) {
            ("```sh", None) => open = Some(Vec::new()),
            ("```", Some(_)) => {
                let lines = open.take().unwrap_or_default();
                let commands = commands(&lines);
                found.push(Block { page, commands });
            }
            (line, Some(lines)) => lines.push(line),
            _ => {}
        }
    }
    assert!(open.is_none(), "{page}: a block without an end");
    found
}

/// Lines that go on (`\`) joined, remarks and empty lines left out.
fn commands(lines: &[&str]) -> Vec<String> {
    let text = lines.join("\n").replace("\\\n", " ");
    let plain = text.lines().map(|line| match line.split_once(" # ") {
        Some((command, _)) => command.trim().to_owned(),
        None => line.trim().to_owned(),
    });
    plain.filter(|line| !line.is_empty()).collect()
}

#[test]
fn every_page_is_looked_at() {
    for entry in std::fs::read_dir(tools::root().join("docs")).expect("docs/") {
        let path = entry.expect("an entry").path();
        let page = format!("docs/{}", path.file_name().expect("a name").display());
        let is_page = page.ends_with(".md");
        assert!(
            !is_page || PAGES.contains(&page.as_str()),
            "{page} is not looked at"
        );
    }
    let all: usize = PAGES.iter().map(|page| blocks(page).len()).sum();
    assert!(all > 30, "where are the commands?");
}

/// What is tried elsewhere is.
#[test]
fn every_exception_has_its_test() {
    for (begins, file, word) in ELSEWHERE {
        assert!(read(file).contains(word), "{begins}: {file} has no {word}");
        let used = |block: &Block| block.commands.iter().any(|it| it.starts_with(begins));
        let used = PAGES.iter().any(|page| blocks(page).iter().any(used));
        let spoken = begins.starts_with("make ") || begins.starts_with("journalctl");
        assert!(used || spoken, "no page has {begins}: the exception is old");
    }
}

#[test]
fn every_unit_exists() {
    for page in PAGES {
        for command in blocks(page).iter().flat_map(|block| &block.commands) {
            let mut words = command.split_whitespace();
            if !matches!(words.next(), Some("systemctl" | "journalctl")) {
                continue;
            }
            let verbs = [
                "enable",
                "--now",
                "daemon-reload",
                "-u",
                "disable",
                "restart",
            ];
            for unit in words.filter(|word| !verbs.contains(word)) {
                let file = tools::root().join(format!("systemd/{unit}.service"));
                assert!(file.exists(), "{page}: {command}: there is no unit {unit}");
            }
        }
    }
}

#[test]
fn a_command_is_read_as_a_shell_would() {
    let lines = ["a b \\", "  c   # why", "", "d # e"];
    assert_eq!(commands(&lines), ["a b    c", "d"]);
    assert_eq!(class("kubectl get pod"), Class::Kubectl);
    assert_eq!(class("make run"), Class::Make);
    assert_eq!(class("install -d x"), Class::Elsewhere);
    assert_eq!(class("curl -s x"), Class::Local);
}
