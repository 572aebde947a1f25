//! A certificate authority of one test, and what it signed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// Files in a directory: `ca`, `server` (Redis and Sentinel), `client` (Envoy and applications).
pub struct Certificates(PathBuf);

impl Certificates {
    /// Makes them.
    pub fn make(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let made = Self(dir.to_owned());
        made.sign("ca", "critical,CA:TRUE", None)?;
        made.sign("server", "CA:FALSE", Some("DNS:redis,IP:127.0.0.1,IP:::1"))?;
        made.sign("client", "CA:FALSE", Some("DNS:envoy"))?;
        Ok(made)
    }

    /// The path of `ca.crt`, `server.key` and so on.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// What makes a Redis or a Sentinel serve TLS and ask everybody for a certificate.
    pub fn redis(&self) -> String {
        let [ca, cert, key] = ["ca.crt", "server.crt", "server.key"].map(|name| self.path(name));
        format!(
            "tls-ca-cert-file {ca}\ntls-cert-file {cert}\ntls-key-file {key}\ntls-auth-clients yes\ntls-replication yes\n"
        )
    }

    /// What makes an Envoy cluster speak TLS, with a certificate of its own, to nodes whose certificate says `redis`.
    pub fn transport_socket(&self) -> Value {
        let file = |name: &str| json!({ "filename": self.path(name) });
        json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": {
                    "tls_certificates": [{
                        "certificate_chain": file("client.crt"), "private_key": file("client.key") }],
                    "validation_context": {
                        "trusted_ca": file("ca.crt"),
                        "match_typed_subject_alt_names": [
                            { "san_type": "DNS", "matcher": { "exact": "redis" } }],
                    },
                },
            },
        })
    }

    /// Makes `<name>.crt` and `<name>.key` with these names, signed by `ca`; without names it signs itself.
    pub fn sign(&self, name: &str, constraints: &str, names: Option<&str>) -> Result<()> {
        let file = |ending: &str| self.path(&format!("{name}.{ending}"));
        let mut command = Command::new("openssl");
        command
            .args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"])
            .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-subj", &format!("/CN={name}")])
            .args(["-addext", &format!("basicConstraints={constraints}")])
            .args(["-keyout", &file("key"), "-out", &file("crt")]);
        if let Some(names) = names {
            command
                .args(["-addext", &format!("subjectAltName={names}")])
                .args(["-CA", &self.path("ca.crt"), "-CAkey", &self.path("ca.key")]);
        }
        let output = command.output().context("cannot start openssl")?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}
