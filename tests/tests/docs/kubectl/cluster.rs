//! What the commands find: the rendered objects, and whether they have what a command names.

use std::path::Path;

use redis_sentinel_tests::manifests::{Document, kustomizations, render};

/// What is installed when the pages' commands are typed.
pub struct Cluster(Vec<Document>);

impl Cluster {
    pub fn new() -> Self {
        let dirs = ["all", "monitoring", "istio/service", "istio/example"];
        let documents =
            dirs.map(|dir| render(dir).unwrap_or_else(|error| panic!("{dir}: {error:#}")));
        Self(documents.concat())
    }

    /// `deployment/redis-proxy`, `statefulset/redis`, `service/redis`, or a pod by its name.
    pub fn find(&self, namespace: &str, target: &str) -> Result<&Document, String> {
        let (kind, name) = target.split_once('/').unwrap_or(("pod", target));
        let kind = match kind {
            "deploy" => "deployment",
            "svc" => "service",
            other => other,
        };
        let named = |document: &&Document, kind: &str, name: &str| {
            document.kind().eq_ignore_ascii_case(kind)
                && document.name() == name
                && document.namespace() == namespace
        };
        let found = if kind == "pod" {
            // `sentinel-0` is of StatefulSet `sentinel`, if that has so many.
            let (set, ordinal) = name.rsplit_once('-').unwrap_or((name, ""));
            let ordinal = ordinal.parse::<u64>().ok();
            self.0.iter().find(|document| {
                let replicas = document.at("/spec/replicas").as_u64().unwrap_or(1);
                named(document, "statefulset", set) && ordinal.is_some_and(|it| it < replicas)
            })
        } else {
            self.0.iter().find(|document| named(document, kind, name))
        };
        found.ok_or_else(|| format!("there is no {target} in {namespace}"))
    }

    pub fn has(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let mut all = self.0.iter();
        all.any(|it| it.kind() == kind && it.namespace() == namespace && it.name() == name)
    }
}

/// A folder that there is; server-side where the module is in it.
pub fn applied(words: &[&str], dir: Option<&str>, file: Option<&str>) -> Result<(), String> {
    let dir = match (dir, file) {
        (Some(dir), None) => dir.strip_prefix("k8s/").ok_or("not below k8s/")?,
        // Of a release, where each folder is one file.
        (None, Some("k8s/all.yaml")) => "all",
        _ => return Err("-k or -f?".to_owned()),
    };
    let all = kustomizations().map_err(|error| error.to_string())?;
    if !all.iter().any(|known| known == Path::new(dir)) {
        return Err(format!("k8s/{dir} is no kustomization"));
    }
    let documents = render(dir).map_err(|error| format!("{error:#}"))?;
    let large = documents.iter().any(|it| !it.at("/binaryData").is_null());
    if large && !words.contains(&"--server-side") {
        return Err("the module is too large for a client-side apply".to_owned());
    }
    Ok(())
}

pub fn container(pod: &Document, name: Option<&str>) -> Result<(), String> {
    let pointer = format!("{}/spec/containers", pod.pod_pointer().ok_or("no pods")?);
    let mut all = pod.list(&pointer).iter();
    let known = name.is_none_or(|name| all.any(|it| it["name"] == name));
    known
        .then_some(())
        .ok_or_else(|| format!("{pod} has no container {name:?}"))
}

/// What runs inside: a script that is mounted there, and variables that are set.
pub fn inside(cluster: &Cluster, pod: &Document, program: &[&str]) -> Result<(), String> {
    let text = pod.json().to_string();
    for word in program {
        if let Some(script) = word.strip_prefix("/scripts/") {
            let mut all = cluster.0.iter().filter(|it| it.kind() == "ConfigMap");
            let known = all.any(|map| {
                text.contains(map.name()) && !map.at(&format!("/data/{script}")).is_null()
            });
            known
                .then_some(())
                .ok_or_else(|| format!("{pod} mounts no {word}"))?;
        }
        for variable in word.split('$').skip(1) {
            let end = variable.find(|c: char| !c.is_ascii_uppercase() && c != '_');
            let name = &variable[..end.unwrap_or(variable.len())];
            let set = text.contains(&format!("\"name\":\"{name}\""));
            set.then_some(())
                .ok_or_else(|| format!("{pod} has no variable {name}"))?;
        }
    }
    Ok(())
}

pub fn port_of(cluster: &Cluster, target: &Document, port: &str) -> Result<(), String> {
    let number: u64 = port.parse().map_err(|_| format!("{port} is no port"))?;
    let known = if target.kind() == "Service" {
        target
            .list("/spec/ports")
            .iter()
            .any(|it| it["port"] == number)
    } else {
        // Any that something in its pods listens on: what their configuration says.
        let text = target.json().to_string();
        let mut maps = cluster.0.iter().filter(|map| text.contains(map.name()));
        maps.any(|map| {
            map.at("/data")
                .to_string()
                .contains(&format!("port_value: {port}"))
        })
    };
    known
        .then_some(())
        .ok_or_else(|| format!("{target} has no port {port}"))
}

pub fn labelled(cluster: &Cluster, namespace: &str, label: &str) -> Result<(), String> {
    let (key, value) = label.split_once('=').ok_or("no label")?;
    let mut all = cluster.0.iter().filter(|it| it.namespace() == namespace);
    let known = all.any(|it| {
        let labels = it
            .pod_pointer()
            .map(|pointer| it.at(&format!("{pointer}/metadata/labels")));
        labels.is_some_and(|labels| labels[key] == value)
    });
    known
        .then_some(())
        .ok_or_else(|| format!("no pod of {namespace} has {label}"))
}
