//! What Envoy would ask istiod and the agent for by gRPC, as files: filters by name (ECDS) and certificates (SDS).

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::merge::Configuration;

/// Where the files are for Envoy.
pub const DIR: &str = "/var/lib/istio";
/// Where the agent keeps the module that it downloaded.
pub const MODULE: &str = "/var/lib/istio/module.wasm";

/// Where it keeps that of the next version.
pub const NEXT_MODULE: &str = "/var/lib/istio/next-module.wasm";

/// The certificate of a workload, as PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its chain and its key.
    pub certificate: (String, String),
    /// The authority of the mesh.
    pub root: String,
}

/// What the agent puts in the place of a filter whose module it could not download: it lets nobody through.
pub fn not_downloaded(extension: &mut Value) {
    extension["typed_config"] = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
        "stat_prefix": "wasm-default-deny", "rules": {},
    });
}

/// What it makes of one whose module has a new version.
pub fn next_version(extension: &mut Value) {
    extension["typed_config"]["config"]["vm_config"]["code"] =
        json!({ "local": { "filename": NEXT_MODULE } });
}

/// Turns the sources of all that is asked for into files; returns them by name.
pub fn to_files(
    configuration: &mut Configuration,
    identity: Option<&Identity>,
) -> Result<Vec<(String, Value)>> {
    let mut files = Vec::new();
    for listener in &mut configuration.listeners {
        each_object(listener, &mut |filter| {
            let Some(name) = filter.get("name").cloned() else {
                return Ok(());
            };
            let Some(source) = filter.get_mut("config_discovery") else {
                return Ok(());
            };
            let source = &mut source["config_source"];
            ensure!(source["ads"] == json!({}), "{name}: {source}");
            let found = configuration
                .extensions
                .iter()
                .find(|extension| extension["name"] == name);
            let extension = found
                .with_context(|| format!("nobody has {name}: Envoy would wait for it for ever"))?;
            let file = format!("extension-{}.json", files.len());
            *source = path(&file);
            files.push((
                file,
                response(
                    "envoy.config.core.v3.TypedExtensionConfig",
                    downloaded(extension),
                ),
            ));
            Ok(())
        })?;
    }
    let mut secrets = false;
    let mut use_files = |object: &mut serde_json::Map<String, Value>| {
        let name = object
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if let Some(source) = object.get_mut("sds_config") {
            let cluster =
                source.pointer("/api_config_source/grpc_services/0/envoy_grpc/cluster_name");
            ensure!(
                cluster == Some(&"sds-grpc".into()),
                "{name}: the agent serves it as sds-grpc"
            );
            *source = path(&format!("{name}.json"));
            secrets = true;
        }
        Ok(())
    };
    for item in configuration
        .clusters
        .iter_mut()
        .chain(&mut configuration.listeners)
    {
        each_object(item, &mut use_files)?;
    }
    if secrets {
        files.extend(self::secrets(identity.context("it asks for certificates")?));
    }
    Ok(files)
}

/// The files of a workload's secrets, by the names under which the agent serves them.
pub fn secrets(identity: &Identity) -> [(String, Value); 2] {
    let secret = |name: &str, kind: &str, value: Value| {
        let mut secret = json!({ "name": name });
        secret[kind] = value;
        (
            format!("{name}.json"),
            response("envoy.extensions.transport_sockets.tls.v3.Secret", secret),
        )
    };
    let text = |text: &str| json!({ "inline_string": text });
    let (chain, key) = &identity.certificate;
    [
        secret(
            "default",
            "tls_certificate",
            json!({ "certificate_chain": text(chain), "private_key": text(key) }),
        ),
        secret(
            "ROOTCA",
            "validation_context",
            json!({ "trusted_ca": text(&identity.root) }),
        ),
    ]
}

/// A source of one file.
pub fn path(file: &str) -> Value {
    json!({ "path_config_source": { "path": format!("{DIR}/{file}") }, "resource_api_version": "V3" })
}

fn response(kind: &str, mut resource: Value) -> Value {
    resource["@type"] = format!("type.googleapis.com/{kind}").into();
    json!({ "version_info": "1", "resources": [resource] })
}

/// What the agent makes of a filter whose code is elsewhere: a file, and no variables that were meant for itself.
fn downloaded(extension: &Value) -> Value {
    let mut extension = extension.clone();
    let vm = &mut extension["typed_config"]["config"]["vm_config"];
    if vm.pointer("/code/remote").is_some() {
        vm["code"] = json!({ "local": { "filename": MODULE } });
        let variables = &mut vm["environment_variables"];
        if let Some(keys) = variables["key_values"].as_object_mut() {
            keys.retain(|key, _| !key.starts_with("ISTIO_META_"));
        }
    }
    extension
}

fn each_object(
    json: &mut Value,
    change: &mut impl FnMut(&mut serde_json::Map<String, Value>) -> Result<()>,
) -> Result<()> {
    match json {
        Value::Array(items) => items
            .iter_mut()
            .try_for_each(|item| each_object(item, change)),
        Value::Object(fields) => {
            change(fields)?;
            fields
                .values_mut()
                .try_for_each(|value| each_object(value, change))
        }
        _ => Ok(()),
    }
}
