//! Everything that can be applied from `k8s/`.

use anyhow::Result;
use redis_sentinel_tests::manifests::{Document, kustomizations, render, render_own};

/// The components below `k8s/istio` that no kustomization there uses, as their README says to use them: the options first, then
/// how the module comes to the sidecar, then how Redis is reached.
pub const COMBINATIONS: [&[&str]; 3] = [
    &["readiness", "replicas", "registry-only", "module-file"],
    &["readiness", "replicas", "module-file", "mtls"],
    &["readiness", "replicas", "module-image", "named-clusters"],
];

/// The objects of each kustomization, and of each combination, by what it is called.
pub fn all() -> Result<Vec<(String, Vec<Document>)>> {
    let mut all = Vec::new();
    for dir in kustomizations()? {
        all.push((dir.display().to_string(), render(&dir)?));
    }
    for components in COMBINATIONS {
        let lines = components.iter().map(|name| format!("- ../istio/{name}\n"));
        let text = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: my-app\n\
             resources:\n- ../istio/base\ncomponents:\n{}",
            lines.collect::<String>()
        );
        all.push((
            format!("istio/base + {}", components.join(" + ")),
            render_own(&text)?,
        ));
    }
    Ok(all)
}
