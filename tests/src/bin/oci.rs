//! `make oci`: the built module as an OCI image.

use std::fs;

use anyhow::{Context, Result};
use redis_sentinel_tests::{oci, tools};

fn main() -> Result<()> {
    let module = tools::module();
    let bytes = fs::read(&module).with_context(|| module.display().to_string())?;
    let tag = env!("CARGO_PKG_VERSION");
    let place = "target/oci/redis-sentinel-filter";
    let image = oci::build(&bytes, tag, &tools::root().join(place))?;
    println!(
        "{place}: an OCI image of the module, tagged {tag}; {place}.tar: the same as one file"
    );
    println!(
        "  the image    {}  (WasmPlugin: spec.sha256, without `sha256:`)",
        image.digest
    );
    println!("  the module   sha256:{}", image.module);
    println!("Push it with your tool, for example:");
    println!(
        "  skopeo copy oci:{place}:{tag} docker://registry.example.com/redis-sentinel-filter:{tag}"
    );
    Ok(())
}
