//! Host names, resolved by Envoy's own resolver on behalf of the module (`/etc/resolv.conf` and `/etc/hosts` of the machine
//! or pod): `envoy_resolve_dns` and its callback `envoy_on_resolve_dns` (Envoy, `source/extensions/common/wasm/wasm.cc`).
//!
//! One table per VM. Whoever needs an address that is not there yet waits and is woken like everybody else when it is
//! ([`vm::wake_here`]).
//!
//! **A question outlives nobody.** Envoy keeps a bare pointer to the root context that asked until the answer is there, so a
//! root context that has asked must not go before: [`may_go`] keeps it until then.

use crate::{host, vm};
use sentinel_core::{
    address::Address,
    hosts::{Hosts, MAX_ANSWERS, News, Resolved},
    time::Timestamp,
};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Most questions under way.
const MAX_QUESTIONS: usize = 64;

#[derive(Default)]
struct Dns {
    hosts: Hosts,
    /// What was asked, by whom, under which token.
    questions: BTreeMap<u32, Question>,
    /// Envoy answers some questions before it says under which token they run.
    early: BTreeMap<u32, Vec<Resolved>>,
    /// Counts what changed.
    generation: u64,
    /// Root contexts that Envoy wants to delete.
    leaving: Vec<u32>,
    /// It was said that Envoy's resolver cannot be used.
    told_unusable: bool,
}

struct Question {
    host: String,
    root: u32,
}

thread_local! {
    static DNS: RefCell<Dns> = RefCell::default();
}

/// Whether Envoy's resolver can be used. In 1.39 all threads share one, which answers on the thread that asked first
/// (envoyproxy/envoy#45073, off again since #46622): two threads in one VM, and the end of the process. Seen in 1.39.3; 1.36 to
/// 1.38 and 1.40 answer whoever asked.
fn is_usable() -> bool {
    const BROKEN: i64 = 39;
    let version = ["user_agent_build_version", "version", "minor_number"];
    let minor = |root: &[&str]| host::property_bytes(&[root, &version].concat());
    let minor = minor(&["xds", "node"]).or_else(|| minor(&["node"]));
    minor.is_none_or(|minor| minor != BROKEN.to_le_bytes())
}

/// Where to dial `node` now, if that is known; asks where it is not, or not for sure. `root` is the root context of the
/// current callback.
pub fn lookup(now: Timestamp, root: u32, node: &Address) -> Option<Address> {
    if !node.is_name() {
        return Some(node.clone());
    }
    let known = DNS.with_borrow_mut(|dns| dns.hosts.lookup(now, node));
    if ask(now, root, node) && known.is_none() {
        // Envoy has the answer at once where `/etc/hosts` does.
        return DNS.with_borrow_mut(|dns| dns.hosts.lookup(now, node));
    }
    known
}

/// When to look at this node again.
pub fn next_due(node: &Address) -> Option<Timestamp> {
    DNS.with_borrow(|dns| dns.hosts.next_due(node))
}

/// Changes whenever an answer did.
pub fn generation() -> u64 {
    DNS.with_borrow(|dns| dns.generation)
}

/// Whether Envoy may delete this root context now. If not, it is told when.
pub fn may_go(root: u32) -> bool {
    DNS.with_borrow_mut(|dns| {
        let waits = dns.questions.values().any(|question| question.root == root);
        if waits && !dns.leaving.contains(&root) {
            dns.leaving.push(root);
        }
        !waits
    })
}

/// Asks if it is time to. True: the answer is there already.
fn ask(now: Timestamp, root: u32, node: &Address) -> bool {
    let due = DNS.with_borrow_mut(|dns| {
        let leaving = dns.leaving.contains(&root);
        dns.questions.len() < MAX_QUESTIONS && !leaving && dns.hosts.must_ask(now, node)
    });
    if !due {
        return false;
    }
    let host = node.host();
    if !is_usable() {
        if DNS.with_borrow_mut(|dns| core::mem::replace(&mut dns.told_unusable, true)) {
            return false;
        }
        log::error!(
            "{host} is not resolved: the resolver of Envoy 1.39 must not be used from a Wasm module; configure by_name_cluster, or take another Envoy"
        );
        return false;
    }
    // Nothing is borrowed: Envoy may answer before this returns.
    let asked = host::resolve(&host);
    let early = DNS.with_borrow_mut(|dns| {
        let answer = match asked {
            Ok(token) => dns.early.remove(&token),
            Err(_) => Some(Vec::new()),
        };
        if let (None, Ok(token)) = (&answer, asked) {
            let host = host.clone();
            dns.questions.insert(token, Question { host, root });
        }
        dns.early.clear();
        answer
    });
    let Some(answer) = early else { return false };
    settle(now, &host, &answer);
    true
}

/// Envoy has an answer.
fn answered(now: Timestamp, token: u32, answer: Vec<Resolved>) {
    let question = DNS.with_borrow_mut(|dns| {
        let question = dns.questions.remove(&token);
        if question.is_none() {
            dns.early.insert(token, answer.clone());
        }
        question
    });
    let Some(Question { host, root }) = question else {
        return;
    };
    settle(now, &host, &answer);
    // After a failure, too: who waits for the name decides when to ask again.
    vm::wake_here(now);
    let gone = DNS.with_borrow_mut(|dns| {
        let waits = dns.questions.values().any(|question| question.root == root);
        let at = dns.leaving.iter().position(|leaving| *leaving == root);
        at.filter(|_| !waits).map(|at| dns.leaving.swap_remove(at))
    });
    if let Some(root) = gone
        && host::act_as(root).is_ok()
    {
        let _ = host::done();
    }
}

/// Takes in an answer.
fn settle(now: Timestamp, host: &str, answer: &[Resolved]) {
    let news = DNS.with_borrow_mut(|dns| {
        let news = dns.hosts.answer(now, host, answer);
        dns.generation = dns.generation.wrapping_add(u64::from(news.is_some()));
        news
    });
    match news {
        Some(News::Now(ip)) => log::info!("{host} is {ip}"),
        Some(News::Unresolved) => {
            log::warn!("{host} does not resolve; it is asked for again while somebody waits for it")
        }
        None => {}
    }
}

/// The answer's bytes: how many, that many TTLs in seconds, that many `ip:port` with a NUL behind each.
fn decode(bytes: &[u8]) -> Vec<Resolved> {
    let number = |at: usize| -> Option<u32> {
        let bytes = bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let count = number(0).unwrap_or(0) as usize;
    let texts = count
        .checked_add(1)
        .and_then(|words| bytes.get(words.checked_mul(4)?..))
        .unwrap_or_default();
    let texts = texts.split(|byte| *byte == 0);
    (0..count.min(MAX_ANSWERS))
        .zip(texts)
        .filter_map(|(index, text)| {
            let text = core::str::from_utf8(text).ok()?;
            let address: core::net::SocketAddr = text.parse().ok()?;
            Some(Resolved {
                ip: address.ip(),
                ttl: number(index.checked_add(1)?.checked_mul(4)?)?,
            })
        })
        .collect()
}

/// Envoy calls this when a question of [`host::resolve`] has its answer; `size` is 0 when there is none.
#[unsafe(no_mangle)]
pub extern "C" fn envoy_on_resolve_dns(_root: u32, token: u32, size: u32) {
    let bytes = if size == 0 {
        Vec::new()
    } else {
        host::call_data().unwrap_or_default()
    };
    answered(host::now(), token, decode(&bytes));
}
