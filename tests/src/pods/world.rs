//! What all threads of a cluster share.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::image::Image;
use super::objects::Objects;
use super::pod::{Identity, Pod};
use super::policy::Member;
use super::spec::PodSpec;
use crate::net::{Dns, Host, Network};

/// Where kubeadm puts the cluster's DNS.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// The cluster.
pub struct World {
    network: Network,
    dns: Dns,
    dir: PathBuf,
    objects: Mutex<Objects>,
    pods: Mutex<Vec<Arc<Pod>>>,
    members: Mutex<Vec<Arc<Member>>>,
    addresses: Mutex<BTreeMap<(String, String), Ipv4Addr>>,
    /// Which address the next pod of a name is to have.
    meant: Mutex<BTreeMap<String, Ipv4Addr>>,
    /// Seed, and the longest time that a pod's images are "pulled".
    delays: Mutex<(u64, Duration)>,
    events: Mutex<File>,
    begin: Instant,
    number: AtomicUsize,
    ended: AtomicBool,
}

impl World {
    /// An empty one with its files in `dir`.
    pub fn new(dir: &Path) -> Result<Self> {
        for name in ["claims", "images", "logs", "pods"] {
            fs::create_dir_all(dir.join(name))?;
        }
        let network = Network::new()?;
        // Pods have no IPv6 addresses in a cluster of one family.
        network.nft(
            "add table ip6 none\n\
             add chain ip6 none forward { type filter hook forward priority 0; policy drop; }\n",
        )?;
        let dns = Dns::start(&network, DNS, dir)?;
        let labels = BTreeMap::from([("k8s-app".to_owned(), "kube-dns".to_owned())]);
        let server = Member {
            namespace: "kube-system".into(),
            labels,
            address: DNS,
        };
        Ok(Self {
            network,
            dns,
            dir: dir.to_owned(),
            objects: Mutex::default(),
            pods: Mutex::default(),
            members: Mutex::new(vec![Arc::new(server)]),
            addresses: Mutex::default(),
            meant: Mutex::default(),
            delays: Mutex::default(),
            events: Mutex::new(File::create(dir.join("events.log"))?),
            begin: Instant::now(),
            number: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        })
    }

