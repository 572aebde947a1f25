//! `make release`.

use anyhow::Result;
use redis_sentinel_tests::{release, tools};

fn main() -> Result<()> {
    let release = release::build(&tools::root().join("target/dist"))?;
    let shown = |path: &std::path::Path| {
        let path = path.strip_prefix(tools::root()).unwrap_or(path);
        path.display().to_string()
    };
    println!("{}: version {}", shown(&release.dir), release::VERSION);
    println!("{}: the same as one file", shown(&release.archive));
    println!("  sha256:{}", release.sha256);
    println!("Check it with `sha256sum -c SHA256SUMS` in the directory.");
    Ok(())
}
