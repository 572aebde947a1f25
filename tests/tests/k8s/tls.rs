//! The proxy with TLS for its clients.

use std::fs;

use redis_sentinel_tests::certificates::Certificates;
use redis_sentinel_tests::manifests;
use redis_sentinel_tests::net;
use redis_sentinel_tests::scratch::Scratch;
use redis_sentinel_tests::wait;

use crate::system::{System, manifests as rendered};

const NAMES: &str = "DNS:redis.redis,DNS:redis.redis.svc.cluster.local";

/// The Secret that a certificate manager would make.
fn secret(certificates: &Certificates, name: &str) -> String {
    let file = |ending: &str| {
        let text = fs::read_to_string(certificates.path(&format!("{name}.{ending}"))).unwrap();
        text.replace('\n', "\n    ")
    };
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{ name: redis-proxy-tls, namespace: redis }}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n",
        file("crt"),
        file("key")
    )
}

#[test]
fn clients_speak_tls_through_a_failover() {
    if net::missing() {
        return;
    }
    let scratch = Scratch::new().unwrap();
    let certificates = Certificates::make(&scratch.path().join("tls")).unwrap();
    certificates.sign("proxy", "CA:FALSE", Some(NAMES)).unwrap();
    let mut documents = rendered(&["overlays/tls"]).unwrap();
    documents.extend(manifests::parse(&secret(&certificates, "proxy")).unwrap());
    let mut system = System::new().unwrap();
    system.apply(documents).unwrap();
    system.wait_until_ready().unwrap();

    let ca = certificates.path("ca.crt");
    // Waits as long as a failover may take; the name in the certificate is checked.
    let ask = |words: &[&str], tls: bool| {
        let mut command = system.app.host().command("redis-cli");
        command.env("REDISCLI_AUTH", &system.password);
        command.args(["-h", "redis.redis", "-p", "6378"]);
        if tls {
            command.args(["--tls", "--cacert", &ca, "--sni", "redis.redis"]);
        }
        let output = command.args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(ask(&["SET", "k", "v"], true), "OK");
    assert_ne!(
        ask(&["GET", "k"], false),
        "v",
        "without TLS nobody is answered"
    );
    let old = system.master().unwrap();
    system.fail_over().unwrap();
    system.wait_for_master_other_than(&old).unwrap();
    wait::until_true("the new master, by TLS", wait::LONG, || {
        ask(&["SET", "k", "w"], true) == "OK" && ask(&["GET", "k"], true) == "w"
    })
    .unwrap();
}
