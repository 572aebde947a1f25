//! Envoy refuses what the module refuses, before it takes a connection.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use redis_sentinel_tests::envoy::validate;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::scratch::Scratch;
use redis_sentinel_tests::tools;
use serde_json::{Value, json};

#[test]
fn every_shipped_configuration_is_valid() -> Result<()> {
    for entry in fs::read_dir(tools::root().join("envoy"))? {
        let file = entry?.path();
        if file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let mut command = Command::new(tools::envoy());
        command
            .arg("-c")
            .arg(&file)
            .args(["--mode", "validate"])
            .current_dir(tools::root());
        let output = command.output().context("cannot start Envoy")?;
        assert!(
            output.status.success(),
            "{}:\n{}",
            file.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// `path` is what the operator must be able to find in what Envoy prints.
fn assert_refused(root_id: &str, field: &str, value: &Value, path: &str) -> Result<()> {
    let (scratch, mut ports) = (Scratch::new()?, PortBlock::claim()?);
    let config = Config::from_shipped("envoy/redis.yaml", &mut ports)?;
    validate(&config, scratch.path()).context("the configuration is fine as it is")?;
    let Err(error) = validate(&config.plugin(root_id, field, value), scratch.path()) else {
        panic!("{root_id} accepts {field} = {value}");
    };
    assert!(
        format!("{error:#}").contains(path),
        "{root_id} with {field} = {value} does not name {path}:\n{error:#}"
    );
    Ok(())
}

#[test]
fn a_field_that_does_not_exist_is_named() -> Result<()> {
    assert_refused("redis_router", "hold_timout", &json!("1s"), "hold_timout")
}

#[test]
fn a_bad_duration_is_named() -> Result<()> {
    assert_refused(
        "sentinel_watch",
        "poll_interval",
        &json!("fast"),
        "poll_interval",
    )
}

#[test]
fn a_bad_role_is_named() -> Result<()> {
    assert_refused("redis_router", "role", &json!("slave"), "role")
}

#[test]
fn an_empty_list_of_masters_is_named() -> Result<()> {
    assert_refused("sentinel_watch", "masters", &json!([]), "masters")
}

#[test]
fn an_element_is_named_by_its_place() -> Result<()> {
    assert_refused(
        "sentinel_watch",
        "masters",
        &json!(["mymaster", 7]),
        "masters[1]",
    )
}
