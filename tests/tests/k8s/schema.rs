//! Every object under `k8s/` and every Envoy configuration in it is what Kubernetes, Istio and Envoy understand, down to the
//! last field. An API server drops a field that it does not know, or refuses it, depending on how it is asked; here it is an
//! error with its path.

mod annotations;
mod clusters;
mod descriptors;
mod fragments;
mod istio;
mod kubernetes;
mod plugin;
mod published;
mod round_trip;
mod validate;

use std::collections::BTreeSet;
use std::fs;

use redis_sentinel_tests::manifests::{Document, parse};
use redis_sentinel_tests::tools;
use serde_json::Value;

/// What is wrong with one object, each with where it is.
fn complaints(document: &Document) -> Vec<String> {
    let found = kubernetes::check(document)
        .or_else(|| istio::check(document))
        .unwrap_or_else(|| {
            let api = document.api_version();
            vec![format!("no schema is known for {api} {}", document.kind())]
        });
    let pieces = fragments::check(document);
    let name = |complaint| format!("{document}: {complaint}");
    let notes = annotations::check(document);
    let all = found.into_iter().chain(pieces).chain(notes);
    all.map(name).collect()
}

/// The objects of all kustomizations, each different one once.
fn tree() -> Vec<Document> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for (name, documents) in crate::tree::all().expect("kustomize") {
        assert!(!documents.is_empty(), "{name} is empty");
        let new = |document: &Document| seen.insert(document.json().to_string());
        all.extend(documents.into_iter().filter(new));
    }
    all
}

fn assert_nothing(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// The only complaint about this YAML.
fn complaint(yaml: &str) -> String {
    let documents = parse(yaml).expect("YAML");
    let complaints: Vec<_> = documents.iter().flat_map(complaints).collect();
    assert_eq!(complaints.len(), 1, "{complaints:#?}");
    complaints.into_iter().next().unwrap_or_default()
}

#[test]
fn every_object_is_understood() {
    let complaints: Vec<_> = tree().iter().flat_map(complaints).collect();
    assert_nothing(&complaints);
}

#[test]
fn the_published_schemas_accept_every_object() {
    let documents: Vec<_> = tree()
        .into_iter()
        .filter(|document| !istio::knows(document))
        .collect();
    for version in published::VERSIONS {
        assert_nothing(&published::check(&documents, version));
    }
}

/// Envoy's configurations outside of `k8s/`, by their files.
fn shipped() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for dir in ["envoy", "systemd"] {
        for entry in fs::read_dir(tools::root().join(dir)).expect(dir) {
            let path = entry.expect(dir).path();
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                let text = fs::read_to_string(&path).expect("a file");
                let json = yaml_serde::from_str(&text).expect("YAML");
                all.push((path.display().to_string(), json));
            }
        }
    }
    assert!(all.len() > 2, "they are gone");
    all
}

#[test]
fn every_shipped_configuration_is_understood() {
    let complaints = |(file, json): &(String, Value)| {
        let found = fragments::message(fragments::BOOTSTRAP, json);
        found
            .into_iter()
            .map(|c| format!("{file}: {c}"))
            .collect::<Vec<_>>()
    };
    let found: Vec<_> = shipped().iter().flat_map(complaints).collect();
    assert_nothing(&found);
}

#[test]
fn every_cluster_that_is_led_to_is_there() {
    for (file, json) in shipped() {
        let clusters = clusters::Clusters::of(&json);
        assert!(
            clusters.missing().is_empty(),
            "{file}: {:?}",
            clusters.missing()
        );
    }
    for (name, documents) in crate::tree::all().expect("kustomize") {
        let found: Vec<_> = documents.iter().flat_map(clusters::check).collect();
        assert!(found.is_empty(), "{name}: {found:?}");
        let clusters = clusters::Clusters::of_sidecar(&documents);
        assert!(
            clusters.missing().is_empty(),
            "{name}: {:?}",
            clusters.missing()
        );
    }
}

