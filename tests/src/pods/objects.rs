//! What was applied.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::base64;
use crate::manifests::Document;

/// The objects of a cluster, as the API server would hold them.
#[derive(Default)]
pub struct Objects {
    documents: Vec<Document>,
}

/// The data of a ConfigMap or a Secret.
pub type Data = BTreeMap<String, Vec<u8>>;

impl Objects {
    /// Adds an object, or replaces the one of that kind and name.
    pub fn apply(&mut self, document: Document) {
        let same = |other: &Document| {
            other.kind() == document.kind()
                && other.name() == document.name()
                && other.namespace() == document.namespace()
        };
        self.documents.retain(|other| !same(other));
        self.documents.push(document);
    }

    /// Removes an object.
    pub fn delete(&mut self, kind: &str, namespace: &str, name: &str) {
        self.documents
            .retain(|one| (one.kind(), one.namespace(), one.name()) != (kind, namespace, name));
    }

    /// All of a kind.
    pub fn all<'a>(&'a self, kind: &str) -> impl Iterator<Item = &'a Document> + use<'a> {
        let kind = kind.to_owned();
        self.documents
            .iter()
            .filter(move |one| one.kind() == kind.as_str())
    }

    /// One object.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Document> {
        self.all(kind)
            .find(|one| one.namespace() == namespace && one.name() == name)
    }

    /// Changes a value of an object.
    pub fn set(
        &mut self,
        (kind, namespace, name): (&str, &str, &str),
        pointer: &str,
        value: Value,
    ) -> Result<()> {
        let document = self.get(kind, namespace, name);
        let mut json = document
            .with_context(|| format!("no {kind} {namespace}/{name}"))?
            .json()
            .clone();
        let mut place = &mut json;
        for key in pointer.split('/').skip(1) {
            place = &mut place[key];
        }
        *place = value;
        self.apply(json.into());
        Ok(())
    }

    /// What a ConfigMap or a Secret holds.
    pub fn data(&self, kind: &str, namespace: &str, name: &str) -> Result<Option<Data>> {
        let Some(document) = self.get(kind, namespace, name) else {
            return Ok(None);
        };
        // Of the four ways to write data two are base64.
        let (plain, encoded) = match kind {
            "Secret" => ("/stringData", "/data"),
            _ => ("/data", "/binaryData"),
        };
        let mut data = Data::new();
        for (key, value) in entries(document, encoded) {
            data.insert(key.clone(), base64::decode(value)?);
        }
        for (key, value) in entries(document, plain) {
            data.insert(key.clone(), value.as_bytes().to_vec());
        }
        Ok(Some(data))
    }
}

fn entries<'a>(
    document: &'a Document,
    pointer: &str,
) -> impl Iterator<Item = (&'a String, &'a str)> {
    let map = document.at(pointer).as_object();
    map.into_iter()
        .flatten()
        .map(|(key, value)| (key, value.as_str().unwrap_or_default()))
}
