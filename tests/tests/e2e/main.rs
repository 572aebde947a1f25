//! The shipped configuration in a real Envoy, against real Redis and Sentinels, under real failures.

mod clients;
mod cluster;
mod config;
mod connections;
mod credentials;
mod failover;
mod fence;
mod harness;
mod hold;
mod ipv6;
mod leader;
mod marathon;
mod masters;
mod named_clusters;
mod names;
mod pooled;
mod replicas;
mod roles;
mod security;
mod sentinels;
mod sentinels_change;
mod startup;
mod tls;
