//! The objects that see each other.

use redis_sentinel_tests::manifests::Document;
use serde_json::{Map, Value};

/// What a person makes before, as the documents say: kind, namespace, name, keys.
const MADE_BEFORE: [(&str, &str, &str, &[&str]); 2] = [
    (
        "Secret",
        "my-app",
        "redis-passwords",
        &["redis-password", "sentinel-password"],
    ),
    (
        "Secret",
        "redis",
        "redis-proxy-tls",
        &["tls.crt", "tls.key"],
    ),
];

/// The objects of a kustomization, and what stands around them.
pub struct World {
    own: Vec<Document>,
    around: Vec<Document>,
}

impl World {
    /// These objects among others, of which it may have its own form.
    pub fn new(own: Vec<Document>, mut around: Vec<Document>) -> Self {
        around.retain(|other| !own.iter().any(|document| same(document, other)));
        Self { own, around }
    }

    /// The objects that are looked at.
    pub fn own(&self) -> &[Document] {
        &self.own
    }

    /// All that there is.
    pub fn all(&self) -> impl Iterator<Item = &Document> {
        self.own.iter().chain(&self.around)
    }

    /// The object of this kind and name beside `document`.
    pub fn beside(&self, document: &Document, kind: &str, name: &str) -> Option<&Document> {
        let namespace = document.namespace();
        self.all().find(|other| {
            other.kind() == kind && other.name() == name && other.namespace() == namespace
        })
    }

    /// The keys of a ConfigMap or Secret beside `document`; an error says that there is none.
    pub fn keys(&self, document: &Document, kind: &str, name: &str) -> Result<Vec<String>, String> {
        let made = MADE_BEFORE
            .iter()
            .find(|made| (made.0, made.1, made.2) == (kind, document.namespace(), name));
        if let Some((.., keys)) = made {
            return Ok(keys.iter().map(|key| (*key).to_owned()).collect());
        }
        let Some(found) = self.beside(document, kind, name) else {
            return Err(format!("there is no {kind} {name}"));
        };
        let data = ["/data", "/binaryData", "/stringData"];
        let maps = data
            .iter()
            .filter_map(|pointer| found.at(pointer).as_object());
        Ok(maps.flat_map(Map::keys).cloned().collect())
    }

    /// The pods of a namespace that a selector matches.
    pub fn pods<'a>(&'a self, namespace: Option<&str>, selector: &Value) -> Vec<Pod<'a>> {
        let pods = self.all().filter_map(Pod::of);
        pods.filter(|pod| namespace.is_none_or(|name| pod.document.namespace() == name))
            .filter(|pod| selects(selector, pod.labels()))
            .collect()
    }
}

fn same(one: &Document, other: &Document) -> bool {
    let key = |document: &Document| {
        [document.kind(), document.namespace(), document.name()].map(str::to_owned)
    };
    key(one) == key(other)
}

/// Whether a label selector matches.
fn selects(selector: &Value, labels: &Value) -> bool {
    let empty = Map::new();
    let exact = selector["matchLabels"].as_object().unwrap_or(&empty);
    let expressions = selector["matchExpressions"].as_array();
    exact
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && expressions.into_iter().flatten().all(|expression| {
            let label = expression["key"].as_str().and_then(|key| labels.get(key));
            let listed = || {
                let values = expression["values"].as_array();
                values.is_some_and(|values| label.is_some_and(|label| values.contains(label)))
            };
            match expression["operator"].as_str() {
                Some("In") => listed(),
                Some("NotIn") => !listed(),
                Some("Exists") => label.is_some(),
                Some("DoesNotExist") => label.is_none(),
                _ => false,
            }
        })
}

/// The pods that an object makes.
pub struct Pod<'a> {
    /// Which object.
    pub document: &'a Document,
    /// Where the template is.
    template: &'static str,
}

impl<'a> Pod<'a> {
    /// The pods of an object that makes some.
    pub fn of(document: &'a Document) -> Option<Self> {
        let template = document.pod_pointer()?;
        Some(Self { document, template })
    }

    /// Something of the template.
    pub fn at(&self, pointer: &str) -> &'a Value {
        self.document.at(&format!("{}{pointer}", self.template))
    }

    /// A list of the template.
    pub fn list(&self, pointer: &str) -> &'a [Value] {
        self.at(pointer).as_array().map_or(&[], Vec::as_slice)
    }

    /// The labels of the pods.
    pub fn labels(&self) -> &'a Value {
        self.at("/metadata/labels")
    }

    /// All containers, those that run before the others first.
    pub fn containers(&self) -> impl Iterator<Item = &'a Value> {
        self.with_merged()
            .filter(|container| container["image"] != "auto")
    }

    /// These, and what Istio merges into the container that it adds.
    pub fn with_merged(&self) -> impl Iterator<Item = &'a Value> {
        let lists = ["/spec/initContainers", "/spec/containers"].map(|list| self.list(list));
        lists.into_iter().flatten()
    }

    /// Whether a container has this port, by its name or number.
    pub fn has_port(&self, port: &Value) -> bool {
        self.containers().any(|container| has_port(container, port))
    }
}

/// Whether the container has this port, by its name or number.
pub fn has_port(container: &Value, port: &Value) -> bool {
    let ports = container["ports"].as_array().into_iter().flatten();
    let field = if port.is_string() {
        "name"
    } else {
        "containerPort"
    };
    ports.into_iter().any(|one| one[field] == *port)
}

/// The text of a JSON string or number.
pub fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
