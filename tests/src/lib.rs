#![doc = "t"]

pub mod host;

pub mod cluster;
pub mod envoy;
pub mod events;
pub mod ports;
pub mod process;
pub mod redis;
pub mod render;
pub mod resp;
pub mod scratch;
pub mod sentinel;
pub mod tools;
pub mod wait;
