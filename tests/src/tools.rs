//! Where the programs and the files of this repository are.

use std::env;
use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Envoy: the pinned one that `tests/setup.sh` fetched, or `$ENVOY`.
pub fn envoy() -> PathBuf {
    env::var_os("ENVOY").map_or_else(
        || root().join("target/tools/envoy-1.40.0/envoy"),
        PathBuf::from,
    )
}

/// The module under test, as `make wasm` builds it, or `$MODULE`.
pub fn module() -> PathBuf {
    let built = "target/wasm32-wasip1/release/redis_sentinel_filter.wasm";
    env::var_os("MODULE").map_or_else(|| root().join(built), PathBuf::from)
}

/// A program of Redis: from the PATH, else from where `tests/setup.sh` put it.
pub fn redis(program: &str) -> PathBuf {
    let own = root().join("target/tools/redis").join(program);
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
        .unwrap_or(own)
}

/// kustomize, as `tests/setup.sh clients` fetched it.
pub fn kustomize() -> PathBuf {
    root().join("target/tools/kustomize/kustomize")
}

/// The directory of Webdis: a script of that name, and `lib/`, as `tests/setup.sh clients` fetched it.
pub fn webdis() -> PathBuf {
    root().join("target/tools/webdis")
}