#[test]
fn envoy_accepts_every_bootstrap() {
    let mut all = shipped();
    for document in tree() {
        let found = fragments::bootstraps(&document);
        all.extend(
            found
                .into_iter()
                .map(|(name, json)| (format!("{document} {name}"), json)),
        );
    }
    for (name, json) in all {
        validate::accepts(&json).unwrap_or_else(|said| panic!("{name}: {said}"));
    }
}

// ---- Each of the checks can fail, and says where ----------------------------------------------------------------------

#[test]
fn a_field_that_kubernetes_does_not_know_is_found() {
    let yaml = "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: a}, spec: {serviceName: a, selector: {},
        template: {metadata: {}, spec: {containers: [{name: c, readinesProbe: {}}]}}}}";
    assert_eq!(
        complaint(yaml),
        "StatefulSet/a: spec.template.spec.containers[0].readinesProbe: not a field"
    );
    let documents = parse(yaml).expect("YAML");
    for version in published::VERSIONS {
        let complaints = published::check(&documents, version).join("\n");
        assert!(complaints.contains("readinesProbe"), "{complaints}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_found() {
    let yaml =
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: http}]}}";
    let said = complaint(yaml);
    assert!(
        said.starts_with("Service/a: spec.ports[0].port: "),
        "{said}"
    );
    let said = published::check(&parse(yaml).expect("YAML"), published::VERSIONS[0]);
    assert!(said.join("").contains("ports"), "{said:?}");
}

#[test]
fn a_kind_that_nobody_knows_is_found() {
    let yaml = "{apiVersion: v1, kind: Servce, metadata: {name: a}}";
    assert!(complaint(yaml).contains("no schema is known for v1 Servce"));
    // It only warns by itself.
    let said = published::check(&parse(yaml).expect("YAML"), published::VERSIONS[0]);
    assert!(said.join("").contains("Servce"), "{said:?}");
}

#[test]
fn a_field_that_istio_does_not_know_is_found() {
    let yaml = "{apiVersion: extensions.istio.io/v1alpha1, kind: WasmPlugin, metadata: {name: a},
        spec: {url: 'oci://a/b:1', match: [{mode: CLIENT, port: [{number: 6379}]}]}}";
    assert_eq!(
        complaint(yaml),
        "WasmPlugin/a: spec.match[0].port: not a field"
    );
    let yaml = yaml
        .replace("port: [", "ports: [")
        .replace("CLIENT", "CLEINT");
    assert!(complaint(&yaml).starts_with("WasmPlugin/a: spec.match[0].mode: "));
}

/// An EnvoyFilter with one patch.
fn filter(apply_to: &str, value: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {{name: a}}, spec: {{configPatches: [
            {{applyTo: {apply_to}, patch: {{operation: ADD, value: {value}}}}}]}}}}"
    )
}

#[test]
fn a_field_that_envoy_does_not_know_is_found() {
    let said = complaint(&filter("CLUSTER", "{name: c, conect_timeout: 1s}"));
    let at = "EnvoyFilter/a: spec.configPatches[0].patch.value";
    assert!(
        said.starts_with(&format!("{at}.conect_timeout: ")),
        "{said}"
    );

    let inside = "{name: t, typed_config: {
        '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy,
        stat_prefix: t, cluster: c, backoff_options: {base_intervall: 1s}}}";
    let said = complaint(&filter("NETWORK_FILTER", inside));
    let path = format!("{at}.typed_config.backoff_options.base_intervall: ");
    assert!(said.starts_with(&path), "{said}");

    let unknown = "{name: t, typed_config: {'@type': type.googleapis.com/envoy.No.Such}}";
    assert!(complaint(&filter("NETWORK_FILTER", unknown)).contains("envoy.No.Such"));
    let said = complaint(&filter("BOOTSTRAP", "{admin: {}}"));
    assert!(
        said.contains("BOOTSTRAP"),
        "Istio does not apply these: {said}"
    );
}

