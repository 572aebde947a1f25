//! The pages' kubectl commands, against what kustomize makes of the manifests: there is no cluster here, but every object,
//! container, port, label, key and script that a command names must be there.

use std::path::Path;

use redis_sentinel_tests::manifests::{Document, kustomizations, render};

use crate::markdown::read;
use crate::shell::{Block, PAGES, blocks};

/// What is installed when the pages' commands are typed.
struct Cluster(Vec<Document>);

impl Cluster {
    fn new() -> Self {
        let dirs = ["all", "monitoring", "istio/service", "istio/example"];
        let documents =
            dirs.map(|dir| render(dir).unwrap_or_else(|error| panic!("{dir}: {error:#}")));
        Self(documents.concat())
    }

    /// `deployment/redis-proxy`, `statefulset/redis`, `service/redis`, or a pod by its name.
    fn find(&self, namespace: &str, target: &str) -> Result<&Document, String> {
        let (kind, name) = target.split_once('/').unwrap_or(("pod", target));
        let kind = match kind {
            "deploy" => "deployment",
            "svc" => "service",
            other => other,
        };
        let named = |document: &&Document, kind: &str, name: &str| {
            document.kind().eq_ignore_ascii_case(kind)
                && document.name() == name
                && document.namespace() == namespace
        };
        let found = if kind == "pod" {
            // `sentinel-0` is of StatefulSet `sentinel`, if that has so many.
            let (set, ordinal) = name.rsplit_once('-').unwrap_or((name, ""));
            let ordinal = ordinal.parse::<u64>().ok();
            self.0.iter().find(|document| {
                let replicas = document.at("/spec/replicas").as_u64().unwrap_or(1);
                named(document, "statefulset", set) && ordinal.is_some_and(|it| it < replicas)
            })
        } else {
            self.0.iter().find(|document| named(document, kind, name))
        };
        found.ok_or_else(|| format!("there is no {target} in {namespace}"))
    }

    fn has(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let mut all = self.0.iter();
        all.any(|it| it.kind() == kind && it.namespace() == namespace && it.name() == name)
    }
}

