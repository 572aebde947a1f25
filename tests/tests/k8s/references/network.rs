//! Services, Ingresses, policies, budgets: what they select, and by which port.

use redis_sentinel_tests::manifests::Document;
use serde_json::{Value, json};

use super::world::{Pod, World, text};

/// Kinds that are of the whole cluster.
const CLUSTER_WIDE: [&str; 4] = ["Namespace", "StorageClass", "PriorityClass", "IngressClass"];

/// Namespaces that are there without us, the last one being the reader's own.
const GIVEN: [&str; 4] = ["default", "kube-system", "istio-system", "my-app"];

/// Labels that people give to pods of their own, so that a policy lets them in.
const OTHERS: [&str; 4] = [
    "redis-client",
    "redis-cluster-client",
    "redis-sidecar",
    "webdis-client",
];

/// Reports what is wrong with one object.
pub fn check(world: &World, document: &Document, say: &mut impl FnMut(String)) {
    namespace(world, document, say);
    match document.kind() {
        "Service" => service(world, document, say),
        "StatefulSet" => stateful_set(world, document, say),
        "Ingress" => ingress(world, document, say),
        "NetworkPolicy" => policy(world, document, say),
        "PodDisruptionBudget" => budget(world, document, say),
        "HorizontalPodAutoscaler" => scaler(world, document, say),
        "EnvoyFilter" | "Sidecar" | "WasmPlugin" => workloads(world, document, say),
        _ => {}
    }
}

fn namespace(world: &World, document: &Document, say: &mut impl FnMut(String)) {
    let name = document.namespace();
    let there = GIVEN.contains(&name)
        || CLUSTER_WIDE.contains(&document.kind())
        || world
            .all()
            .any(|other| other.kind() == "Namespace" && other.name() == name);
    if !there {
        say(format!("there is no Namespace {name}"));
    }
}