#[test]
fn a_field_that_the_module_does_not_know_is_found() {
    let plugin = |value: &str| {
        let wasm = "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm";
        let value =
            format!("{{'@type': type.googleapis.com/google.protobuf.Struct, value: {value}}}");
        format!(
            "{{name: w, typed_config: {{'@type': {wasm}, config: {{root_id: redis_router, configuration: {value}}}}}}}"
        )
    };
    let at = "EnvoyFilter/a: spec.configPatches[0].patch.value.typed_config.config";
    let said = complaint(&filter("NETWORK_FILTER", &plugin("{master_nam: m}")));
    assert!(
        said.starts_with(at) && said.contains("master_nam"),
        "{said}"
    );
    let wrong = plugin("{master_name: m}").replace("redis_router", "redis_ruoter");
    assert!(complaint(&filter("NETWORK_FILTER", &wrong)).contains("redis_ruoter"));

    let said = complaint(
        "{apiVersion: extensions.istio.io/v1alpha1, kind: WasmPlugin, metadata: {name: a},
        spec: {url: 'oci://a/b:1', pluginName: readiness, pluginConfig: {mastres: [m]}}}",
    );
    assert!(
        said.contains("spec.pluginConfig") && said.contains("mastres"),
        "{said}"
    );
}

#[test]
fn a_bootstrap_in_a_config_map_is_looked_into() {
    let map = |file: &str, text: &str| {
        format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: a}}, data: {{{file}: '{text}'}}}}"
        )
    };
    let said = complaint(&map("envoy.yaml", "static_resources: {listener: []}"));
    let at = "ConfigMap/a: data[\"envoy.yaml\"].static_resources.listener: ";
    assert!(said.starts_with(at), "{said}");
    // What is not recognised is not passed over.
    let said = complaint(&map("other.yaml", "a: b"));
    assert!(said.contains("data[\"other.yaml\"]"), "{said}");
    assert!(complaint(&map("envoy.yaml", "a: [")).contains("data[\"envoy.yaml\"]"));
}

#[test]
fn what_only_envoy_notices_is_found() {
    let json =
        serde_json::json!({ "static_resources": { "clusters": [{ "name": "a", "type": "EDS" }] } });
    assert!(fragments::message(fragments::BOOTSTRAP, &json).is_empty());
    let said = validate::accepts(&json).expect_err("an EDS cluster without its source");
    assert!(said.to_string().contains("EDS"), "{said}");
}

#[test]
fn a_cluster_that_is_not_there_is_found() {
    let missing = |yaml: &str| {
        let json: Value = yaml_serde::from_str(yaml).expect("YAML");
        let clusters = clusters::Clusters::of(&json);
        clusters.missing().join(" ")
    };
    let config =
        "static_resources: { clusters: [{ name: redis }], listeners: [{ cluster: redsi }] }";
    assert_eq!(missing(config), "redsi");
    assert_eq!(
        missing(&config.replace("cluster: redsi", "discovered_cluster: s")),
        "s"
    );
    assert_eq!(
        missing(&config.replace(
            "cluster: redsi",
            "cluster_min_healthy_percentages: { r: 1 }"
        )),
        "r"
    );
    assert_eq!(missing(&config.replace("redsi", "redis")), "");

    let patches = filter("CLUSTER", "{ name: redis }")
        + "\n---\n"
        + &filter("NETWORK_FILTER", "{ cluster: other }");
    let documents = parse(&patches).expect("YAML");
    assert_eq!(
        clusters::Clusters::of_sidecar(&documents).missing(),
        ["other"]
    );
}

#[test]
fn a_mistake_in_an_annotation_is_found() {
    let pod = |name: &str, text: &str| {
        let annotations = serde_json::json!({ name: text });
        let json = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a", "annotations": annotations },
            "spec": { "containers": [] },
        });
        complaint(&json.to_string())
    };
    let said = pod(
        "sidecar.istio.io/userVolume",
        r#"{"v": {"configMap": {"nam": "m"}}}"#,
    );
    assert!(said.contains("v.configMap.nam: not a field"), "{said}");
    let said = pod("sidecar.istio.io/userVolumeMount", "{\"v\": ");
    assert!(said.contains("userVolumeMount"), "{said}");
    let said = pod(
        "proxy.istio.io/config",
        "proxyStatsMatcher: { inclusionPrefix: [a] }",
    );
    assert!(said.contains("inclusionPrefix"), "{said}");
    let said = pod("sidecar.istio.io/usrVolume", "{}");
    assert!(said.contains("usrVolume"), "{said}");
}
