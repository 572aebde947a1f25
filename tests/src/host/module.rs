//! The module under test: found once, compiled once, shared by all tests of the binary.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use wasmtime::{Config, Engine, Module, OptLevel};

/// Where `make wasm` puts the module; `REDIS_SENTINEL_WASM` names another one.
fn path() -> PathBuf {
    std::env::var_os("REDIS_SENTINEL_WASM").map_or_else(
        || {
            PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join("../target/wasm32-wasip1/release/redis_sentinel_filter.wasm")
        },
        PathBuf::from,
    )
}

/// The compiled module of this test binary.
pub fn module() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| {
        let path = path();
        let bytes = std::fs::read(&path)
            .unwrap_or_else(|e| panic!("{}: {e}; run `make wasm` first", path.display()));
        let mut config = Config::new();
        // Tests run the module for milliseconds: what counts is how soon it is compiled.
        config.cranelift_opt_level(OptLevel::None);
        let engine = Engine::new(&config).expect("an engine with a valid configuration");
        compile(&engine, &bytes, &path.with_extension("cwasm"))
    })
}

/// Compiles, or takes what an earlier test process compiled of the same bytes: where every test is a process of its own,
/// the compiler would otherwise take most of the time.
fn compile(engine: &Engine, bytes: &[u8], cache: &Path) -> Module {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let cache = cache.with_extension(format!("{:016x}.cwasm", hasher.finish()));
    if cache.exists() {
        // SAFETY: the file was written below, into the build's own directory, from the very bytes that its name hashes;
        // wasmtime itself refuses one of another version or configuration.
        #[allow(unsafe_code)]
        if let Ok(module) = unsafe { Module::deserialize_file(engine, &cache) } {
            return module;
        }
    }
    let module = Module::new(engine, bytes).expect("a valid module");
    // Written aside and renamed: another test process may look at this moment. Without a cache it is only slower.
    let aside = cache.with_extension(format!("{}.part", std::process::id()));
    let written = module
        .serialize()
        .is_ok_and(|code| std::fs::write(&aside, code).is_ok());
    let _ = if written {
        std::fs::rename(&aside, &cache)
    } else {
        std::fs::remove_file(&aside)
    };
    module
}
