//! `/ready`: the echo behind it answers only while every master is known.

use redis_sentinel_tests::host::Heartbeat;
use serde_json::json;

use crate::nodes::Echo;
use crate::site::{NAME, Plan};

#[test]
fn it_echoes_once_the_master_is_known() {
    let mut site = Plan::default().build();
    Echo::start(&site.process);
    let root = site.sides[0]
        .worker
        .root("readiness", json!({ "masters": [NAME] }))
        .expect("accepted");
    let ready = Heartbeat::start(&site.process, &root, "@redis-sentinel-ready");
    site.process.advance_ms(4_000);
    assert!(!ready.healthy() && ready.answers() == 0);
    site.watch();
    site.process.advance_ms(6_000);
    assert!(ready.healthy(), "{}", site.story());
}

#[test]
fn all_of_them_must_be_known() {
    let site = Plan::default().settled();
    Echo::start(&site.process);
    let root = site.sides[1]
        .worker
        .root("readiness", json!({ "masters": [NAME, "other"] }))
        .expect("accepted");
    let ready = Heartbeat::start(&site.process, &root, "@redis-sentinel-ready");
    site.process.advance_ms(10_000);
    assert!(!ready.healthy(), "{}", site.story());
}
