//! What a pod mounts, reads and runs.

use serde_json::{Map, Value};

use super::world::{Pod, World, has_port, text};

/// Reports what is wrong with one object's pods.
pub fn check(world: &World, pod: &Pod<'_>, say: &mut impl FnMut(String)) {
    volumes(world, pod, say);
    sidecar_volumes(world, pod, say);
    for container in pod.with_merged() {
        environment(world, pod, container, say);
    }
    for container in pod.containers() {
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            let name = text(&container["name"]);
            for way in ["httpGet", "tcpSocket", "grpc"] {
                let port = &container[probe][way]["port"];
                if !port.is_null() && !has_port(container, port) {
                    say(format!(
                        "{name} probes {}, which is none of its ports",
                        text(port)
                    ));
                }
            }
        }
        programs(world, pod, container, say);
    }
}

/// The ConfigMap or Secret that a volume shows.
fn source(volume: &Value) -> Option<(&'static str, String)> {
    let named = |kind, name: &Value| name.as_str().map(|name| (kind, name.to_owned()));
    named("ConfigMap", &volume["configMap"]["name"])
        .or_else(|| named("Secret", &volume["secret"]["secretName"]))
}

/// The names of the files of a volume that comes from a ConfigMap or Secret.
fn shown(world: &World, pod: &Pod<'_>, volume: &Value) -> Option<Result<Vec<String>, String>> {
    let (kind, name) = source(volume)?;
    let items = &volume[if kind == "Secret" {
        "secret"
    } else {
        "configMap"
    }]["items"];
    Some(world.keys(pod.document, kind, &name).and_then(|keys| {
        let Some(items) = items.as_array() else {
            return Ok(keys);
        };
        let missing = items
            .iter()
            .map(|item| text(&item["key"]))
            .find(|key| !keys.contains(key));
        match missing {
            Some(key) => Err(format!("the {kind} {name} has no key {key}")),
            None => Ok(items.iter().map(|item| text(&item["path"])).collect()),
        }
    }))
}

fn volumes(world: &World, pod: &Pod<'_>, say: &mut impl FnMut(String)) {
    let volumes = pod.list("/spec/volumes");
    for volume in volumes {
        let name = &volume["name"];
        if let Some(Err(error)) = shown(world, pod, volume) {
            say(error);
        }
        let mounts = |container: &Value| {
            let mounts = container["volumeMounts"].as_array().into_iter().flatten();
            mounts.into_iter().any(|mount| mount["name"] == *name)
        };
        if !pod.containers().any(mounts) {
            say(format!("nobody mounts the volume {}", text(name)));
        }
        let claim = &volume["persistentVolumeClaim"]["claimName"];
        if let Some(claim) = claim.as_str()
            && world
                .beside(pod.document, "PersistentVolumeClaim", claim)
                .is_none()
        {
            say(format!("there is no PersistentVolumeClaim {claim}"));
        }
    }
    let claims = pod.document.list("/spec/volumeClaimTemplates");
    for container in pod.containers() {
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let name = &mount["name"];
            let there = volumes.iter().any(|volume| volume["name"] == *name)
                || claims
                    .iter()
                    .any(|claim| claim["metadata"]["name"] == *name);
            if !there {
                say(format!(
                    "{} mounts {}, which is no volume",
                    text(&container["name"]),
                    text(name)
                ));
            }
        }
    }
}

/// The volumes that annotations give to the container that Istio adds.
fn sidecar_volumes(world: &World, pod: &Pod<'_>, say: &mut impl FnMut(String)) {
    let annotations = pod.at("/metadata/annotations");
    let [volumes, mounts] = ["userVolume", "userVolumeMount"].map(|name| -> Map<String, Value> {
        let text = annotations[format!("sidecar.istio.io/{name}")].as_str();
        text.and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    });
    for (name, volume) in &volumes {
        if let Some(Err(error)) = shown(world, pod, volume) {
            say(error);
        }
        if !mounts.contains_key(name) {
            say(format!("no userVolumeMount for the userVolume {name}"));
        }
    }
    for name in mounts.keys().filter(|name| !volumes.contains_key(*name)) {
        say(format!("no userVolume for the userVolumeMount {name}"));
    }
}

fn environment(world: &World, pod: &Pod<'_>, container: &Value, say: &mut impl FnMut(String)) {
    let is_optional = |reference: &Value| reference["optional"] == true;
    for from in container["envFrom"].as_array().into_iter().flatten() {
        for (field, kind) in [("configMapRef", "ConfigMap"), ("secretRef", "Secret")] {
            if let Some(name) = from[field]["name"].as_str()
                && !is_optional(&from[field])
                && let Err(error) = world.keys(pod.document, kind, name)
            {
                say(error);
            }
        }
    }
    for variable in container["env"].as_array().into_iter().flatten() {
        for (field, kind) in [("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")] {
            let reference = &variable["valueFrom"][field];
            let Some(name) = reference["name"].as_str() else {
                continue;
            };
            let key = text(&reference["key"]);
            match world.keys(pod.document, kind, name) {
                _ if is_optional(reference) => {}
                Err(error) => say(error),
                Ok(keys) if keys.contains(&key) => {}
                Ok(_) => say(format!("the {kind} {name} has no key {key}")),
            }
        }
    }
}

/// Every file that a command, a probe or a hook names is in the volume that is mounted there.
fn programs(world: &World, pod: &Pod<'_>, container: &Value, say: &mut impl FnMut(String)) {
    let mut words = Vec::new();
    for pointer in [
        "/command",
        "/args",
        "/livenessProbe/exec/command",
        "/readinessProbe/exec/command",
        "/startupProbe/exec/command",
        "/lifecycle/preStop/exec/command",
        "/lifecycle/postStart/exec/command",
    ] {
        let list = container.pointer(pointer).and_then(Value::as_array);
        let texts = list.into_iter().flatten().filter_map(Value::as_str);
        // A script of several lines names files, too.
        words.extend(
            texts.flat_map(|text| text.split(|c: char| c.is_whitespace() || "\"';=".contains(c))),
        );
    }
    let mounts = container["volumeMounts"].as_array();
    for mount in mounts.into_iter().flatten() {
        let name = &mount["name"];
        let volume = pod
            .list("/spec/volumes")
            .iter()
            .find(|volume| volume["name"] == *name);
        let Some(Ok(files)) = volume.and_then(|volume| shown(world, pod, volume)) else {
            continue;
        };
        let path = text(&mount["mountPath"]);
        if let Some(sub) = mount["subPath"].as_str() {
            if !files.iter().any(|file| file == sub) {
                say(format!("its volume {} has no file {sub}", text(name)));
            }
            continue;
        }
        for word in &words {
            if let Some(file) = word
                .strip_prefix(&path)
                .and_then(|rest| rest.strip_prefix('/'))
                && !file.is_empty()
                && !files.iter().any(|one| one == file)
            {
                let container = text(&container["name"]);
                say(format!(
                    "{container} runs {word}, which its volume {} lacks",
                    text(name)
                ));
            }
        }
    }
}
