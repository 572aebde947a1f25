//! What an object under `k8s/` refers to is there: a selector that matches nothing, a port that nobody listens on or a key that
//! a ConfigMap lacks is accepted by every API server, and shows when somebody needs it.

mod files;
mod names;
mod network;
mod pods;
mod security;
mod world;

use redis_sentinel_tests::manifests::{parse, render};

use crate::tree;
use world::World;

/// What is wrong with the objects of one world.
fn complaints(world: &World) -> Vec<String> {
    let mut complaints = Vec::new();
    for document in world.own() {
        let mut say = |complaint: String| complaints.push(format!("{document}: {complaint}"));
        network::check(world, document, &mut say);
        names::check(world, document, &mut say);
        if let Some(pod) = world::Pod::of(document) {
            pods::check(world, &pod, &mut say);
            security::check(&pod, &mut say);
        }
    }
    complaints
}

#[test]
fn every_reference_leads_somewhere() {
    let around = render("all").expect("k8s/all");
    let mut all = Vec::new();
    for (name, own) in tree::all().expect("kustomize") {
        let found = complaints(&World::new(own, around.clone()));
        all.extend(found.iter().map(|c| format!("{name}: {c}")));
    }
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

#[test]
fn every_file_is_used() {
    let complaints = files::complaints().expect("k8s/");
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

// ---- Each of the checks can fail, and says where ----------------------------------------------------------------------

/// A world in which all is well.
const WELL: &str = include_str!("references/well.yaml");

fn world(yaml: &str) -> World {
    World::new(parse(yaml).expect("YAML"), vec![])
}

#[test]
fn nothing_is_said_where_all_is_well() {
    let complaints = complaints(&world(WELL));
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Changes of [`WELL`], each of which must be complained about once, and what of.
const MISTAKES: [(&str, &str, &str); 40] = [
    (
        r#""name": "web-config"}}}'"#,
        r#""name": "web-cnofig"}}}'"#,
        "Deployment/web: there is no ConfigMap web-cnofig",
    ),
    (
        r#"'{"more": {"mountPath""#,
        r#"'{"mroe": {"mountPath""#,
        "Deployment/web: no userVolumeMount for the userVolume more",
    ),
    (
        "labels: { app: db } } # sidecar",
        "labels: { app: bd } }",
        "EnvoyFilter/web: it is for no pod",
    ),
    (
        "values: [db] }",
        "values: [db, bd] }",
        "NetworkPolicy/web: no pod has the label app: bd",
    ),
    (
        "selector: { app: web } # service",
        "selector: { app: wbe }",
        "Service/web: its selector matches no pod",
    ),
    (
        "targetPort: http # service",
        "targetPort: htpt",
        "Service/web: no container of Deployment/web has the port htpt",
    ),
    (
        "targetPort: 9000 # number",
        "targetPort: 9001",
        "Service/web: no container of Deployment/web has the port 9001",
    ),
    (
        "serviceName: db # stateful",
        "serviceName: bd",
        "StatefulSet/db: there is no headless Service bd",
    ),
    (
        "clusterIP: None # headless",
        "clusterIP: 10.0.0.1",
        "StatefulSet/db: there is no headless Service db",
    ),
    (
        "name: web-config } } # volume",
        "name: web-cnofig } }",
        "Deployment/web: there is no ConfigMap web-cnofig",
    ),
    (
        "- { name: config, mountPath: /config }",
        "- { name: cofnig, mountPath: /config }",
        "Deployment/web: web mounts cofnig, which is no volume",
    ),
    (
        "- { name: tmp, mountPath: /tmp }\n",
        "\n",
        "Deployment/web: nobody mounts the volume tmp",
    ),
    (
        "name: web-secret, key: password # env",
        "name: web-secret, key: passwrod",
        "Deployment/web: the Secret web-secret has no key passwrod",
    ),
    (
        "secretName: web-secret } # volume",
        "secretName: web-scret }",
        "Deployment/web: there is no Secret web-scret",
    ),
    (
        "configMapRef: { name: web-config } # env",
        "configMapRef: { name: other }",
        "Deployment/web: there is no ConfigMap other",
    ),
    (
        "[sh, /config/start.sh]",
        "[sh, /config/strat.sh]",
        "Deployment/web: web runs /config/strat.sh, which its volume config lacks",
    ),
    (
        "command: [sh, /config/probe.sh]",
        "command: [sh, /config/prboe.sh]",
        "Deployment/web: web runs /config/prboe.sh, which its volume config lacks",
    ),
    (
        "httpGet: { port: http, path: /ready }",
        "httpGet: { port: htpt, path: /ready }",
        "Deployment/web: web probes htpt, which is none of its ports",
    ),
    (
        "service: { name: web, port: { name: http } } # ingress",
        "service: { name: wbe, port: { name: http } }",
        "Ingress/web: there is no Service wbe",
    ),
    (
        "port: { name: http } } # ingress",
        "port: { number: 82 } }",
        "Ingress/web: the Service web has no port 82",
    ),
    (
        "matchLabels: { app: web } # policy",
        "matchLabels: { app: wbe }",
        "NetworkPolicy/web: its podSelector matches no pod",
    ),
    (
        "matchLabels: { app: db } # peer",
        "matchLabels: { app: bd }",
        "NetworkPolicy/web: from[0] matches no pod",
    ),
    (
        "ports: [{ port: http }] # policy",
        "ports: [{ port: htpt }]",
        "NetworkPolicy/web: no container of Deployment/web has the port htpt",
    ),
    (
        "ports: [{ port: 5432 }] # egress",
        "ports: [{ port: 5433 }]",
        "NetworkPolicy/web: no container of StatefulSet/db has the port 5433",
    ),
    (
        "matchLabels: { app: web } # budget",
        "matchLabels: { app: wbe }",
        "PodDisruptionBudget/web: its selector matches no pod",
    ),
    (
        "maxUnavailable: 1 # budget",
        "maxUnavailable: 0",
        "PodDisruptionBudget/web: no pod may ever be moved",
    ),
    (
        "name: web } # scaled",
        "name: wbe }",
        "HorizontalPodAutoscaler/web: there is no Deployment wbe",
    ),
    (
        "db-1.db.shop.svc.cluster.local",
        "db-2.db.shop.svc.cluster.local",
        "Deployment/web: db-2.db.shop.svc.cluster.local is no pod's name",
    ),
    (
        "exec nc db.shop.svc",
        "exec nc bd.shop.svc",
        "ConfigMap/web-config: bd.shop.svc is no Service's name",
    ),
    (
        "image: web:1.2.3",
        "image: web:latest",
        "Deployment/web: web: the image web:latest is not pinned",
    ),
    (
        "image: db:1",
        "image: registry:5000/db",
        "StatefulSet/db: db: the image registry:5000/db is not pinned",
    ),
    (
        "requests: { cpu: 10m, memory: 16Mi } # web",
        "requests: { cpu: 10m }",
        "Deployment/web: web: it requests no memory",
    ),
    (
        "limits: { memory: 32Mi } # web",
        "limits: {}",
        "Deployment/web: web: its memory has no limit",
    ),
    (
        "runAsNonRoot: true # web",
        "runAsNonRoot: false",
        "Deployment/web: web: runAsNonRoot is not true",
    ),
    (
        "seccompProfile: { type: RuntimeDefault } # web",
        "fsGroup: 1",
        "Deployment/web: web: seccompProfile is not RuntimeDefault",
    ),
    (
        "allowPrivilegeEscalation: false # web",
        "privileged: false",
        "Deployment/web: web: allowPrivilegeEscalation is not false",
    ),
    (
        "capabilities: { drop: [ALL] } # web",
        "capabilities: { drop: [KILL] }",
        "Deployment/web: web: it does not drop ALL capabilities",
    ),
    (
        "automountServiceAccountToken: false # web",
        "hostIPC: false",
        "Deployment/web: it gets a token of the API server that it has no use for",
    ),
    (
        "emptyDir: { sizeLimit: 1Mi }",
        "hostPath: { path: /tmp }",
        "Deployment/web: the volume tmp is of the host",
    ),
    (
        "kind: Namespace\nmetadata: { name: shop }",
        "kind: Namespace\nmetadata: { name: shpo }",
        "there is no Namespace shop",
    ),
];

#[test]
fn every_mistake_is_found() {
    for (right, wrong, said) in MISTAKES {
        assert_eq!(WELL.matches(right).count(), 1, "{right}");
        let found = complaints(&world(&WELL.replace(right, wrong)));
        assert!(
            found.iter().any(|c| c.contains(said)),
            "{wrong}: {said} is not among\n{}",
            found.join("\n")
        );
    }
}
