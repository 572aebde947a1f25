//! Volumes, as Kubernetes writes them down.

use serde::Deserialize;
use serde::de::IgnoredAny as Ignored;

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume {
    pub name: String,
    pub config_map: Option<ConfigMapVolume>,
    pub secret: Option<SecretVolume>,
    pub empty_dir: Option<EmptyDir>,
    pub persistent_volume_claim: Option<Claim>,
    pub projected: Option<Projected>,
    pub downward_api: Option<DownwardApi>,
    pub image: Option<ImageVolume>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapVolume {
    pub name: String,
    #[serde(default)]
    pub optional: bool,
    pub default_mode: Option<u32>,
    pub items: Option<Vec<KeyToPath>>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretVolume {
    #[serde(alias = "name")]
    pub secret_name: String,
    #[serde(default)]
    pub optional: bool,
    pub default_mode: Option<u32>,
    pub items: Option<Vec<KeyToPath>>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct KeyToPath {
    pub key: String,
    pub path: String,
    pub mode: Option<u32>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmptyDir {
    medium: Option<Ignored>,
    size_limit: Option<Ignored>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Claim {
    pub claim_name: String,
    #[serde(default)]
    pub read_only: bool,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Projected {
    pub sources: Vec<Source>,
    pub default_mode: Option<u32>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Source {
    ConfigMap(ConfigMapVolume),
    Secret(SecretVolume),
    #[serde(rename = "downwardAPI")]
    DownwardApi(DownwardApi),
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DownwardApi {
    pub items: Vec<DownwardItem>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DownwardItem {
    pub path: String,
    pub field_ref: FieldRef,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FieldRef {
    pub field_path: String,
}

/// A volume that is an image: the module as `make oci` builds it.
#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageVolume {
    pub reference: String,
    pull_policy: Option<Ignored>,
}
