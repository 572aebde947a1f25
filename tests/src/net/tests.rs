use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::{Dns, Host, Network};
use crate::scratch::Scratch;
use crate::wait;

const SHORT: Duration = Duration::from_millis(300);

/// Echoes lines on port 7, on both families.
fn echo(host: &Host) {
    let listener = host.enter(|| TcpListener::bind("[::]:7").unwrap()).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                while lines.read_line(&mut line).is_ok_and(|n| n > 0) {
                    (&stream).write_all(line.as_bytes()).unwrap();
                    line.clear();
                }
            });
        }
    });
}

fn dial(from: &Host, to: IpAddr) -> std::io::Result<TcpStream> {
    let stream = from.enter(|| TcpStream::connect_timeout(&SocketAddr::from((to, 7)), SHORT));
    let stream = stream.unwrap()?;
    stream.set_read_timeout(Some(SHORT))?;
    Ok(stream)
}

fn answers(mut stream: &TcpStream) -> bool {
    stream.write_all(b"hello\n").is_ok() && stream.read_exact(&mut [0; 6]).is_ok()
}

#[test]
fn links_are_cut_and_heal() {
    if super::missing() {
        return;
    }
    let network = Network::new().unwrap();
    let (a, b) = (network.host("a").unwrap(), network.host("b").unwrap());
    let c = network.host("c").unwrap();
    echo(&b);
    let talking = dial(&a, b.address().into()).unwrap();
    assert!(answers(&talking));
    assert!(answers(&dial(&a, b.address6().into()).unwrap()));

    network.cut(&a, &b).unwrap();
    assert!(!answers(&talking), "an established connection must hang");
    assert!(dial(&a, b.address().into()).is_err());
    assert!(dial(&a, b.address6().into()).is_err());
    assert!(
        answers(&dial(&c, b.address().into()).unwrap()),
        "others must not notice"
    );
    network.heal_all().unwrap();
    // What was sent into the cut arrives late, as it does in life: TCP repeats it.
    wait::until_true("the old connection to go on", wait::LONG, || {
        answers(&talking)
    })
    .unwrap();

    // Towards b everything arrives, nothing comes back.
    network.cut_one_way(&b, &a).unwrap();
    assert!(dial(&a, b.address().into()).is_err());
    let before = received(&b);
    let _ = (&talking).write_all(b"are you there\n");
    wait::until_true("bytes at b", wait::LONG, || received(&b) > before).unwrap();
    network.heal(&a, &b).unwrap();
    assert!(answers(&dial(&a, b.address().into()).unwrap()));

    network.unplug(&b).unwrap();
    assert!(dial(&c, b.address().into()).is_err());
    network.plug(&b).unwrap();
    assert!(answers(&dial(&c, b.address().into()).unwrap()));

    network.lose(&a, &b, 30).unwrap();
    let start = Instant::now();
    let slow = wait::until("a connection through the loss", wait::LONG, || {
        dial(&a, b.address().into()).ok()
    });
    let slow = slow.unwrap();
    let answered = (0..50).filter(|_| answers(&slow)).count();
    assert!(answered > 0, "nothing arrived in {:?}", start.elapsed());
    assert!(start.elapsed() > SHORT, "30 % loss must be felt");

    // Gone is silent, and its address does not come back.
    let (gone, address) = (b.device().to_owned(), b.address());
    drop(b);
    let devices = network.router().run("ip", ["-o", "link"]).unwrap();
    assert!(!devices.contains(&format!("{gone}@")), "{devices}");
    assert!(
        dial(&a, address.into()).is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
    );
    assert_ne!(network.host("b").unwrap().address(), address);
}

fn received(host: &Host) -> u64 {
    let text = host
        .enter(|| std::fs::read_to_string("/proc/thread-self/net/dev"))
        .unwrap()
        .unwrap();
    let line = text.lines().find(|line| line.contains("eth0:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn names_resolve_as_they_are_told() {
    if super::missing() {
        return;
    }
    let scratch = Scratch::new().unwrap();
    let network = Network::new().unwrap();
    let dns = Dns::start(&network, [10, 96, 0, 10].into(), scratch.path()).unwrap();
    let a = network.host("a").unwrap();
    dns.serve(
        &a,
        &["redis.svc.cluster.local", "svc.cluster.local"],
        scratch.path(),
    )
    .unwrap();
    let resolve = |name: &str| {
        let found = a.enter(|| (name, 7).to_socket_addrs()).unwrap();
        found
            .map(|all| all.map(|one| one.ip()).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let one: IpAddr = [10, 244, 0, 77].into();
    let two: IpAddr = [10, 244, 0, 78].into();
    dns.set([("redis-0.nodes.redis.svc.cluster.local", one)])
        .unwrap();
    wait::until_true("the name", wait::LONG, || resolve("redis-0.nodes") == [one]).unwrap();
    assert_eq!(resolve("redis-0.nodes.redis.svc.cluster.local"), [one]);
    assert!(resolve("redis-1.nodes").is_empty());

    let name = "redis-0.nodes.redis.svc.cluster.local";
    dns.set([(name, two), (name, one)]).unwrap();
    wait::until_true("both addresses", wait::LONG, || {
        resolve("redis-0.nodes").len() == 2
    })
    .unwrap();
    dns.set([]).unwrap();
    wait::until_true("nothing", wait::LONG, || {
        resolve("redis-0.nodes").is_empty()
    })
    .unwrap();
}

/// So a killed test leaves nothing: namespaces without a name end with the process that holds them.
#[test]
fn nothing_shows_on_the_machine() {
    if super::missing() {
        return;
    }
    let traces = || {
        let devices = std::fs::read_to_string("/proc/net/dev").unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let names = std::fs::read_dir("/run/netns").map_or(0, |names| names.count());
        (devices.lines().count(), mounts, names)
    };
    let before = traces();
    let network = Network::new().unwrap();
    let host = network.host("a").unwrap();
    host.tmpfs(std::path::Path::new("/mnt")).unwrap();
    assert!(
        host.enter(|| std::fs::read_to_string("/proc/thread-self/mounts"))
            .unwrap()
            .unwrap()
            .contains(" /mnt ")
    );
    assert_eq!(traces(), before);
}
