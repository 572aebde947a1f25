//! A container's environment.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};

use super::objects::Objects;
use super::pod::Identity;
use super::spec::{Container, PodSpec, ValueFrom};

/// What every image sets.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Name and value of every variable. `services` are the names and addresses that the kubelet would add.
pub fn resolve(
    container: &Container,
    spec: &PodSpec,
    pod: &Identity,
    address: Ipv4Addr,
    objects: &Objects,
    services: &[(String, Ipv4Addr, u16)],
) -> Result<Vec<(String, String)>> {
    let mut env = Vec::new();
    set(&mut env, "PATH", PATH.into());
    set(&mut env, "HOSTNAME", pod.hostname.clone());
    set(&mut env, "HOME", "/".into());
    if spec.enable_service_links != Some(false) {
        for (name, address, port) in services {
            let name = name.to_uppercase().replace('-', "_");
            set(
                &mut env,
                &format!("{name}_SERVICE_HOST"),
                address.to_string(),
            );
            set(&mut env, &format!("{name}_SERVICE_PORT"), port.to_string());
            set(
                &mut env,
                &format!("{name}_PORT"),
                format!("tcp://{address}:{port}"),
            );
        }
    }
    for from in &container.env_from {
        let (kind, reference) = match (&from.config_map_ref, &from.secret_ref) {
            (Some(reference), None) => ("ConfigMap", reference),
            (None, Some(reference)) => ("Secret", reference),
            _ => bail!("envFrom with neither or both of configMapRef and secretRef"),
        };
        match objects.data(kind, &pod.namespace, &reference.name)? {
            Some(data) => {
                for (key, value) in data {
                    set(
                        &mut env,
                        &format!("{}{key}", from.prefix),
                        String::from_utf8(value)?,
                    );
                }
            }
            None if reference.optional => {}
            None => bail!("{kind} {} not found", reference.name),
        }
    }
    for variable in &container.env {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), None) => expand(value, &env),
            (None, None) => String::new(),
            (None, Some(from)) => match look_up(from, pod, address, objects)? {
                Some(value) => value,
                None => continue,
            },
            (Some(_), Some(_)) => bail!("{}: value and valueFrom", variable.name),
        };
        set(&mut env, &variable.name, value);
    }
    Ok(env)
}

fn look_up(
    from: &ValueFrom,
    pod: &Identity,
    address: Ipv4Addr,
    objects: &Objects,
) -> Result<Option<String>> {
    let (kind, reference) = match from {
        ValueFrom::SecretKeyRef(reference) => ("Secret", reference),
        ValueFrom::ConfigMapKeyRef(reference) => ("ConfigMap", reference),
        ValueFrom::FieldRef { field_path } => {
            return field(field_path, pod, Some(address)).map(Some);
        }
    };
    let data = objects.data(kind, &pod.namespace, &reference.name)?;
    match data.and_then(|mut data| data.remove(&reference.key)) {
        Some(value) => Ok(Some(String::from_utf8(value)?)),
        None if reference.optional => Ok(None),
        None => bail!("{kind} {} has no {}", reference.name, reference.key),
    }
}

/// A field of the pod, as the downward API names it.
pub fn field(path: &str, pod: &Identity, address: Option<Ipv4Addr>) -> Result<String> {
    Ok(match path {
        "metadata.name" => pod.name.clone(),
        "metadata.namespace" => pod.namespace.clone(),
        "metadata.uid" => pod.uid(),
        "metadata.labels" => lines(&pod.labels),
        "metadata.annotations" => lines(&pod.annotations),
        "status.podIP" | "status.podIPs" => address.context("no address yet")?.to_string(),
        "status.hostIP" => "169.254.1.1".into(),
        "spec.nodeName" => "node".into(),
        "spec.serviceAccountName" => "default".into(),
        _ => match path
            .split_once("['")
            .and_then(|(map, key)| Some((map, key.strip_suffix("']")?)))
        {
            Some(("metadata.labels", key)) => pod.labels.get(key).cloned().unwrap_or_default(),
            Some(("metadata.annotations", key)) => {
                pod.annotations.get(key).cloned().unwrap_or_default()
            }
            _ => bail!("fieldPath {path} is not one that the tests know"),
        },
    })
}

fn lines(map: &std::collections::BTreeMap<String, String>) -> String {
    let lines: Vec<_> = map
        .iter()
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    lines.join("\n")
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: String) {
    env.retain(|(other, _)| other != name);
    env.push((name.to_owned(), value));
}

/// `$(NAME)` becomes the variable's value; a name that is unknown stays as it is; `$$` is a dollar.
pub fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result += &rest[..at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
            continue;
        }
        let name = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'));
        let value =
            name.and_then(|(name, after)| Some((env.iter().find(|(key, _)| key == name)?, after)));
        match value {
            Some(((_, value), after)) => {
                result += value;
                rest = after;
            }
            None => result.push('$'),
        }
    }
    result + rest
}

#[cfg(test)]
mod tests {
    #[test]
    fn variables_in_values() {
        let env = [("A".to_owned(), "1".to_owned())];
        for (text, expanded) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$A ${A} $", "$A ${A} $"),
            ("$(A", "$(A"),
        ] {
            assert_eq!(super::expand(text, &env), expanded);
        }
    }
}
