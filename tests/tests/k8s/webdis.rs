//! Redis over HTTP: `k8s/webdis`, through the proxy to the master, and through a failover.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use redis_sentinel_tests::net;
use redis_sentinel_tests::pods::{Client, Ending};
use redis_sentinel_tests::wait;

use crate::system::{LONG, System, manifests};

/// Longer than a failover, and than a client waits that is held for a master.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_login_an_acl_and_a_failover() {
    if net::missing() {
        return;
    }
    let mut system = System::new().unwrap();
    let parts = manifests(&["webdis", "proxy", "redis", "passwords"]).unwrap();
    system.apply(parts).unwrap();
    system.wait_until_ready().unwrap();
    let kube = &system.kube;
    kube.wait_for("Deployment", "redis", "webdis", LONG)
        .unwrap();
    let client = kube
        .client("browser", "shop", &[("webdis-client", "true")])
        .unwrap();
    let webdis = Webdis {
        client: &client,
        login: login(&system).unwrap(),
    };

    // The Service hears of ready pods a moment later.
    let up = || webdis.get("Authorization: none", "/PING").is_ok();
    wait::until_true("Webdis", LONG, up).unwrap();
    rights(&webdis).unwrap();
    let stranger = kube.client("stranger", "shop", &[]).unwrap();
    let refused = stranger.enter(|| dial(Duration::from_secs(2))).unwrap();
    assert!(refused.is_err(), "a pod without the label was let in");

    for ending in [Ending::Graceful, Ending::Killed] {
        through_a_failover(&system, &webdis, ending).unwrap();
    }
    assert_eq!(system.restarted(), Vec::<String>::new());
}

/// Who may do what.
fn rights(webdis: &Webdis<'_>) -> Result<()> {
    let nobody = "Authorization: none";
    let mallory = basic("app:guess");
    let app = basic(&webdis.login);
    for (header, path, status) in [
        (nobody, "/PING", 200),
        (nobody, "/GET/a", 403),
        (&mallory, "/GET/a", 403),
        (&app, "/SET/a/b", 200),
        (&app, "/GET/a", 200),
        (&app, "/FLUSHALL", 403),
        (&app, "/CONFIG/GET/requirepass", 403),
        (&app, "/MULTI", 403),
    ] {
        let answer = webdis.get(header, path)?;
        if answer.0 != status {
            bail!("{path} with {header}: {answer:?}");
        }
    }
    let answer = webdis.get(&app, "/GET/a")?;
    anyhow::ensure!(answer.1 == r#"{"GET":"b"}"#, "{answer:?}");
    Ok(())
}

/// Requests all the time while the master's pod goes: each is answered, some by 503 while Webdis reconnects, and what was
/// acknowledged is there.
fn through_a_failover(system: &System, webdis: &Webdis<'_>, ending: Ending) -> Result<()> {
    let key = format!("/INCR/{ending:?}");
    let app = basic(&webdis.login);
    let old = system.master()?;
    let mut answers = BTreeMap::new();
    let (mut acknowledged, mut longest) = (0_u64, Duration::ZERO);
    let mut request = |answers: &mut BTreeMap<u16, u32>| -> Result<u64> {
        let begin = Instant::now();
        let (status, body) = webdis.get(&app, &key)?;
        longest = longest.max(begin.elapsed());
        *answers.entry(status).or_default() += 1;
        let number = body.trim_end_matches('}').rsplit(':').next();
        Ok(if status == 200 {
            acknowledged += 1;
            number.context("no number")?.parse()?
        } else {
            0
        })
    };
    for _ in 0..20 {
        request(&mut answers)?;
    }
    let pod = system.kube.pod(&old)?;
    system.kube.end_pod(&old, ending)?;
    // A killed pod is back before anybody notices, or after a failover; either way requests are answered again.
    let end = Instant::now() + LONG;
    let mut last = 0;
    let mut good = 0;
    while good < 100 {
        let number = request(&mut answers)?;
        good = if number > 0 { good + 1 } else { 0 };
        last = last.max(number);
        if ending == Ending::Graceful && system.master().ok().as_ref() == Some(&old) {
            good = 0;
        }
        anyhow::ensure!(Instant::now() < end, "{ending:?}: {answers:?}");
    }
    println!(
        "{ending:?}: {answers:?}, the longest wait {longest:?}, {acknowledged} acknowledged, the counter is {last}"
    );
    // Answered by 503: what a connection was doing when it ended, and what came until the next one.
    anyhow::ensure!(
        answers.keys().all(|status| [200, 503].contains(status)),
        "{answers:?}"
    );
    anyhow::ensure!(longest < PATIENCE, "{longest:?}");
    if ending == Ending::Graceful {
        anyhow::ensure!(
            last >= acknowledged,
            "{acknowledged} acknowledged, {last} there"
        );
    }
    system.kube.wait_for_new(&pod, LONG)?;
    system.wait_until_known()
}

/// Webdis' Service, as a pod of another namespace uses it.
struct Webdis<'a> {
    client: &'a Client,
    login: String,
}

impl Webdis<'_> {
    /// A request on a connection of its own: the status, and the body.
    fn get(&self, header: &str, path: &str) -> Result<(u16, String)> {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: webdis\r\n{header}\r\nConnection: close\r\n\r\n");
        let answer = self.client.enter(|| -> Result<String> {
            let mut stream = dial(PATIENCE)?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })??;
        let status = answer.get(9..12).with_context(|| format!("{answer:?}"))?;
        let body = answer.split_once("\r\n\r\n").context("no body")?.1;
        Ok((status.parse()?, body.to_owned()))
    }
}

fn dial(timeout: Duration) -> Result<TcpStream> {
    let mut addresses = "webdis.redis:80".to_socket_addrs()?;
    let stream = TcpStream::connect_timeout(&addresses.next().context("no address")?, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    Ok(stream)
}

fn login(system: &System) -> Result<String> {
    let objects = system.kube.world().objects();
    let data = objects.data("Secret", "redis", "redis-passwords")?;
    let login = data.and_then(|mut data| data.remove("webdis-login"));
    Ok(String::from_utf8(login.context("no login")?)?)
}

/// The header of HTTP's basic authentication (RFC 7617).
fn basic(login: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("Authorization: Basic ");
    for three in login.as_bytes().chunks(3) {
        let bits = three
            .iter()
            .chain([&0, &0])
            .take(3)
            .fold(0_usize, |bits, &byte| bits << 8 | usize::from(byte));
        for place in 0..4 {
            let letter = char::from(LETTERS[bits >> (18 - 6 * place) & 63]);
            text.push(if place <= three.len() { letter } else { '=' });
        }
    }
    text
}

#[test]
fn the_header_of_the_rfc() {
    assert_eq!(
        basic("Aladdin:open sesame"),
        "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    );
}
