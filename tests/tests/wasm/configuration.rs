//! What is accepted, and what is refused with the path of the field.

use redis_sentinel_tests::host::Process;
use serde_json::{Value, json};

#[test]
fn the_example_is_accepted() {
    let process = Process::new();
    let worker = process.worker();
    for (root_id, configuration) in [
        ("redis_router", json!({ "master_name": "mymaster" })),
        (
            "redis_router",
            json!({ "master_name": "mymaster", "role": "replica", "hold_timeout": "0.5s" }),
        ),
        (
            "sentinel_watch",
            json!({ "masters": ["mymaster"], "discovered_cluster": "sentinel_discovered" }),
        ),
        (
            "role_probe",
            json!({ "master_name": "mymaster", "interval": "0.5s" }),
        ),
        ("readiness", json!({ "masters": ["mymaster", "other"] })),
    ] {
        worker
            .root(root_id, configuration)
            .unwrap_or_else(|refused| panic!("{root_id}: {refused}"));
    }
    assert_eq!(process.log(), [], "an accepted configuration is no news");
}

#[test]
fn what_is_wrong_is_named() {
    let process = Process::new();
    let worker = process.worker();
    let cases: [(&str, Value, &[&str]); 14] = [
        ("redis_router", json!({}), &["redis_router", "master_name"]),
        (
            "redis_router",
            json!({ "master_name": "" }),
            &["`master_name`"],
        ),
        (
            "redis_router",
            json!({ "master_name": "a", "role": "slave" }),
            &["`role`", "master", "replica"],
        ),
        (
            "redis_router",
            json!({ "master_name": "a", "hold_timeout": "10" }),
            &["`hold_timeout`", "10s"],
        ),
        (
            "redis_router",
            json!({ "master_name": "a", "max_held_connections": -1 }),
            &["`max_held_connections`"],
        ),
        (
            "redis_router",
            json!({ "master_name": "a", "own_addresses": ["10.0.0.1:1", "x"] }),
            &["`own_addresses[1]`"],
        ),
        (
            "redis_router",
            json!({ "master_name": "a", "holdtimeout": "1s" }),
            &["`holdtimeout`", "hold_timeout"],
        ),
        (
            "sentinel_watch",
            json!({ "masters": [] }),
            &["sentinel_watch", "`masters`"],
        ),
        (
            "sentinel_watch",
            json!({ "masters": ["a", "b c"] }),
            &["`masters[1]`", "b c"],
        ),
        (
            "sentinel_watch",
            json!({ "masters": ["a"], "poll_interval": "0s" }),
            &["`poll_interval`", "0.05s"],
        ),
        (
            "sentinel_watch",
            json!({ "masters": ["a"], "fence_timeout": 3 }),
            &["`fence_timeout`"],
        ),
        (
            "early_switch",
            json!({ "master_name": "a", "enabled": "yes" }),
            &["early_switch", "`enabled`"],
        ),
        (
            "readiness",
            json!({ "masters": "a" }),
            &["readiness", "`masters`"],
        ),
        ("nonsense", json!({}), &["nonsense", "redis_router"]),
    ];
    for (root_id, configuration, words) in cases {
        let refused = worker.root(root_id, configuration.clone()).err();
        let refused = refused.unwrap_or_else(|| panic!("{root_id} accepts {configuration}"));
        for word in words {
            assert!(
                refused.log.iter().any(|line| line.contains(word)),
                "{configuration}: `{word}` is not in: {refused}"
            );
        }
        assert_eq!(
            refused.log.len(),
            1,
            "{configuration}: one line is enough: {refused}"
        );
    }
}

#[test]
fn bytes_that_are_no_json_are_refused() {
    let process = Process::new();
    let worker = process.worker();
    let deep = "[".repeat(100_000);
    for bytes in [
        &b"{"[..],
        b"\xff\xfe",
        b"null",
        b"[]",
        b"\"x\"",
        deep.as_bytes(),
        b"",
    ] {
        let refused = worker.root_bytes("redis_router", bytes).err();
        assert!(
            refused.is_some_and(|r| !r.log.is_empty()),
            "{:?}",
            &bytes[..bytes.len().min(8)]
        );
    }
    worker
        .root("redis_router", json!({ "master_name": "mymaster" }))
        .expect("the VM is still good");
}

/// A refused plugin gets no connections from Envoy, but a host that sends some must not lose its VM.
#[test]
fn two_listeners_of_one_root_id_have_their_own_configuration() {
    let process = Process::new();
    let worker = process.worker();
    let one = worker
        .root(
            "redis_router",
            json!({ "master_name": "one", "hold_timeout": "1s" }),
        )
        .expect("accepted");
    let other = worker
        .root(
            "redis_router",
            json!({ "master_name": "other", "hold_timeout": "3s" }),
        )
        .expect("accepted");
    let (a, b) = (
        one.connect("127.0.0.1:6379"),
        other.connect("127.0.0.1:6380"),
    );
    process.advance_ms(2000);
    assert!(!a.held() && b.held(), "{:?}", process.log());
    process.advance_ms(2000);
    assert!(!b.held());
}
