//! The strictest of Kubernetes' pod security standards ("restricted"), and what a scheduler needs to know.

use serde_json::Value;

use super::world::{Pod, text};

/// Reports what is wrong with one object's pods.
pub fn check(pod: &Pod<'_>, say: &mut impl FnMut(String)) {
    let account = pod.at("/spec/serviceAccountName");
    if pod.at("/spec/automountServiceAccountToken") != false && account.is_null() {
        say("it gets a token of the API server that it has no use for".into());
    }
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        if pod.at(&format!("/spec/{host}")) == true {
            say(format!("{host} is true"));
        }
    }
    for volume in pod.list("/spec/volumes") {
        if volume.get("hostPath").is_some() {
            say(format!(
                "the volume {} is of the host",
                text(&volume["name"])
            ));
        }
    }
    for container in pod.containers() {
        let name = text(&container["name"]);
        let mut say = |complaint: String| say(format!("{name}: {complaint}"));
        image(container, &mut say);
        resources(container, &mut say);
        context(pod, container, &mut say);
    }
}

/// A tag that moves makes two pods of one Deployment differ.
fn image(container: &Value, say: &mut impl FnMut(String)) {
    let image = text(&container["image"]);
    let last = image.rsplit('/').next().unwrap_or_default();
    let pinned = match last.split_once(':') {
        Some((_, tag)) => tag != "latest" && tag.bytes().any(|byte| byte.is_ascii_digit()),
        None => false,
    };
    if !pinned {
        say(format!("the image {image} is not pinned"));
    }
}

fn resources(container: &Value, say: &mut impl FnMut(String)) {
    for resource in ["cpu", "memory"] {
        if container["resources"]["requests"][resource].is_null() {
            say(format!("it requests no {resource}"));
        }
    }
    if container["resources"]["limits"]["memory"].is_null() {
        say("its memory has no limit".into());
    }
}

fn context(pod: &Pod<'_>, container: &Value, say: &mut impl FnMut(String)) {
    let own = &container["securityContext"];
    let common = pod.at("/spec/securityContext");
    let either = |field| {
        own.get(field)
            .or_else(|| common.get(field))
            .unwrap_or(&Value::Null)
    };
    if either("runAsNonRoot") != true {
        say("runAsNonRoot is not true".into());
    }
    if either("runAsUser") == 0 {
        say("it runs as root".into());
    }
    if either("seccompProfile")["type"] != "RuntimeDefault" {
        say("seccompProfile is not RuntimeDefault".into());
    }
    if own["allowPrivilegeEscalation"] != false {
        say("allowPrivilegeEscalation is not false".into());
    }
    if own["privileged"] == true {
        say("it is privileged".into());
    }
    let dropped = own["capabilities"]["drop"].as_array();
    if !dropped.is_some_and(|dropped| dropped.iter().any(|one| one == "ALL")) {
        say("it does not drop ALL capabilities".into());
    }
    let added = own["capabilities"]["add"].as_array();
    if added.is_some_and(|added| added.iter().any(|one| one != "NET_BIND_SERVICE")) {
        say("it adds capabilities".into());
    }
}