fn reachable(pods: &[Pod<'_>], port: &Value, say: &mut impl FnMut(String)) {
    for pod in pods.iter().filter(|pod| !pod.has_port(port)) {
        let port = text(port);
        say(format!(
            "no container of {} has the port {port}",
            pod.document
        ));
    }
}

fn service(world: &World, document: &Document, say: &mut impl FnMut(String)) {
    let selector = document.at("/spec/selector");
    if selector.is_null() {
        return; // its endpoints, or the name that it stands for, are somebody else's
    }
    let pods = world.pods(
        Some(document.namespace()),
        &json!({ "matchLabels": selector }),
    );
    if pods.is_empty() {
        say("its selector matches no pod".into());
    }
    for port in document.list("/spec/ports") {
        reachable(&pods, port.get("targetPort").unwrap_or(&port["port"]), say);
    }
}

fn stateful_set(world: &World, document: &Document, say: &mut impl FnMut(String)) {
    let name = document.text("/spec/serviceName");
    let headless = world
        .beside(document, "Service", name)
        .filter(|service| service.text("/spec/clusterIP") == "None");
    match headless {
        None => say(format!("there is no headless Service {name}")),
        Some(service) => {
            let selector = json!({ "matchLabels": service.at("/spec/selector") });
            let pods = world.pods(Some(document.namespace()), &selector);
            if !pods.iter().any(|pod| pod.document == document) {
                say(format!("the Service {name} does not select its pods"));
            }
        }
    }
}

fn ingress(world: &World, document: &Document, say: &mut impl FnMut(String)) {
    let rules = document.list("/spec/rules").iter();
    let paths = rules
        .filter_map(|rule| rule["http"]["paths"].as_array())
        .flatten();
    let backends = paths.map(|path| &path["backend"]["service"]);
    let default = document.at("/spec/defaultBackend/service");
    for backend in backends.chain(Some(default).filter(|default| default.is_object())) {
        let name = text(&backend["name"]);
        let Some(service) = world.beside(document, "Service", &name) else {
            say(format!("there is no Service {name}"));
            continue;
        };
        let (field, port) = match &backend["port"] {
            port if port["name"].is_string() => ("name", &port["name"]),
            port => ("port", &port["number"]),
        };
        if !service
            .list("/spec/ports")
            .iter()
            .any(|one| one[field] == *port)
        {
            say(format!("the Service {name} has no port {}", text(port)));
        }
    }
}

/// Whether a selector asks for pods of other people.
fn is_for_others(selector: &Value) -> bool {
    OTHERS
        .iter()
        .any(|label| selector["matchLabels"][label] == "true")
}

/// A list of values hides one that is wrong behind those that are right.
fn each_value(world: &World, selector: &Value, say: &mut impl FnMut(String)) {
    let expressions = selector["matchExpressions"].as_array();
    let lists = expressions
        .into_iter()
        .flatten()
        .filter(|one| one["operator"] == "In");
    for list in lists {
        let key = text(&list["key"]);
        for value in list["values"].as_array().into_iter().flatten() {
            let alone = json!({ "matchLabels": { key.as_str(): value } });
            if world.pods(None, &alone).is_empty() {
                say(format!("no pod has the label {key}: {}", text(value)));
            }
        }
    }
}

fn policy(world: &World, document: &Document, say: &mut impl FnMut(String)) {
    let namespace = document.namespace();
    let selected = world.pods(Some(namespace), document.at("/spec/podSelector"));
    if selected.is_empty() {
        say("its podSelector matches no pod".into());
    }
    for (list, side) in [("/spec/ingress", "from"), ("/spec/egress", "to")] {
        for rule in document.list(list) {
            let mut peers = Vec::new();
            for (index, peer) in rule[side].as_array().into_iter().flatten().enumerate() {
                if peer.get("ipBlock").is_some() || is_for_others(&peer["podSelector"]) {
                    continue;
                }
                let elsewhere = peer.get("namespaceSelector").is_some();
                if elsewhere && peer.get("podSelector").is_none() {
                    continue;
                }
                each_value(world, &peer["podSelector"], say);
                let place = (!elsewhere).then_some(namespace);
                let found = world.pods(place, &peer["podSelector"]);
                if found.is_empty() {
                    say(format!("{side}[{index}] matches no pod"));
                }
                peers.extend(found);
            }
            let targets = if side == "from" { &selected } else { &peers };
            for port in rule["ports"].as_array().into_iter().flatten() {
                // A rule may be for several kinds of pods, each with some of the ports.
                let port = &port["port"];
                if !port.is_null()
                    && !targets.is_empty()
                    && !targets.iter().any(|pod| pod.has_port(port))
                {
                    reachable(&targets[..1], port, say);
                }
            }
        }
    }
}

fn budget(world: &World, document: &Document, say: &mut impl FnMut(String)) {
    let pods = world.pods(Some(document.namespace()), document.at("/spec/selector"));
    if pods.is_empty() {
        say("its selector matches no pod".into());
    }
    let least = document.at("/spec/minAvailable").as_u64();
    let replicas = |pod: &Pod<'_>| pod.document.at("/spec/replicas").as_u64().unwrap_or(1);
    let all: u64 = pods.iter().map(replicas).sum();
    let moved = match document.at("/spec/maxUnavailable").as_u64() {
        Some(most) => most,
        None => least.map_or(1, |least| all.saturating_sub(least)),
    };
    if moved == 0 {
        say("no pod may ever be moved".into());
    }
}

fn scaler(world: &World, document: &Document, say: &mut impl FnMut(String)) {
    let [kind, name] =
        ["kind", "name"].map(|field| document.text(&format!("/spec/scaleTargetRef/{field}")));
    if world.beside(document, kind, name).is_none() {
        say(format!("there is no {kind} {name}"));
    }
}

/// Istio's two ways to say which pods an object is for.
fn workloads(world: &World, document: &Document, say: &mut impl FnMut(String)) {
    let labels = match document.at("/spec/workloadSelector/labels") {
        Value::Null => document.at("/spec/selector/matchLabels"),
        labels => labels,
    };
    let selector = json!({ "matchLabels": labels });
    if !is_for_others(&selector) && world.pods(Some(document.namespace()), &selector).is_empty() {
        say("it is for no pod".into());
    }
}