    /// The network that the pods are in.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// What was applied.
    pub fn objects(&self) -> MutexGuard<'_, Objects> {
        lock(&self.objects)
    }

    /// The pods that are there, the terminating ones too.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        lock(&self.pods).clone()
    }

    /// Adds a pod.
    pub fn add(&self, pod: Arc<Pod>) {
        lock(&self.pods).push(pod);
    }

    /// Forgets the pods of which nothing is left.
    pub fn bury(&self) {
        lock(&self.pods).retain(|pod| !pod.lock().gone);
    }

    /// Hosts that are no pods, and count as such for policies.
    pub fn members(&self) -> Vec<Arc<Member>> {
        lock(&self.members).clone()
    }

    /// Adds one.
    pub fn join(&self, member: &Arc<Member>) {
        lock(&self.members).push(Arc::clone(member));
    }

    /// Removes one.
    pub fn leave(&self, member: &Arc<Member>) {
        lock(&self.members).retain(|other| !Arc::ptr_eq(other, member));
    }

    /// A number that no other pod has.
    pub fn number(&self) -> usize {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    /// From now on new pods start after a delay of at most `longest`, by chance.
    pub fn delay_starts(&self, seed: u64, longest: Duration) {
        *lock(&self.delays) = (seed, longest);
    }

    /// How long pod number `number` waits.
    pub fn delay(&self, number: usize) -> Duration {
        let (seed, longest) = *lock(&self.delays);
        let mut hasher = DefaultHasher::new();
        (seed, number).hash(&mut hasher);
        longest.mul_f64(f64::from(u32::try_from(hasher.finish() % 1000).unwrap_or(0)) / 1000.0)
    }

    /// The next pod of that name gets this address, once the pod that has it is gone.
    pub fn mean(&self, pod: &str, address: Ipv4Addr) {
        lock(&self.meant).insert(pod.to_owned(), address);
    }

    /// The network's side of a new pod; nothing yet if it must wait for its address.
    pub fn host(&self, pod: &str) -> Result<Option<Host>> {
        let Some(address) = lock(&self.meant).get(pod).copied() else {
            return self.network.host(pod).map(Some);
        };
        let taken = |pod: &Arc<Pod>| {
            let status = pod.lock();
            status.address == Some(address) && !status.gone
        };
        if self.pods().iter().any(taken) {
            return Ok(None);
        }
        lock(&self.meant).remove(pod);
        self.network.host_at(pod, address).map(Some)
    }

    /// The image of that name.
    pub fn image(&self, reference: &str) -> Result<Image> {
        Image::find(reference, &self.dir.join("images"))
    }

    /// Where a pod's files are.
    pub fn pod_dir(&self, pod: &Identity) -> PathBuf {
        self.dir
            .join("pods")
            .join(format!("{}-{}", pod.name, pod.number))
    }

    /// Where claims outlive pods.
    pub fn claims_dir(&self) -> PathBuf {
        self.dir.join("claims")
    }

    /// Where the logs are.
    pub fn logs_dir(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// All files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The address of a Service that has one of its own.
    pub fn service_address(&self, namespace: &str, name: &str) -> Ipv4Addr {
        let mut addresses = lock(&self.addresses);
        let next = u8::try_from(addresses.len() % 250).unwrap_or(0) + 1;
        let key = (namespace.to_owned(), name.to_owned());
        *addresses
            .entry(key)
            .or_insert(Ipv4Addr::new(10, 96, 1, next))
    }

    /// Tells the DNS server all names.
    pub fn set_names(&self, names: &[(String, IpAddr)]) -> Result<()> {
        self.dns.set(
            names
                .iter()
                .map(|(name, address)| (name.as_str(), *address)),
        )
    }

    /// The resolver of a pod of that namespace, as the kubelet writes it.
    pub fn resolv_conf(&self, namespace: &str, spec: Option<&PodSpec>) -> String {
        let mut search = vec![
            format!("{namespace}.svc.cluster.local"),
            "svc.cluster.local".to_owned(),
            "cluster.local".to_owned(),
        ];
        let mut options = vec![("ndots".to_owned(), Some("5".to_owned()))];
        if let Some(config) = spec.map(|spec| &spec.dns_config) {
            search.extend(config.searches.iter().cloned());
            for option in &config.options {
                options.retain(|(name, _)| *name != option.name);
                options.push((option.name.clone(), option.value.clone()));
            }
        }
        let options = options
            .into_iter()
            .map(|(name, value)| value.map_or(name.clone(), |value| format!("{name}:{value}")));
        let options: Vec<_> = options.collect();
        format!(
            "search {}\nnameserver {DNS}\noptions {}\n",
            search.join(" "),
            options.join(" ")
        )
    }

    /// Writes the files of /etc that all containers of a pod share.
    pub fn write_names(
        &self,
        spec: &PodSpec,
        pod: &Identity,
        address: Ipv4Addr,
        dir: &Path,
    ) -> Result<()> {
        let host = &pod.hostname;
        let mut hosts = "127.0.0.1\tlocalhost\n".to_owned();
        hosts += &match &spec.subdomain {
            Some(domain) => format!(
                "{address}\t{host}.{domain}.{}.svc.cluster.local\t{host}\n",
                pod.namespace
            ),
            None => format!("{address}\t{host}\n"),
        };
        for alias in &spec.host_aliases {
            hosts += &format!("{}\t{}\n", alias.ip, alias.hostnames.join("\t"));
        }
        fs::write(dir.join("hosts"), hosts)?;
        fs::write(dir.join("hostname"), format!("{host}\n"))?;
        fs::write(
            dir.join("resolv.conf"),
            self.resolv_conf(&pod.namespace, Some(spec)),
        )?;
        Ok(())
    }

    /// What the kubelet tells containers of a namespace about its Services: name, address, first port.
    pub fn service_links(&self, namespace: &str) -> Vec<(String, Ipv4Addr, u16)> {
        let objects = lock(&self.objects);
        let services = objects
            .all("Service")
            .filter(|service| service.namespace() == namespace);
        let links = services
            .filter(|service| service.text("/spec/clusterIP") != "None")
            .map(|service| {
                let port = service.at("/spec/ports/0/port").as_u64().unwrap_or(0);
                let address = self.service_address(namespace, service.name());
                (
                    service.name().to_owned(),
                    address,
                    u16::try_from(port).unwrap_or(0),
                )
            });
        links.collect()
    }

    /// Writes an event down.
    pub fn tell(&self, who: &str, what: &str) {
        let at = self.begin.elapsed().as_secs_f64();
        let _ = writeln!(lock(&self.events), "{at:8.3} {who}: {what}");
    }

    /// Ends everything, without ceremony.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Whether someone ended it.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
