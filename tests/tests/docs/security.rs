//! What SECURITY.md promises of every configuration that is shipped.

use std::fs;
use std::path::PathBuf;

use redis_sentinel_tests::tools;
use serde_json::Value;

/// Whole Envoy configurations with the module in them: all that hold a `redis_router`.
fn configurations() -> Vec<(PathBuf, Value)> {
    let mut found = Vec::new();
    for dir in ["envoy", "k8s/proxy"] {
        for entry in fs::read_dir(tools::root().join(dir)).expect(dir) {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|end| end == "yaml") {
                let text = fs::read_to_string(&path).expect("a file");
                if text.contains("root_id: redis_router") {
                    found.push((path, yaml_serde::from_str(&text).expect("YAML")));
                }
            }
        }
    }
    assert!(found.len() >= 3, "where are they?");
    found
}

fn port(value: &Value) -> Option<u64> {
    value
        .pointer("/address/socket_address/port_value")?
        .as_u64()
}

/// Every object in it that has this field with this value.
fn with<'a>(value: &'a Value, field: &str, is: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| with(item, field, is, found)),
        Value::Object(fields) => {
            if fields.get(field).and_then(Value::as_str) == Some(is) {
                found.push(value);
            }
            fields
                .values()
                .for_each(|value| with(value, field, is, found));
        }
        _ => {}
    }
}

#[test]
fn no_shipped_router_leads_to_the_admin_interface() {
    for (path, config) in configurations() {
        let path = path.display();
        let host = config.pointer("/admin/address/socket_address/address");
        assert_eq!(
            host,
            Some(&"127.0.0.1".into()),
            "{path}: the admin interface"
        );
        let listeners = config.pointer("/static_resources/listeners");
        let listeners = listeners.and_then(Value::as_array).expect("listeners");
        let ready = listeners
            .iter()
            .find(|listener| listener["name"] == "ready");
        let ports = [port(&config["admin"]), ready.and_then(port)];
        let mut routers = Vec::new();
        with(&config, "root_id", "redis_router", &mut routers);
        assert!(!routers.is_empty(), "{path}");
        for router in routers {
            let own = router.pointer("/configuration/value/own_addresses");
            for port in ports {
                let address = format!("127.0.0.1:{}", port.expect("a port"));
                let listed = own.and_then(Value::as_array);
                let listed = listed.is_some_and(|own| own.contains(&address.clone().into()));
                assert!(listed, "{path}: {} may lead to {address}", router["name"]);
            }
        }
    }
}

#[test]
fn no_number_of_clients_shuts_the_proxy_itself_out() {
    for (path, config) in configurations() {
        let listeners = config.pointer("/static_resources/listeners");
        for listener in listeners.and_then(Value::as_array).expect("listeners") {
            let of_its_own =
                listener.pointer("/address/pipe").is_some() || listener["name"] == "ready";
            let ignores = listener["ignore_global_conn_limit"] == true;
            assert_eq!(
                ignores,
                of_its_own,
                "{}: {}",
                path.display(),
                listener["name"]
            );
        }
    }
}
