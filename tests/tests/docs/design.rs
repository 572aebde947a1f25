//! DESIGN.md and SECURITY.md name tests as proof: they must exist.

use redis_sentinel_tests::tools;

use crate::markdown::{read, spans};

/// `wasm/fence.rs::its_bound_ends_it_without_loss`: a file below one of these, and a function in it.
const DIRS: [&str; 2] = ["tests/tests", "filter"];

#[test]
fn every_test_named_as_proof_exists() {
    for page in ["DESIGN.md", "SECURITY.md"] {
        proofs_exist(page);
    }
}

fn proofs_exist(page: &str) {
    let page = read(page);
    let mut named = 0;
    for span in spans(&page) {
        let Some((file, test)) = span.split_once(".rs::") else {
            continue;
        };
        named += 1;
        let path = DIRS
            .iter()
            .map(|dir| format!("{dir}/{file}.rs"))
            .find(|path| tools::root().join(path).exists())
            .unwrap_or_else(|| panic!("{span}: there is no such file"));
        assert!(
            read(&path).contains(&format!("fn {test}(")),
            "{path} has no test {test}"
        );
    }
    assert!(named >= 10, "the proofs are gone");
}
