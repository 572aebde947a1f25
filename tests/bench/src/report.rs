//! The page.
use crate::results::Results;
use anyhow::Result;
use std::path::Path;
/// Writes it.
pub fn write(_results: &Results, _out: &Path) -> Result<()> {
    Ok(())
}
