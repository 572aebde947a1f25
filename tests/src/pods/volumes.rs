//! A pod's volumes, as directories of this machine.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::env::field;
use super::objects::{Data, Objects};
use super::pod::Identity;
use super::rootfs::Mount;
use super::spec::{Container, KeyToPath, PodSpec, Source, Volume};

const DEFAULT_MODE: u32 = 0o644;

/// The volumes of one pod.
pub struct Volumes {
    ready: Vec<(String, PathBuf, bool)>,
}

impl Volumes {
    /// Makes them. `dir` ends with the pod, `claims` does not; `claim_of` says which claim a template of that name made.
    pub fn make(
        spec: &PodSpec,
        pod: &Identity,
        templates: &[String],
        objects: &Objects,
        dir: &Path,
        claims: &Path,
    ) -> Result<Self> {
        let mut ready = Vec::new();
        for volume in &spec.volumes {
            let name = &volume.name;
            let (path, read_only) = make(volume, pod, objects, dir, claims)
                .with_context(|| format!("volume {name}"))?;
            ready.push((name.clone(), path, read_only));
        }
        for name in templates {
            let path = claim(claims, &pod.namespace, &format!("{name}-{}", pod.name))?;
            ready.push((name.clone(), path, false));
        }
        if let Some(group) = spec.security_context.fs_group {
            for (_, path, read_only) in &ready {
                // A volume whose root has the group already is not walked again.
                if fs::metadata(path)?.gid() != group {
                    give_to_group(path, group, if *read_only { 0o440 } else { 0o660 })?;
                }
            }
        }
        Ok(Self { ready })
    }

    /// Where they are mounted in a container.
    pub fn mounts(&self, container: &Container) -> Result<Vec<Mount>> {
        let mounts = container.volume_mounts.iter().map(|mount| {
            let volume = self.ready.iter().find(|(name, ..)| *name == mount.name);
            let (_, path, read_only) =
                volume.with_context(|| format!("no volume {}", mount.name))?;
            let source = match &mount.sub_path {
                None => path.clone(),
                Some(sub) => {
                    fs::canonicalize(path.join(sub)).with_context(|| format!("subPath {sub}"))?
                }
            };
            Ok(Mount {
                source,
                target: mount.mount_path.clone().into(),
                read_only: mount.read_only || *read_only,
            })
        });
        mounts.collect()
    }
}

fn make(
    volume: &Volume,
    pod: &Identity,
    objects: &Objects,
    dir: &Path,
    claims: &Path,
) -> Result<(PathBuf, bool)> {
    let path = dir.join("volumes").join(&volume.name);
    if volume.empty_dir.is_some() {
        make_dir(&path, 0o777)?;
        return Ok((path, false));
    }
    if let Some(it) = &volume.persistent_volume_claim {
        return Ok((claim(claims, &pod.namespace, &it.claim_name)?, it.read_only));
    }
    let (files, mode) = if let Some(it) = &volume.config_map {
        let data = objects.data("ConfigMap", &pod.namespace, &it.name)?;
        (
            pick(&it.name, data, it.items.as_deref(), it.optional)?,
            it.default_mode,
        )
    } else if let Some(it) = &volume.secret {
        let data = objects.data("Secret", &pod.namespace, &it.secret_name)?;
        (
            pick(&it.secret_name, data, it.items.as_deref(), it.optional)?,
            it.default_mode,
        )
    } else if let Some(it) = &volume.projected {
        let mut files = Vec::new();
        for source in &it.sources {
            files.extend(project(source, pod, objects)?);
        }
        (files, it.default_mode)
    } else if let Some(it) = &volume.downward_api {
        (
            project(&Source::DownwardApi(it.clone()), pod, objects)?,
            None,
        )
    } else {
        bail!("a kind of volume that the tests do not know");
    };
    write(&path, &files, mode.unwrap_or(DEFAULT_MODE))?;
    Ok((path, true))
}

/// Relative path, content, mode.
type Entry = (String, Vec<u8>, Option<u32>);

fn project(source: &Source, pod: &Identity, objects: &Objects) -> Result<Vec<Entry>> {
    match source {
        Source::ConfigMap(it) => {
            let data = objects.data("ConfigMap", &pod.namespace, &it.name)?;
            pick(&it.name, data, it.items.as_deref(), it.optional)
        }
        Source::Secret(it) => {
            let data = objects.data("Secret", &pod.namespace, &it.secret_name)?;
            pick(&it.secret_name, data, it.items.as_deref(), it.optional)
        }
        Source::DownwardApi(it) => {
            let entries = it.items.iter().map(|item| {
                let text = field(&item.field_ref.field_path, pod, None)?;
                Ok((item.path.clone(), text.into_bytes(), None))
            });
            entries.collect()
        }
    }
}

fn pick(
    name: &str,
    data: Option<Data>,
    items: Option<&[KeyToPath]>,
    optional: bool,
) -> Result<Vec<Entry>> {
    let Some(mut data) = data else {
        if optional {
            return Ok(vec![]);
        }
        bail!("{name} not found");
    };
    let Some(items) = items else {
        return Ok(data
            .into_iter()
            .map(|(key, value)| (key, value, None))
            .collect());
    };
    let picked = items.iter().map(|item| {
        let value = data
            .remove(&item.key)
            .with_context(|| format!("{name} has no {}", item.key))?;
        Ok((item.path.clone(), value, item.mode))
    });
    picked.collect()
}

/// As the kubelet writes them: names that are links through `..data`, which it would exchange in one step.
fn write(path: &Path, files: &[Entry], mode: u32) -> Result<()> {
    make_dir(path, 0o755)?;
    make_dir(&path.join("..version"), 0o755)?;
    symlink("..version", path.join("..data"))?;
    for (name, content, own_mode) in files {
        let file = path.join("..version").join(name);
        make_dir(file.parent().unwrap_or(path), 0o755)?;
        fs::write(&file, content)?;
        fs::set_permissions(&file, Permissions::from_mode(own_mode.unwrap_or(mode)))?;
        let first = name.split('/').next().unwrap_or(name);
        let link = path.join(first);
        if link.symlink_metadata().is_err() {
            symlink(Path::new("..data").join(first), link)?;
        }
    }
    Ok(())
}

/// The directory of a claim: a new one is what a freshly made file system is.
fn claim(claims: &Path, namespace: &str, name: &str) -> Result<PathBuf> {
    let path = claims.join(namespace).join(name);
    if !path.exists() {
        make_dir(&path, 0o755)?;
        make_dir(&path.join("lost+found"), 0o700)?;
    }
    Ok(path)
}

fn make_dir(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(())
}

/// fsGroup: everything belongs to the group, which may write it, and what is new inherits that.
fn give_to_group(path: &Path, group: u32, rights: u32) -> Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    chown(path, None, Some(group))?;
    let mode = metadata.mode() & 0o7777;
    if metadata.is_dir() {
        fs::set_permissions(path, Permissions::from_mode(mode | rights | 0o2110))?;
        for entry in fs::read_dir(path)? {
            give_to_group(&entry?.path(), group, rights)?;
        }
    } else {
        fs::set_permissions(path, Permissions::from_mode(mode | rights))?;
    }
    Ok(())
}
