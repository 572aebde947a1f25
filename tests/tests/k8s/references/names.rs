//! Names of the cluster's DNS (`<service>.<namespace>.svc…`) in whatever text: settings, scripts, Envoy's configuration.

use redis_sentinel_tests::manifests::Document;
use serde_json::Value;

use super::world::World;

/// Reports names that lead nowhere.
pub fn check(world: &World, document: &Document, say: &mut impl FnMut(String)) {
    each_text(document.json(), &mut |text| {
        let part = |c: char| !(c.is_ascii_alphanumeric() || "-.$_{}*".contains(c));
        for word in text.split(part) {
            if let Some(complaint) = complaint(world, document, word) {
                say(complaint);
            }
        }
    });
}

fn each_text(value: &Value, see: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => see(text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, see)),
        Value::Object(fields) => fields.values().for_each(|field| each_text(field, see)),
        _ => {}
    }
}

fn complaint(world: &World, document: &Document, word: &str) -> Option<String> {
    // Istio's names of clusters: outbound_.6379_._.<name>.
    let word = word
        .rsplit("_._.")
        .next()
        .unwrap_or(word)
        .trim_end_matches('.');
    // Scripts put names together; a pod's number may be any that there is.
    let name = word
        .replace("$NAMESPACE", document.namespace())
        .replace("${NAMESPACE}", document.namespace())
        .replace("$POD_NAME", "*")
        .replace("$1", "0");
    let (front, _) = name
        .split_once(".svc")
        .filter(|(_, rest)| rest.is_empty() || rest.starts_with('.'))?;
    let labels: Vec<_> = front.split('.').collect();
    let (pod, service, namespace) = match labels.as_slice() {
        [service, namespace] => (None, *service, *namespace),
        [pod, service, namespace] => (Some(*pod), *service, *namespace),
        _ => return Some(format!("{word} is no name of the cluster")),
    };
    let found = world.all().find(|other| {
        other.kind() == "Service" && other.name() == service && other.namespace() == namespace
    });
    if found.is_none() {
        return Some(format!("{word} is no Service's name"));
    }
    let pod = pod.filter(|pod| *pod != "*")?;
    let is_its_pod = |set: &Document| {
        let replicas = set.at("/spec/replicas").as_u64().unwrap_or(1);
        let number = pod
            .strip_prefix(set.name())
            .and_then(|rest| rest.strip_prefix('-'));
        let number = number.and_then(|number| number.parse::<u64>().ok());
        set.kind() == "StatefulSet"
            && set.namespace() == namespace
            && set.text("/spec/serviceName") == service
            && number.is_some_and(|number| number < replicas)
    };
    (!world.all().any(is_its_pod)).then(|| format!("{word} is no pod's name"))
}
