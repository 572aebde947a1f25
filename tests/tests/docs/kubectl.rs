//! The pages' kubectl commands, against what kustomize makes of the manifests: there is no cluster here, but every object,
//! container, port, label, key and script that a command names must be there.

mod cluster;

use self::cluster::{Cluster, applied, container, inside, labelled, port_of};
use crate::markdown::read;
use crate::shell::{Block, PAGES, blocks};

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
