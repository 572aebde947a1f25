//! What of a pod is run, as Kubernetes writes it down.
//!
//! A field that is not named here is an error: nothing is left out without saying so. What only a scheduler or a real kubelet
//! could honour is named with the type [`Ignored`].
#![expect(dead_code, reason = "what is ignored is named all the same")]

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny as Ignored;

use super::probe::Probe;

mod volume;

pub use volume::*;

/// The template of a pod.
#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodTemplate {
    #[serde(default)]
    pub metadata: Metadata,
    pub spec: PodSpec,
}

#[derive(Deserialize, Clone, Default)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSpec {
    #[serde(default)]
    pub init_containers: Vec<Container>,
    pub containers: Vec<Container>,
    #[serde(default)]
    pub volumes: Vec<Volume>,
    #[serde(default)]
    pub security_context: PodSecurity,
    pub termination_grace_period_seconds: Option<u64>,
    #[serde(default)]
    pub restart_policy: RestartPolicy,
    pub hostname: Option<String>,
    pub subdomain: Option<String>,
    #[serde(default)]
    pub dns_config: DnsConfig,
    #[serde(default)]
    pub host_aliases: Vec<HostAlias>,
    pub enable_service_links: Option<bool>,
    // Schedulers, service accounts.
    affinity: Option<Ignored>,
    topology_spread_constraints: Option<Ignored>,
    node_selector: Option<Ignored>,
    tolerations: Option<Ignored>,
    priority_class_name: Option<Ignored>,
    service_account_name: Option<Ignored>,
    automount_service_account_token: Option<Ignored>,
    image_pull_secrets: Option<Ignored>,
    dns_policy: Option<Ignored>,
}

#[derive(Deserialize, Clone, Copy, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

#[derive(Deserialize, Clone, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsConfig {
    #[serde(default)]
    pub searches: Vec<String>,
    #[serde(default)]
    pub options: Vec<DnsOption>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct DnsOption {
    pub name: String,
    pub value: Option<String>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct HostAlias {
    pub ip: String,
    pub hostnames: Vec<String>,
}

#[derive(Deserialize, Clone, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSecurity {
    pub run_as_user: Option<u32>,
    pub run_as_group: Option<u32>,
    #[serde(default)]
    pub run_as_non_root: bool,
    pub fs_group: Option<u32>,
    #[serde(default)]
    pub supplemental_groups: Vec<u32>,
    fs_group_change_policy: Option<Ignored>,
    seccomp_profile: Option<Ignored>,
    sysctls: Option<Ignored>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Container {
    pub name: String,
    pub image: String,
    pub command: Option<Vec<String>>,
    pub args: Option<Vec<String>>,
    pub working_dir: Option<String>,
    #[serde(default)]
    pub env: Vec<EnvVar>,
    #[serde(default)]
    pub env_from: Vec<EnvFrom>,
    #[serde(default)]
    pub ports: Vec<ContainerPort>,
    #[serde(default)]
    pub volume_mounts: Vec<VolumeMount>,
    #[serde(default)]
    pub security_context: Security,
    pub startup_probe: Option<Probe>,
    pub readiness_probe: Option<Probe>,
    pub liveness_probe: Option<Probe>,
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// `Always` makes an init container a sidecar.
    pub restart_policy: Option<RestartPolicy>,
    image_pull_policy: Option<Ignored>,
    resources: Option<Ignored>,
    termination_message_policy: Option<Ignored>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerPort {
    pub name: Option<String>,
    pub container_port: u16,
    protocol: Option<Ignored>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvVar {
    pub name: String,
    pub value: Option<String>,
    pub value_from: Option<ValueFrom>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::enum_variant_names, reason = "Kubernetes' names")]
pub enum ValueFrom {
    SecretKeyRef(KeyRef),
    ConfigMapKeyRef(KeyRef),
    #[serde(rename_all = "camelCase")]
    FieldRef {
        field_path: String,
    },
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct KeyRef {
    pub name: String,
    pub key: String,
    #[serde(default)]
    pub optional: bool,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvFrom {
    #[serde(default)]
    pub prefix: String,
    pub config_map_ref: Option<NameRef>,
    pub secret_ref: Option<NameRef>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct NameRef {
    pub name: String,
    #[serde(default)]
    pub optional: bool,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeMount {
    pub name: String,
    pub mount_path: String,
    #[serde(default)]
    pub read_only: bool,
    pub sub_path: Option<String>,
}

#[derive(Deserialize, Clone, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Security {
    pub run_as_user: Option<u32>,
    pub run_as_group: Option<u32>,
    pub run_as_non_root: Option<bool>,
    #[serde(default)]
    pub read_only_root_filesystem: bool,
    pub allow_privilege_escalation: Option<bool>,
    #[serde(default)]
    pub capabilities: Capabilities,
    seccomp_profile: Option<Ignored>,
}

#[derive(Deserialize, Clone, Default)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    #[serde(default)]
    pub drop: Vec<String>,
    #[serde(default)]
    pub add: Vec<String>,
}

#[derive(Deserialize, Clone, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lifecycle {
    pub post_start: Option<Action>,
    pub pre_stop: Option<Action>,
}

/// What a probe or a hook does.
#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Action {
    Exec { command: Vec<String> },
    HttpGet(HttpGet),
    TcpSocket { port: Port },
    Sleep { seconds: u64 },
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpGet {
    #[serde(default)]
    pub path: String,
    pub port: Port,
    #[serde(default)]
    pub http_headers: Vec<Header>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct Header {
    pub name: String,
    pub value: String,
}

/// A number, or the name of a container's port.
#[derive(Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(untagged)]
pub enum Port {
    Number(u16),
    Name(String),
}

impl Port {
    /// The number that it is in a pod with these containers.
    pub fn number<'a>(&self, containers: impl IntoIterator<Item = &'a Container>) -> Option<u16> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Name(name) => containers
                .into_iter()
                .flat_map(|container| &container.ports)
                .find(|port| port.name.as_ref() == Some(name))
                .map(|port| port.container_port),
        }
    }
}
