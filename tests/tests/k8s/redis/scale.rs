//! More Redis and more Sentinels, and with that a new pod for every old one.

use std::time::{Duration, Instant};

use redis_sentinel_tests::net;

use super::nothing_is_lost;
use crate::system::{System, manifests};

/// Four Redis and five Sentinels, by the steps of k8s/README.md.
#[test]
fn scaled_up_under_load() {
    if net::missing() {
        return;
    }
    let mut system = System::start().unwrap();
    let load = system.load("scale", 5);
    system.wait_for_writes(&load, 300).unwrap();
    let documents = manifests(&["passwords", "redis", "proxy"]).unwrap();
    let changed = documents.into_iter().map(|document| {
        let mut json = document.json().clone();
        match (document.kind(), document.name()) {
            ("StatefulSet", "redis") => json["spec"]["replicas"] = 4.into(),
            ("StatefulSet", "sentinel") => json["spec"]["replicas"] = 5.into(),
            ("ConfigMap", name) if name.starts_with("redis-settings") => {
                json["data"]["REDIS_NODES"] = "4".into();
                json["data"]["SENTINELS"] = "5".into();
                json["data"]["QUORUM"] = "3".into();
            }
            _ => {}
        }
        // What kustomize does to the name of a ConfigMap that has changed, and to all who name it.
        let text = json.to_string();
        let at = text
            .find("redis-settings-")
            .map(|at| at + "redis-settings-".len());
        let text = match at {
            Some(at) => {
                let hash = text[at..at + 10].to_owned();
                text.replace(&format!("redis-settings-{hash}"), "redis-settings-changed")
            }
            None => text,
        };
        serde_json::from_str::<serde_json::Value>(&text)
            .unwrap()
            .into()
    });
    let begin = Instant::now();
    system.apply(changed.collect()).unwrap();
    for name in ["redis", "sentinel"] {
        system
            .kube
            .wait_for("StatefulSet", "redis", name, Duration::from_secs(240))
            .unwrap();
        println!("{name} after {:?}", begin.elapsed());
    }
    system.wait_until_known().unwrap();
    for number in 0..5 {
        let view = system.sentinel_view(&format!("sentinel-{number}")).unwrap();
        assert_eq!((view.replicas, view.others), (3, 4), "sentinel-{number}");
        let quorum = system
            .sentinel(&format!("sentinel-{number}"), "SENTINEL CKQUORUM mymaster")
            .unwrap();
        assert!(quorum.starts_with("OK 5"), "{quorum}");
    }
    system.wait_until_watched().unwrap();
    let seen = load.seen();
    assert_eq!(seen.errors, [], "a rolling restart shows no error");
    assert_eq!(seen.refused, []);
    // Every pod was replaced, the master's after a planned failover: nothing may be gone.
    nothing_is_lost(&system, load, &[]);
    assert_eq!(system.restarted(), Vec::<String>::new());
}