/// The words of a command, quotes taken off; `$(…)` is part of a word.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut depth) = (Vec::new(), String::new(), None, 0);
    for letter in command.chars() {
        match letter {
            '(' if word.ends_with('$') => depth += 1,
            ')' if depth > 0 => depth -= 1,
            _ => {}
        }
        match (letter, quote) {
            ('\'' | '"', None) if depth == 0 => quote = Some(letter),
            (letter, Some(open)) if letter == open && depth == 0 => quote = None,
            (' ', None) if depth == 0 => words.push(std::mem::take(&mut word)),
            _ => word.push(letter),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// The kubectl commands inside `$(…)`, up to a pipe.
fn inner(command: &str) -> Vec<String> {
    let parts = command.split("$(kubectl ").skip(1);
    parts
        .filter_map(|rest| rest.split(" |").next()?.split(')').next())
        .map(|rest| format!("kubectl {rest}"))
        .collect()
}

/// What a page's earlier commands have made.
#[derive(Default)]
struct Made(Vec<String>);

/// What is wrong with a command.
fn check(cluster: &Cluster, made: &mut Made, command: &str) -> Result<(), String> {
    let command = command.split(" | ").next().unwrap_or_default();
    let words = words(command);
    let mut words: Vec<&str> = words.iter().map(String::as_str).skip(1).collect();
    let mut namespace = "default";
    if let ["-n", name, ..] = words.as_slice() {
        namespace = name;
        words.drain(..2);
    }
    let behind = words.iter().position(|word| *word == "--");
    let program = behind.map(|at| words.split_off(at)).unwrap_or_default();
    let option = |name: &str| {
        words
            .windows(2)
            .find(|pair| pair[0] == name)
            .map(|pair| pair[1])
    };
    let plain = |word: &&&str| !word.starts_with('-');
    match words.as_slice() {
        ["apply", ..] => applied(&words, option("-k"), option("-f")),
        ["rollout", "status" | "restart", targets @ ..] => targets
            .iter()
            .try_for_each(|target| cluster.find(namespace, target).map(drop)),
        ["scale", kind, name, count] => {
            let found = cluster.find(namespace, &format!("{kind}/{name}"))?;
            let known = found.pod_pointer().is_some() && count.starts_with("--replicas=");
            known.then_some(()).ok_or_else(|| format!("{count}?"))
        }
        ["logs", target, ..] | ["exec", target, ..] if made.0.contains(&(*target).to_owned()) => {
            Ok(())
        }
        ["logs" | "exec", target, ..] => {
            // `${P#pod/}`: what the line before has found by its label.
            let target = if target.starts_with('$') {
                "deploy/counter"
            } else {
                target
            };
            let pod = cluster.find(namespace, target)?;
            container(pod, option("-c"))?;
            inside(cluster, pod, &program)
        }
        ["port-forward", target, ports @ ..] => {
            let found = cluster.find(namespace, target)?;
            ports
                .iter()
                .try_for_each(|port| port_of(cluster, found, port))
        }
        ["get", "secret", name, ..] => {
            let secret = cluster.find(namespace, &format!("secret/{name}"))?;
            let path = option("-o").unwrap_or_default();
            let key = path
                .trim_start_matches("jsonpath={.data.")
                .trim_end_matches('}');
            let known = !secret.at(&format!("/data/{key}")).is_null();
            known
                .then_some(())
                .ok_or_else(|| format!("{name} has no {key}"))
        }
        ["get", "pod", ..] => labelled(cluster, namespace, option("-l").unwrap_or_default()),
        ["delete", "pvc", claims @ ..] => claims.iter().try_for_each(|claim| {
            let (volume, rest) = claim.split_once('-').ok_or("no claim")?;
            let (set, _) = rest.rsplit_once('-').ok_or("no claim")?;
            let set = cluster.find(namespace, &format!("statefulset/{set}"))?;
            let mut claims = set.list("/spec/volumeClaimTemplates").iter();
            let known = claims.any(|it| it["metadata"]["name"] == volume);
            known
                .then_some(())
                .ok_or_else(|| format!("{claim}: no such volume"))
        }),
        ["delete", "pod", name] | ["wait", _, name]
            if made.0.contains(&name.trim_start_matches("pod/").to_owned()) =>
        {
            Ok(())
        }
        ["run", name, ..] => {
            made.0.push((*name).to_owned());
            let allowed = words.contains(&"--labels=redis-client=true");
            allowed
                .then_some(())
                .ok_or_else(|| "no NetworkPolicy lets it in".to_owned())
        }
        ["create", "namespace", name] => {
            let known = cluster.has("Namespace", "default", name);
            known
                .then_some(())
                .ok_or_else(|| format!("nobody uses {name}"))
        }
        ["create", "secret", "generic", "redis-passwords", keys @ ..] => {
            let example = read("k8s/passwords/passwords.env.example");
            let mut keys = keys.iter().filter(plain).chain(keys.iter());
            keys.try_for_each(|key| match key.split_once("--from-literal=") {
                Some((_, pair)) => {
                    let (key, _) = pair.split_once('=').ok_or("no value")?;
                    let known = example.contains(&format!("{key}="));
                    known
                        .then_some(())
                        .ok_or_else(|| format!("nobody reads {key}"))
                }
                None if key.starts_with("--from-env-file=") => Ok(()),
                None => Err(format!("{key}?")),
            })
        }
        other => Err(format!("nothing here knows what to look at: {other:?}")),
    }
}

/// A folder that there is; server-side where the module is in it.
fn applied(words: &[&str], dir: Option<&str>, file: Option<&str>) -> Result<(), String> {
    let dir = match (dir, file) {
        (Some(dir), None) => dir.strip_prefix("k8s/").ok_or("not below k8s/")?,
        // Of a release, where each folder is one file.
        (None, Some("k8s/all.yaml")) => "all",
        _ => return Err("-k or -f?".to_owned()),
    };
    let all = kustomizations().map_err(|error| error.to_string())?;
    if !all.iter().any(|known| known == Path::new(dir)) {
        return Err(format!("k8s/{dir} is no kustomization"));
    }
    let documents = render(dir).map_err(|error| format!("{error:#}"))?;
    let large = documents.iter().any(|it| !it.at("/binaryData").is_null());
    if large && !words.contains(&"--server-side") {
        return Err("the module is too large for a client-side apply".to_owned());
    }
    Ok(())
}

fn container(pod: &Document, name: Option<&str>) -> Result<(), String> {
    let pointer = format!("{}/spec/containers", pod.pod_pointer().ok_or("no pods")?);
    let mut all = pod.list(&pointer).iter();
    let known = name.is_none_or(|name| all.any(|it| it["name"] == name));
    known
        .then_some(())
        .ok_or_else(|| format!("{pod} has no container {name:?}"))
}

/// What runs inside: a script that is mounted there, and variables that are set.
fn inside(cluster: &Cluster, pod: &Document, program: &[&str]) -> Result<(), String> {
    let text = pod.json().to_string();
    for word in program {
        if let Some(script) = word.strip_prefix("/scripts/") {
            let mut all = cluster.0.iter().filter(|it| it.kind() == "ConfigMap");
            let known = all.any(|map| {
                text.contains(map.name()) && !map.at(&format!("/data/{script}")).is_null()
            });
            known
                .then_some(())
                .ok_or_else(|| format!("{pod} mounts no {word}"))?;
        }
        for variable in word.split('$').skip(1) {
            let end = variable.find(|c: char| !c.is_ascii_uppercase() && c != '_');
            let name = &variable[..end.unwrap_or(variable.len())];
            let set = text.contains(&format!("\"name\":\"{name}\""));
            set.then_some(())
                .ok_or_else(|| format!("{pod} has no variable {name}"))?;
        }
    }
    Ok(())
}

fn port_of(cluster: &Cluster, target: &Document, port: &str) -> Result<(), String> {
    let number: u64 = port.parse().map_err(|_| format!("{port} is no port"))?;
    let known = if target.kind() == "Service" {
        target
            .list("/spec/ports")
            .iter()
            .any(|it| it["port"] == number)
    } else {
        // Any that something in its pods listens on: what their configuration says.
        let text = target.json().to_string();
        let mut maps = cluster.0.iter().filter(|map| text.contains(map.name()));
        maps.any(|map| {
            map.at("/data")
                .to_string()
                .contains(&format!("port_value: {port}"))
        })
    };
    known
        .then_some(())
        .ok_or_else(|| format!("{target} has no port {port}"))
}

fn labelled(cluster: &Cluster, namespace: &str, label: &str) -> Result<(), String> {
    let (key, value) = label.split_once('=').ok_or("no label")?;
    let mut all = cluster.0.iter().filter(|it| it.namespace() == namespace);
    let known = all.any(|it| {
        let labels = it
            .pod_pointer()
            .map(|pointer| it.at(&format!("{pointer}/metadata/labels")));
        labels.is_some_and(|labels| labels[key] == value)
    });
    known
        .then_some(())
        .ok_or_else(|| format!("no pod of {namespace} has {label}"))
}

#[test]
fn every_kubectl_command_means_something() {
    let cluster = Cluster::new();
    let (mut problems, mut checked) = (Vec::new(), 0);
    for page in PAGES {
        let mut made = Made::default();
        for command in blocks(page)
            .iter()
            .flat_map(|Block { commands, .. }| commands)
        {
            let mut all = inner(command);
            if command.starts_with("kubectl ") {
                all.push(command.clone());
            }
            for command in all {
                checked += 1;
                if let Err(problem) = check(&cluster, &mut made, &command) {
                    problems.push(format!("{page}: {command}\n    {problem}"));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(checked > 25, "only {checked} commands were looked at");
}

#[test]
fn a_command_that_means_nothing_is_found() {
    let cluster = Cluster::new();
    for (command, found) in [
        (
            "kubectl -n redis logs deployment/redis-proxi",
            "there is no",
        ),
        ("kubectl logs deployment/redis-proxy", "there is no"),
        (
            "kubectl -n redis exec sentinel-9 -- sh -c 'x'",
            "there is no",
        ),
        (
            "kubectl -n redis exec sentinel-0 -- sh -c 'A=$NO_SUCH_WORD x'",
            "no variable",
        ),
        (
            "kubectl -n redis exec redis-cluster-0 -- sh /scripts/no.sh 1",
            "mounts no",
        ),
        (
            "kubectl -n redis logs deployment/redis-proxy -c no",
            "no container",
        ),
        ("kubectl -n redis port-forward service/redis 1", "no port"),
        (
            "kubectl -n redis port-forward deployment/redis-proxy 1",
            "no port",
        ),
        ("kubectl apply -k k8s/all", "too large"),
        ("kubectl apply -k k8s/no", "no kustomization"),
        (
            "kubectl -n redis get secret redis-passwords -o jsonpath='{.data.no}'",
            "has no no",
        ),
        ("kubectl -n my-app get pod -l app=no -o name", "no pod"),
        ("kubectl -n redis delete pvc no-redis-0", "no such volume"),
        ("kubectl -n redis annotate x y", "nothing here knows"),
    ] {
        let problem = check(&cluster, &mut Made::default(), command).expect_err(command);
        assert!(problem.contains(found), "{command}: {problem}");
    }
}
