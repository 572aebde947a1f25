//! Istio's kinds, by the types that are generated from its custom resource definitions (1.27).

use istio_api_rs::extensions::v1alpha1::wasm_plugin::WasmPlugin;
use istio_api_rs::networking::v1::{
    destination_rule::DestinationRule, gateway::Gateway, service_entry::ServiceEntry,
    sidecar::Sidecar, virtual_service::VirtualService,
};
use istio_api_rs::networking::v1alpha3::envoy_filter::EnvoyFilter;
use istio_api_rs::security::v1::{
    authorization_policy::AuthorizationPolicy, peer_authentication::PeerAuthentication,
};
use istio_api_rs::telemetry::v1::telemetry::Telemetry;
use redis_sentinel_tests::manifests::Document;

use super::round_trip::check as as_a;

/// What is wrong with the object; none for a kind that is not Istio's.
pub fn check(document: &Document) -> Option<Vec<String>> {
    let json = document.json();
    Some(match (document.api_version(), document.kind()) {
        ("extensions.istio.io/v1alpha1", "WasmPlugin") => as_a::<WasmPlugin>(json),
        ("networking.istio.io/v1", "DestinationRule") => as_a::<DestinationRule>(json),
        ("networking.istio.io/v1", "Gateway") => as_a::<Gateway>(json),
        ("networking.istio.io/v1", "ServiceEntry") => as_a::<ServiceEntry>(json),
        ("networking.istio.io/v1", "Sidecar") => as_a::<Sidecar>(json),
        ("networking.istio.io/v1", "VirtualService") => as_a::<VirtualService>(json),
        ("networking.istio.io/v1alpha3", "EnvoyFilter") => as_a::<EnvoyFilter>(json),
        ("security.istio.io/v1", "AuthorizationPolicy") => as_a::<AuthorizationPolicy>(json),
        ("security.istio.io/v1", "PeerAuthentication") => as_a::<PeerAuthentication>(json),
        ("telemetry.istio.io/v1", "Telemetry") => as_a::<Telemetry>(json),
        _ => return None,
    })
}

/// Whether its schema is Istio's.
pub fn knows(document: &Document) -> bool {
    check(document).is_some()
}
