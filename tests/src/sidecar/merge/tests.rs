use serde_json::json;

use super::*;

fn listener(name: &str, port: u16, chains: Value) -> Value {
    json!({ "name": name, "address": { "socket_address": { "port_value": port } }, "filter_chains": chains })
}

fn chain(filters: &[&str]) -> Value {
    let filter = |name: &&str| json!({ "name": name, "typed_config": { "old": 1, "list": [1] } });
    json!({ "filters": filters.iter().map(filter).collect::<Vec<_>>() })
}

fn patch(apply_to: &str, operation: &str, find: &Value, value: &Value) -> Document {
    Document::from(json!({
        "kind": "EnvoyFilter", "metadata": { "name": "f", "namespace": "n" },
        "spec": {
            "workloadSelector": { "labels": { "a": "b" } },
            "configPatches": [{ "applyTo": apply_to, "match": find,
                "patch": { "operation": operation, "value": value } }],
        },
    }))
}

fn network_filter(operation: &str) -> Document {
    let find = json!({ "context": CONTEXT, "listener": { "portNumber": 6379,
        "filterChain": { "filter": { "name": "t" } } } });
    let value = json!({ "name": "t", "typed_config": { "new": 2, "list": [2] } });
    patch("NETWORK_FILTER", operation, &find, &value)
}

fn applied(document: &Document, listeners: Vec<Value>) -> (Configuration, usize) {
    let mut configuration = Configuration {
        listeners,
        ..Configuration::default()
    };
    let labels = json!({ "a": "b", "c": "d" });
    let labels = labels.as_object().expect("an object");
    let hits = apply(
        std::slice::from_ref(document),
        "n",
        labels,
        &mut configuration,
    );
    let hits = hits
        .expect("known rules")
        .iter()
        .map(|hits| hits.hits)
        .sum();
    (configuration, hits)
}

#[test]
fn a_filter_is_inserted_before_the_first_match_of_every_chain_on_that_port() {
    let mut two = listener("x", 6379, json!([chain(&["m", "t"]), chain(&["m"])]));
    two["default_filter_chain"] = chain(&["t", "t"]);
    let other = listener("y", 5432, json!([chain(&["t"])]));
    let (got, hits) = applied(&network_filter("INSERT_BEFORE"), vec![two, other.clone()]);
    assert_eq!(hits, 2);
    let names = |pointer: &str| {
        let filters = got.listeners[0].pointer(pointer).and_then(Value::as_array);
        let names = filters
            .into_iter()
            .flatten()
            .map(|f| f["typed_config"]["new"].is_i64());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names("/filter_chains/0/filters"), [false, true, false]);
    assert_eq!(names("/filter_chains/1/filters"), [false]);
    assert_eq!(names("/default_filter_chain/filters"), [true, false, false]);
    assert_eq!(got.listeners[1], other);
}

#[test]
fn a_merge_adds_fields_and_appends_to_lists() {
    let (got, hits) = applied(
        &network_filter("MERGE"),
        vec![listener("x", 6379, json!([chain(&["t"])]))],
    );
    assert_eq!(hits, 1);
    let merged = &got.listeners[0]["filter_chains"][0]["filters"][0]["typed_config"];
    assert_eq!(*merged, json!({ "old": 1, "new": 2, "list": [1, 2] }));
}

#[test]
fn the_virtual_listener_is_matched_by_the_chains_destination() {
    let mut chains = json!([chain(&["t"]), chain(&["t"])]);
    chains[1]["filter_chain_match"] = json!({ "destination_port": 6379 });
    // Its own port counts for nothing, not even the right one.
    let (got, hits) = applied(
        &network_filter("INSERT_BEFORE"),
        vec![listener(VIRTUAL_OUTBOUND, 6379, chains)],
    );
    assert_eq!(hits, 1);
    let length = |n: usize| {
        got.listeners[0]["filter_chains"][n]["filters"]
            .as_array()
            .map(Vec::len)
    };
    assert_eq!((length(0), length(1)), (Some(1), Some(2)));
}

#[test]
fn other_pods_and_other_namespaces_are_left_alone() {
    let filter = network_filter("INSERT_BEFORE");
    let before = Configuration {
        listeners: vec![listener("x", 6379, json!([chain(&["t"])]))],
        ..Configuration::default()
    };
    for (namespace, labels) in [("other", json!({ "a": "b" })), ("n", json!({ "a": "x" }))] {
        let mut after = before.clone();
        let labels = labels.as_object().expect("an object");
        let hits =
            apply(std::slice::from_ref(&filter), namespace, labels, &mut after).expect("rules");
        assert!(hits.is_empty());
        assert_eq!(after.listeners, before.listeners);
    }
}

#[test]
fn an_added_listener_is_not_patched_and_must_be_new() {
    let context = json!({ "context": CONTEXT });
    let added = listener("z", 6379, json!([chain(&["t"])]));
    let mut filter = network_filter("INSERT_BEFORE").json().clone();
    let add = patch("LISTENER", "ADD", &context, &added);
    let patches = filter
        .pointer_mut("/spec/configPatches")
        .and_then(Value::as_array_mut);
    patches
        .expect("a list")
        .push(add.json()["spec"]["configPatches"][0].clone());
    let (got, hits) = applied(&Document::from(filter.clone()), vec![]);
    assert_eq!((hits, &got.listeners), (1, &vec![added.clone()]));
    let mut configuration = Configuration {
        listeners: vec![added],
        ..Configuration::default()
    };
    let labels = json!({ "a": "b" });
    let labels = labels.as_object().expect("an object");
    assert!(apply(&[Document::from(filter)], "n", labels, &mut configuration).is_err());
}

#[test]
fn a_rule_that_nobody_checked_is_refused() {
    let context = json!({ "context": CONTEXT });
    let mut inbound = network_filter("INSERT_BEFORE").json().clone();
    inbound["spec"]["configPatches"][0]["match"]["context"] = "SIDECAR_INBOUND".into();
    let mut named = network_filter("INSERT_BEFORE").json().clone();
    named["spec"]["configPatches"][0]["match"]["listener"]["name"] = "x".into();
    for filter in [
        network_filter("INSERT_AFTER"),
        patch("BOOTSTRAP", "MERGE", &context, &json!({})),
        patch("CLUSTER", "MERGE", &context, &json!({})),
        Document::from(inbound),
        Document::from(named),
    ] {
        let labels = json!({ "a": "b" });
        let labels = labels.as_object().expect("an object");
        let mut nothing = Configuration::default();
        assert!(
            apply(std::slice::from_ref(&filter), "n", labels, &mut nothing).is_err(),
            "{:?}",
            filter.json()
        );
    }
}
