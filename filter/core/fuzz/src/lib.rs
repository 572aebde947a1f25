//! What is attacked, and what must hold whatever the bytes are. Each target is a function that panics when it does not.
//!
//! | target | input | what must hold |
//! |---|---|---|
//! | [`stream`] | bytes of a socket | any chunking gives the same frames; what replies name can be dialled |
//! | [`conversation`] | a Sentinel's bytes, exchange by exchange | any chunking gives the same outputs; only configured masters appear |
//! | [`event`] | a channel and a payload | an event names a master and addresses that can be dialled |
//! | [`topology`] | reports, events, roles and time | epochs, generations, fences, bounds: the rules of `topology.rs` |
//! | [`stored`] | shared data as text | what is read back is used without harm, whatever it says |
//! | [`roster`] | slots, Sentinels and time | no two slots at one Sentinel; bounds |
//! | [`role`] | a Redis node's bytes | any chunking gives the same findings |
//! | [`configuration`] | JSON text | refusals say where and never show a secret |
//! | [`plugin`] | the configuration as Envoy hands it over | JSON passes as it is, a `Struct` becomes the JSON that it stands for |
//! | [`admission`] | clients, routes and time | the books are right; nobody waits beyond the bound |

// Asserting is what a target is for.
#![allow(clippy::missing_panics_doc)]

pub mod admission;
pub mod configuration;
pub mod conversation;
pub mod event;
pub mod plugin;
pub mod role;
pub mod roster;
mod script;
pub mod stored;
pub mod stream;
pub mod topology;

/// A name, and what is done with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets by name, as `cargo fuzz list` has them.
pub const TARGETS: [Target; 10] = [
    ("stream", stream::run),
    ("conversation", conversation::run),
    ("event", event::run),
    ("topology", topology::run),
    ("stored", stored::run),
    ("roster", roster::run),
    ("role", role::run),
    ("configuration", configuration::run),
    ("plugin", plugin::run),
    ("admission", admission::run),
];
