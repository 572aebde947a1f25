//! The secrets of the tests: all of them can be recognised, so that the harness sees one wherever none belongs.

/// Part of every password that a test makes up.
pub const MARK: &str = "hush";

/// What a private key begins with, as `openssl` writes it.
const KEY: &str = "PRIVATE KEY";

/// The password with this name.
pub fn password(name: &str) -> String {
    format!("{MARK}-{name}")
}

/// The first line that holds a secret.
pub fn told(text: &str) -> Option<&str> {
    text.lines()
        .find(|line| line.contains(MARK) || line.contains(KEY))
}

#[test]
fn a_secret_is_recognised() {
    let text = format!("one\ntwo {} two\n", password("sentinel"));
    assert_eq!(told(&text), Some("two hush-sentinel two"));
    assert_eq!(
        told("-----BEGIN EC PRIVATE KEY-----"),
        Some("-----BEGIN EC PRIVATE KEY-----")
    );
    assert_eq!(told("Credentials(…)\n"), None);
}
