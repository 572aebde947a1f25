//! Only in a build for tests, never in the shipped module: a client's word makes the module trap, as a defect would.

use crate::host;

const WORD: &[u8] = b"TRAP-FOR-TESTS";

/// Looks at the client's bytes of the current callback.
pub fn at_the_word() {
    let bytes = host::bytes(host::Bytes::Downstream).unwrap_or_default();
    if bytes.windows(WORD.len()).any(|window| window == WORD) {
        // `unreachable` in Wasm: what a panic comes down to here.
        std::process::abort();
    }
}
