//! The shipped configuration in a real Envoy, against real Redis and Sentinels, under real failures.

mod clients;
mod config;
mod connections;
mod failover;
mod harness;
mod hold;
mod masters;
mod replicas;
mod sentinels;
mod startup;
