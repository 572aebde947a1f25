//! `k8s/monitoring`: the alerts by Prometheus' own tool, and every metric that alerts and dashboard name in a real run.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use redis_sentinel_tests::fault::Fault;
use redis_sentinel_tests::resp::Connection;
use redis_sentinel_tests::tools;
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;
use serde_json::Value;

const ALERTS: &str = "k8s/monitoring/alerts.yaml";
const DASHBOARD: &str = "k8s/monitoring/dashboard.json";
const TESTS: &str = "tests/tests/k8s/monitoring/alerts-test.yaml";

fn read(file: &str) -> Result<String> {
    let path = tools::root().join(file);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn promtool(args: &[&str]) -> Result<()> {
    let program = tools::root().join("target/tools/prometheus/promtool");
    let output = Command::new(program)
        .args(args)
        .current_dir(tools::root())
        .output()
        .context("promtool: tests/setup.sh clients")?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
    Ok(())
}

#[test]
fn the_alerts_fire_when_they_should_and_no_sooner() -> Result<()> {
    promtool(&["check", "rules", ALERTS])?;
    promtool(&["test", "rules", TESTS])
}

/// Each alert stands in a test that expects it and in one that expects it not.
#[test]
fn every_alert_is_tried() -> Result<()> {
    let tests = read(TESTS)?;
    for line in read(ALERTS)?.lines() {
        if let Some(alert) = line.trim().strip_prefix("- alert: ") {
            let quiet = format!("alertname: {alert}, exp_alerts: []");
            let fires = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"");
            assert!(tests.contains(&quiet) && tests.contains(&fires), "{alert}");
        }
    }
    Ok(())
}

/// The words of a text that begin as our metrics do. One that goes on as a regular expression names what begins so.
fn metrics(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let pieces = text.split("redis_sentinel_").skip(1);
    for piece in pieces {
        let end = piece.find(|c: char| !c.is_ascii_lowercase() && c != '_');
        found.insert(format!(
            "redis_sentinel_{}",
            &piece[..end.unwrap_or(piece.len())]
        ));
    }
    found
}

/// Every `expr` and query of a dashboard.
fn queries(value: &Value, found: &mut String) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| queries(item, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if ["expr", "query", "definition"].contains(&name.as_str()) => {
                        found.push_str(text);
                        found.push('\n');
                    }
                    _ => queries(value, found),
                }
            }
        }
        _ => {}
    }
}

/// What alerts and dashboard ask for.
fn asked() -> Result<BTreeSet<String>> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)?)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let mut ids: Vec<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == count && count > 10, "ids of panels: {ids:?}");
    let mut text = String::new();
    queries(&dashboard, &mut text);
    let rules = read(ALERTS)?;
    let lines = rules
        .lines()
        .filter(|line| !line.contains("escription") && !line.starts_with('#'));
    text.extend(lines.flat_map(|line| [line, "\n"]));
    Ok(metrics(&text))
}

/// A failover that holds, fences, switches and loses a Sentinel leaves all of them in `/stats/prometheus`.
#[test]
fn every_metric_that_is_asked_for_exists_after_a_run() -> Result<()> {
    let asked = asked()?;
    assert!(asked.len() > 15, "{asked:?}");
    let mut trial = Trial::start()?;
    let old = trial.cluster.master().context("no master")?;
    let load = trial.load(4)?;
    wait::until_true("every client to write", wait::LONG, || {
        load.all_write_to(old)
    })?;
    trial.strike(Fault::Planned, old)?;
    // Who comes while a promotion is under way is held.
    let new = wait::until("the new master", wait::LONG, || {
        let mut client = Connection::open(trial.envoy.port, wait::LONG).ok()?;
        client.call(&["PING"]).ok()?;
        trial.cluster.master().filter(|master| *master != old)
    })?;
    wait::until_true("every client to write again", wait::LONG, || {
        load.all_write_to(new)
    })?;
    drop(load.stop());
    trial.cluster.sentinels[0].process().kill();
    let page = || trial.envoy.admin("/stats/prometheus").unwrap_or_default();
    let shown = |page: &str, metric: &str| {
        page.lines()
            .any(|line| line.starts_with(metric) && line.contains("{master_name=\"mymaster\""))
    };
    let mut missing = Vec::new();
    let all = wait::until_true("all metrics", wait::LONG, || {
        let page = page();
        missing = asked
            .iter()
            .filter(|metric| !shown(&page, metric))
            .collect();
        missing.is_empty()
    });
    all.with_context(|| format!("{missing:?}\n{}", page()))?;
    // Whatever else a loaded machine makes of it: one node is the master, the first one no longer, and a cause is told.
    let said = |page: &str, metric: &str, label: &str, value: &str| {
        let line = format!("redis_sentinel_{metric}{{master_name=\"mymaster\",{label}}} {value}");
        page.lines().any(|known| known == line)
    };
    wait::until_true("the labels", wait::LONG, || {
        let page = page();
        let master = trial.cluster.master().unwrap_or_default();
        let node = |port: u16| format!("node=\"127.0.0.1:{port}\"");
        let causes = ["promoted_slave", "switch_master", "newer_epoch"];
        let caused = causes.map(|cause| format!("cause=\"{cause}\""));
        said(&page, "current_master", &node(master), "1")
            && (master == old || said(&page, "current_master", &node(old), "0"))
            && caused
                .iter()
                .any(|cause| !said(&page, "switches_total", cause, "0"))
            && said(&page, "switches_total", "cause=\"own_role\"", "0")
    })
    .with_context(page)?;
    Ok(())
}

#[test]
fn a_metric_is_found_in_a_query() {
    let text = "sum(rate(redis_sentinel_a_bucket{x=\"y\"}[5m])) > redis_sentinel_b";
    let names = ["redis_sentinel_a_bucket", "redis_sentinel_b"];
    assert_eq!(metrics(text), names.map(str::to_owned).into());
}
