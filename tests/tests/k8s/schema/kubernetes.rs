//! Kubernetes' own kinds, by the types that are generated from its API.

use k8s_openapi::api::{
    apps::v1 as apps, autoscaling::v2 as autoscaling, batch::v1 as batch, core::v1 as core,
    networking::v1 as networking, policy::v1 as policy, rbac::v1 as rbac,
    scheduling::v1 as scheduling, storage::v1 as storage,
};
use redis_sentinel_tests::manifests::Document;

use super::round_trip::check as as_a;

/// What is wrong with the object; none for a kind that is not Kubernetes' own.
pub fn check(document: &Document) -> Option<Vec<String>> {
    let json = document.json();
    Some(match (document.api_version(), document.kind()) {
        ("v1", "ConfigMap") => as_a::<core::ConfigMap>(json),
        ("v1", "Namespace") => as_a::<core::Namespace>(json),
        ("v1", "PersistentVolumeClaim") => as_a::<core::PersistentVolumeClaim>(json),
        ("v1", "Pod") => as_a::<core::Pod>(json),
        ("v1", "Secret") => as_a::<core::Secret>(json),
        ("v1", "Service") => as_a::<core::Service>(json),
        ("v1", "ServiceAccount") => as_a::<core::ServiceAccount>(json),
        ("apps/v1", "DaemonSet") => as_a::<apps::DaemonSet>(json),
        ("apps/v1", "Deployment") => as_a::<apps::Deployment>(json),
        ("apps/v1", "StatefulSet") => as_a::<apps::StatefulSet>(json),
        ("autoscaling/v2", "HorizontalPodAutoscaler") => {
            as_a::<autoscaling::HorizontalPodAutoscaler>(json)
        }
        ("batch/v1", "CronJob") => as_a::<batch::CronJob>(json),
        ("batch/v1", "Job") => as_a::<batch::Job>(json),
        ("networking.k8s.io/v1", "Ingress") => as_a::<networking::Ingress>(json),
        ("networking.k8s.io/v1", "IngressClass") => as_a::<networking::IngressClass>(json),
        ("networking.k8s.io/v1", "NetworkPolicy") => as_a::<networking::NetworkPolicy>(json),
        ("policy/v1", "PodDisruptionBudget") => as_a::<policy::PodDisruptionBudget>(json),
        ("rbac.authorization.k8s.io/v1", "Role") => as_a::<rbac::Role>(json),
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => as_a::<rbac::RoleBinding>(json),
        ("scheduling.k8s.io/v1", "PriorityClass") => as_a::<scheduling::PriorityClass>(json),
        ("storage.k8s.io/v1", "StorageClass") => as_a::<storage::StorageClass>(json),
        _ => return None,
    })
}
