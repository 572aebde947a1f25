//! The module's size. It does not grow unseen.

use std::fs;

use redis_sentinel_tests::tools;

/// What it took when this was last set, and a twentieth: another compiler may need that much.
const MOST_BYTES: u64 = 412_834 / 20 * 21;

#[test]
fn the_module_is_small() {
    let path = tools::module();
    let bytes = fs::metadata(&path).expect("the built module").len();
    assert!(
        bytes <= MOST_BYTES,
        "{} has {bytes} bytes, {MOST_BYTES} are allowed. Every sidecar holds it, and every start \
         waits for its compilation. What grew? Usually a format of floating point, a \
         map of yet another type, a derived reader of a large struct. If it is worth it, set the limit anew.",
        path.display()
    );
}
