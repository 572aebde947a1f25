//! A unit file, as far as a process can be started by it without systemd.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// What a unit says, by `Section.Key`; a key may stand there more than once.
pub struct Unit {
    /// `redis-node.service`
    pub name: String,
    lines: Vec<(String, String)>,
}

impl Unit {
    /// Reads one.
    pub fn read(file: &Path) -> Result<Self> {
        let name = file
            .file_name()
            .context("a name")?
            .to_string_lossy()
            .into_owned();
        let (mut section, mut lines) = (String::new(), Vec::new());
        for line in fs::read_to_string(file)?.lines().map(str::trim) {
            if let Some(title) = line.strip_prefix('[') {
                section = title.trim_end_matches(']').to_owned();
            } else if let Some((key, value)) = line.split_once('=')
                && !line.starts_with('#')
            {
                ensure!(
                    !value.ends_with('\\'),
                    "{name}: a line that goes on is not understood here"
                );
                lines.push((format!("{section}.{key}"), value.to_owned()));
            } else if !line.is_empty() && !line.starts_with('#') {
                bail!("{name}: {line}");
            }
        }
        Ok(Self { name, lines })
    }

    /// All values of a key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let values = self.lines.iter().filter(move |(one, _)| one == key);
        values.map(|(_, value)| value.as_str())
    }

    /// The value of a key that stands there once.
    pub fn one(&self, key: &str) -> Option<&str> {
        let mut lines = self.lines.iter().rev();
        lines
            .find(|(one, _)| one == key)
            .map(|(_, value)| value.as_str())
    }

    /// The words of a command line. None of ours needs quotes or variables, and one that did would not be run here as by systemd.
    pub fn command(&self, key: &str) -> Result<Option<Vec<String>>> {
        let Some(line) = self.one(key) else {
            return Ok(None);
        };
        ensure!(
            !line.contains(['"', '\'', '$', '%', '\\']) && line.starts_with('/'),
            "{}: {line} is not understood here",
            self.name
        );
        Ok(Some(line.split_whitespace().map(str::to_owned).collect()))
    }
}

/// What an EnvironmentFile= sets.
pub fn environment(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim);
    let settings = lines.filter(|line| !line.starts_with('#'));
    let pairs = settings.filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()))
        .collect()
}
